// Keys of the ledger: made, rotated, granted, disabled and revoked.

import { get, patch, path, post } from "./api.js";
import { ask, Fault, showSecret } from "./dialogs.js";
import { button, el, say } from "./dom.js";
import { beginOf, dayOf, endGrants, grant, limitsOf, momentOf, reset } from "./limits.js";
import { list, table } from "./lists.js";
import { every, trouble } from "./renewal.js";
import { ago, moment } from "./words.js";

const NEWEST = 3;
const LIMITS = [
  { name: "requests_per_minute", label: "Requests a minute" },
  { name: "pages_per_day", label: "Pages a day" },
  { name: "pages_per_month", label: "Pages a month" },
  { name: "pages_per_request", label: "Pages a request", more: true },
  { name: "pages_in_flight", label: "Pages in flight", more: true },
  { name: "concurrent_requests", label: "Submits at once", more: true },
  { name: "concurrent_downloads", label: "Results read at once", more: true },
  { name: "polls_per_minute", label: "Polls a minute", more: true },
  { name: "requests_per_day", label: "Requests a day", more: true },
  { name: "requests_per_month", label: "Requests a month", more: true },
  { name: "spend_per_month", label: "Spend a month", more: true },
  { name: "soft_limit", label: "Soft limit", unit: "0.8 is 80 percent", more: true },
  { name: "body_limit", label: "Body limit", unit: "such as 20MB", type: "text", more: true },
  { name: "page_range", label: "page_range", options: [["", "the profile's"], "optional", "required"], more: true },
];

export const title = "Keys";

export async function show(place, signal) {
  const reloadConfigured = configured(signal);
  const reload = list(place, {
    of: "keys",
    caption: "Keys of the ledger",
    path: "keys",
    query: { standing: "true" },
    rows: (answer) => answer.keys,
    id: (key) => key.id,
    filters: [{ name: "near", label: "Near a limit only", type: "checkbox" }],
    signal,
    tools: [button("Create a key", () => create(reload), { class: "main push" })],
    columns: [
      {
        name: "Key",
        cell: (key) => [key.id, " ", el("span", { class: key.state === "live" ? "good" : "bad" }, key.state)],
      },
      { name: "Owner", cell: (key) => key.owner },
      { name: "Profile", cell: (key) => key.profile },
      { name: "Scopes", cell: (key) => key.scopes.join(", ") || "–" },
      { name: "Limits", cell: (key) => limitsOf(key, key.id) },
      { name: "Secrets", cell: generations },
      { name: "Acts", cell: (key) => acts(key, reload) },
    ],
  });
  place.append(reloadConfigured.place);
  await reloadConfigured();
}

/** Keys of the configuration: they are changed there, and may have grants and resets. */
function configured(signal) {
  const place = el("section", { "aria-labelledby": "configured" });
  const columns = [
    {
      name: "Key",
      cell: (key) => [key.id, " ", el("span", { class: key.state === "live" ? "good" : "bad" }, key.state)],
    },
    { name: "Owner", cell: (key) => key.owner },
    { name: "Profile", cell: (key) => key.profile },
    { name: "Scopes", cell: (key) => key.scopes.join(", ") || "–" },
    { name: "Limits", cell: (key) => limitsOf(key, key.id) },
    { name: "Seen here", cell: (key) => ago(key.last_seen_at) },
    {
      name: "Acts",
      cell: (key) =>
        el(
          "div",
          { class: "acts" },
          act("Grant", key, () => grant("keys", key.id, key), load),
          key.granted ? act("End grants", key, () => endGrants("keys", key.id), load) : null,
          act("Reset", key, () => reset("keys", key.id), load),
        ),
    },
  ];
  const shown = table("Keys of the configuration, which are changed there", columns, (key) => key.id);
  const wrong = trouble(() => load());
  async function load() {
    try {
      const { keys } = await get("configured-keys", {}, signal);
      wrong.clear();
      shown.fill(keys);
      place.hidden = !keys.length;
    } catch (error) {
      if (error.name !== "AbortError") wrong.tell(error);
    }
  }
  place.append(el("h2", { id: "configured" }, "Keys of the configuration"), wrong.node, shown.node);
  load.place = place;
  every(signal, load);
  return load;
}

const act = (label, key, run, reload, more = {}) =>
  button(label, async () => (await run()) !== null && reload(), {
    "aria-label": `${label} ${key.id}`,
    ...more,
  });

/** The newest, and whatever else is live: behind some rotations that may be the one that is in use. */
function generations(key) {
  const shown = key.generations.toReversed().filter((found, place) => place < NEWEST || found.state === "live");
  const one = (found) => el("li", { class: found.state === "live" ? "" : "faint" }, secretOf(found));
  return el("ul", {}, shown.map(one));
}

/** `secret 1, live until ..., last used 15 min ago`. */
function secretOf(found) {
  const end = found.state === "live" && found.live_until ? ` until ${moment(found.live_until)}` : "";
  const used = found.last_used_at === null ? "never used" : `last used ${ago(found.last_used_at)}`;
  return `secret ${found.generation}, ${found.state}${end}, ${used}`;
}

function acts(key, reload) {
  const isDisabled = key.disabled_at !== null;
  return el(
    "div",
    { class: "acts" },
    act("Change", key, () => change(key), reload),
    act("Rotate", key, () => rotate(key), reload),
    act("Grant", key, () => grant("keys", key.id, key), reload),
    key.granted ? act("End grants", key, () => endGrants("keys", key.id), reload) : null,
    act("Reset", key, () => reset("keys", key.id), reload),
    act(isDisabled ? "Enable" : "Disable", key, () => disable(key, !isDisabled), reload),
    act("Revoke", key, () => revoke(key), reload, { class: "danger" }),
  );
}

async function create(reload) {
  const { configuration } = await get("overview");
  const none = { owner: "", scopes: [], networks: [], limits: {}, expires_at: null };
  const made = await ask({
    title: "Create a key",
    fields: [
      { name: "id", label: "Id", hint: "a-z, 0-9, -; it never changes", required: true },
      { name: "profile", label: "Profile", options: configuration.profiles, value: "default" },
      ...fieldsOf(none),
    ],
    submit: "Create",
    act: (values) => post("keys", { id: values.id, profile: values.profile, ...changesOf(none, values) }),
  });
  if (made === null) return;
  reload();
  await showSecret(`The secret of ${made.id}`, made.secret, "Send it as X-API-Key.");
}

/** A field for each thing of a key that can be changed, with what it has; its profile's is before them. */
function fieldsOf(key) {
  const limits = LIMITS.map((limit) => limitField(limit, key.limits[limit.name]));
  return [
    { name: "owner", label: "Owner", value: key.owner, hint: "empty: the key itself" },
    { name: "scopes", label: "Scopes", value: key.scopes.join(", "), hint: "with commas; admin: admin routes, too" },
    { name: "networks", label: "Networks", value: key.networks.join(", "), hint: "with commas; empty: all" },
    ...limits.filter((field) => !field.more),
    endField(key.expires_at),
    ...limits.filter((field) => field.more),
  ];
}

function limitField({ unit = "", type = "number", ...limit }, value) {
  const empty = value === null ? "none now" : "empty: the profile's";
  const hint = limit.options ? "" : [unit, empty].filter(Boolean).join("; ");
  return { ...limit, type, value: String(value ?? ""), hint };
}

/** When a key ends. */
function endField(at) {
  return {
    name: "expires_at",
    label: "Ends",
    type: "date",
    value: at === null ? "" : dayOf(at),
    hint: "empty: never",
    note: (values, input) => momentOf(values.expires_at, input, at),
  };
}

async function change(key) {
  const { configuration } = await get("overview");
  const { profiles } = configuration;
  return ask({
    title: `Change ${key.id}`,
    fields: [
      {
        name: "profile",
        label: "Profile",
        options: profiles.includes(key.profile) ? profiles : [key.profile, ...profiles],
        value: key.profile,
      },
      ...fieldsOf(key),
    ],
    submit: "Change",
    act: async (values) => {
      const body = changesOf(key, values);
      if (values.profile !== key.profile) body.profile = values.profile;
      if (!Object.keys(body).length) throw new Error("Nothing is changed yet.");
      const changed = await patch(path("keys", key.id), body);
      say(`${key.id} is changed.`);
      return changed;
    },
  });
}

/** What differs, and nothing else: who changed it meanwhile keeps his part. */
function changesOf(key, values) {
  const body = {};
  const ends = key.expires_at === null ? "" : dayOf(key.expires_at);
  if (values.owner !== key.owner) body.owner = values.owner || null;
  for (const name of ["scopes", "networks"])
    if (values[name] !== key[name].join(", ")) body[name] = values[name].split(/[\s,]+/).filter(Boolean);
  if (values.expires_at !== ends) body.expires_at = values.expires_at ? beginOf(values.expires_at) : null;
  const limits = LIMITS.filter(({ name }) => values[name] !== String(key.limits[name] ?? ""));
  if (limits.length)
    body.limits = Object.fromEntries(limits.map((limit) => [limit.name, sent(limit, values[limit.name])]));
  return body;
}

function sent({ type = "number", options }, value) {
  if (value === "") return "default";
  return type === "number" && !options ? Number(value) : value;
}

async function rotate(key) {
  const made = await ask({
    title: `Rotate ${key.id}`,
    text: "It gets another secret. The one in use lasts for the overlap; all others end now.",
    fields: [{ name: "overlap", label: "Overlap", value: "24h", hint: "such as 30m, 24h, 7d", required: true }],
    submit: "Rotate",
    act: ({ overlap }) => post(path("keys", key.id, "rotate"), { overlap }),
  });
  if (made === null) return null;
  const ends = made.previous_ends_at ? `The one before ends ${moment(made.previous_ends_at)}.` : "";
  await showSecret(`The new secret of ${made.id}`, made.secret, ends);
  return made;
}

/** Lets a disabled key in again. */
export async function enable(id) {
  await patch(path("keys", id), { disabled: false });
  say(`${id} is enabled.`);
  return true;
}

async function disable(key, disabled) {
  if (!disabled) return enable(key.id);
  return ask({
    title: `Disable ${key.id}?`,
    text: "All its secrets are refused until it is enabled again.",
    submit: "Disable",
    danger: true,
    act: async () => {
      const changed = await patch(path("keys", key.id), { disabled });
      say(`${key.id} is disabled.`);
      return changed;
    },
  });
}

/** Nothing is chosen before, and what is to be written differs: behind a rotation, all is the mistake to make. */
function revoke(key) {
  const live = key.generations.filter((found) => found.state === "live");
  const wanted = ({ which }) => `${key.id} ${which}`;
  const all = live.length === 1 ? "all, so this one: " : "all: ";
  return ask({
    title: `Revoke ${key.id}?`,
    text: "A revoked secret is refused from now on, and never comes back.",
    fields: [
      {
        name: "which",
        label: "Secret",
        required: true,
        options: [
          ["", "choose which"],
          ...live.map((found) => [String(found.generation), `${secretOf(found)}, made ${ago(found.created_at)}`]),
          ["all", `${all}nobody can use ${key.id} then`],
        ],
        note: ({ which }) => leftBy(which, live),
      },
      {
        name: "sure",
        label: "Confirm",
        required: true,
        note: (values) => (values.which ? `Write ${wanted(values)} to confirm.` : ""),
      },
    ],
    submit: "Revoke",
    danger: true,
    act: async (values) => {
      if (values.sure !== wanted(values))
        throw new Fault("sure", `That is not ${wanted(values)}. Nothing is changed.`);
      const isLast = !stays(values.which, live).length;
      return isLast ? revokeLast(key, values.which) : revokeOne(key, values.which);
    },
  });
}

/** Without force: should the others have ended meanwhile, it is the last one. */
async function revokeOne(key, which) {
  try {
    return await revoked(key, which, false);
  } catch (error) {
    if (!error.errors?.some(({ path: place }) => place === "force")) throw error;
    return revokeLast(key, which);
  }
}

/** Asks again before the last secret goes, as the command does by --force. */
const revokeLast = (key, which) =>
  ask({
    title: `Leave ${key.id} without a secret?`,
    text:
      `No secret of ${key.id} is left then: whoever uses it is refused, until Rotate gives it another one. ` +
      "To refuse it for a while, Disable is enough.",
    submit: "Revoke the last secret",
    danger: true,
    act: () => revoked(key, which, true),
  });

async function revoked(key, which, force) {
  const generation = which === "all" ? null : Number(which);
  const ended = await post(path("keys", key.id, "revoke"), { generation, force });
  say(`Secrets of ${key.id} that ended: ${ended.generations.join(", ") || "none"}.`);
  return ended;
}

const stays = (which, live) => live.filter((found) => which !== "all" && String(found.generation) !== which);

/** What can be used once that is revoked. */
function leftBy(which, live) {
  if (which === "") return "";
  const names = stays(which, live).map((found) => found.generation).join(", ");
  return names ? `What can be used then: secret ${names}.` : "Then no secret is left that can be used.";
}

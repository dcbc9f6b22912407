// Keys of the ledger: made, rotated, granted, disabled and revoked.

import { get, patch, path, post } from "./api.js";
import { ask, showSecret } from "./dialogs.js";
import { button, el, say } from "./dom.js";
import { beginOf, dayOf, grant, limitsOf, momentOf, reset } from "./limits.js";
import { list, table } from "./lists.js";
import { every, trouble } from "./renewal.js";
import { ago, moment } from "./words.js";

const NUMBERS = {
  requests_per_minute: "Requests a minute",
  pages_per_day: "Pages a day",
  pages_per_month: "Pages a month",
  spend_per_month: "Spend a month",
};

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
          act("Grant", key, () => grant("keys", key.id), load),
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

function generations(key) {
  const one = (found) => el("li", { class: found.state === "live" ? "" : "faint" }, secretOf(found));
  return el("ul", {}, key.generations.toReversed().slice(0, 3).map(one));
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
    act("Grant", key, () => grant("keys", key.id), reload),
    act("Reset", key, () => reset("keys", key.id), reload),
    act(isDisabled ? "Enable" : "Disable", key, () => disable(key, !isDisabled), reload),
    act("Revoke", key, () => revoke(key), reload, { class: "danger" }),
  );
}

async function create(reload) {
  const { configuration } = await get("overview");
  const made = await ask({
    title: "Create a key",
    fields: [
      { name: "id", label: "Id", hint: "a-z, 0-9, -; it never changes", required: true },
      { name: "profile", label: "Profile", options: configuration.profiles, value: "default" },
      { name: "owner", label: "Owner", hint: "empty: the key itself" },
      endField(null),
      ...numbers({}),
      { name: "admin", label: "May use admin routes", type: "checkbox" },
    ],
    submit: "Create",
    act: (values) => post("keys", bodyOf(values)),
  });
  if (made === null) return;
  reload();
  await showSecret(`The secret of ${made.id}`, made.secret, "Send it as X-API-Key.");
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

/** A field for each limit, with what a key has of its own. */
function numbers(limits) {
  return Object.entries(NUMBERS).map(([name, label], place) => ({
    name,
    label,
    type: "number",
    value: limits[name] ?? "",
    hint: limits[name] === null ? "none now" : place ? "likewise" : "empty: the profile's",
  }));
}

async function change(key) {
  const { configuration } = await get("overview");
  const { profiles } = configuration;
  const ends = key.expires_at === null ? "" : dayOf(key.expires_at);
  return ask({
    title: `Change ${key.id}`,
    fields: [
      {
        name: "profile",
        label: "Profile",
        options: profiles.includes(key.profile) ? profiles : [key.profile, ...profiles],
        value: key.profile,
      },
      endField(key.expires_at),
      ...numbers(key.limits),
    ],
    submit: "Change",
    act: async (values) => {
      const changed = await patch(path("keys", key.id), changesOf(key, ends, values));
      say(`${key.id} is changed.`);
      return changed;
    },
  });
}

/** What differs, and nothing else: who changed it meanwhile keeps his part. */
function changesOf(key, ends, values) {
  const body = {};
  const limits = Object.keys(NUMBERS).filter((name) => values[name] !== String(key.limits[name] ?? ""));
  if (values.profile !== key.profile) body.profile = values.profile;
  if (values.expires_at !== ends) body.expires_at = values.expires_at ? beginOf(values.expires_at) : null;
  if (limits.length)
    body.limits = Object.fromEntries(
      limits.map((name) => [name, values[name] === "" ? "default" : Number(values[name])]),
    );
  if (!Object.keys(body).length) throw new Error("Nothing is changed yet.");
  return body;
}

function bodyOf(values) {
  const given = Object.keys(NUMBERS)
    .filter((name) => values[name] !== "")
    .map((name) => [name, Number(values[name])]);
  return {
    id: values.id,
    profile: values.profile,
    owner: values.owner || null,
    scopes: values.admin ? ["admin"] : [],
    limits: Object.fromEntries(given),
    expires_at: values.expires_at ? beginOf(values.expires_at) : null,
  };
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

async function disable(key, disabled) {
  if (!disabled) {
    await patch(path("keys", key.id), { disabled });
    say(`${key.id} is enabled.`);
    return true;
  }
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
      if (values.sure !== wanted(values)) throw new Error(`That is not ${wanted(values)}. Nothing is changed.`);
      const ended = await post(path("keys", key.id, "revoke"), {
        generation: values.which === "all" ? null : Number(values.which),
        force: true,
      });
      say(`Secrets of ${key.id} that ended: ${ended.generations.join(", ") || "none"}.`);
      return ended;
    },
  });
}

/** What can be used once that is revoked. */
function leftBy(which, live) {
  if (which === "") return "";
  const left = live.filter((found) => which !== "all" && String(found.generation) !== which);
  const names = left.map((found) => found.generation).join(", ");
  return names ? `What can be used then: secret ${names}.` : "Then no secret is left that can be used.";
}

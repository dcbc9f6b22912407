// Callers by token and certificate: blocked, granted and reset like keys.

import { path, post } from "./api.js";
import { ask } from "./dialogs.js";
import { breakable, button, el, say } from "./dom.js";
import { endGrants, grant, limitsOf, reset } from "./limits.js";
import { list } from "./lists.js";
import { ago, number } from "./words.js";

export const title = "Callers";

export async function show(place, signal) {
  const reload = list(place, {
    of: "callers",
    caption: "Callers by token and certificate",
    path: "callers",
    rows: (answer) => answer.callers,
    id: (caller) => caller.account,
    filters: [
      { name: "blocked", label: "Blocked only", type: "checkbox" },
      { name: "near", label: "Near a limit only", type: "checkbox" },
    ],
    signal,
    tools: [button("Block a caller", () => blockAnyone(reload), { class: "push" })],
    columns: [
      {
        name: "Caller",
        cell: (caller) => [
          breakable(caller.account),
          " ",
          caller.blocked_at && el("span", { class: "bad" }, `blocked ${ago(caller.blocked_at)}`),
        ],
      },
      { name: "Profile", cell: (caller) => caller.profile ?? "–" },
      { name: "Limits", cell: (caller) => limitsOf(caller, caller.account) },
      {
        name: "Pages",
        cell: pages,
      },
      {
        name: "Seen here",
        cell: (caller) => [
          caller.was_seen ? ago(caller.last_seen_at) : "never seen here",
          caller.client ? ` from ${caller.client}` : "",
          caller.refusals ? `, ${number(caller.refusals)} refused` : "",
        ],
      },
      { name: "Acts", cell: (caller) => acts(caller, reload) },
    ],
  });
}

function pages(caller) {
  return `${number(caller.used_today.pages)} today, ${number(caller.used_this_month.pages)} this month`;
}

function acts(caller, reload) {
  const name = caller.account;
  const act = (label, run, more = {}) =>
    button(label, async () => (await run()) !== null && reload(), {
      "aria-label": `${label} ${name}`,
      ...more,
    });
  return el(
    "div",
    { class: "acts" },
    act("Grant", () => grant("callers", name, caller)),
    caller.granted ? act("End grants", () => endGrants("callers", name)) : null,
    act("Reset", () => reset("callers", name)),
    caller.blocked_at
      ? act("Unblock", () => unblock(name))
      : act("Block", () => block(name), { class: "danger" }),
  );
}

/** Asks whether to block one, from another view. */
export const blockOf = (name) => block(name);

function block(name) {
  return ask({
    title: `Block ${name}?`,
    text: "All that comes with this name is refused, also on connections that are open, until it is let in again.",
    submit: "Block",
    danger: true,
    act: () => blocked(name),
  });
}

async function blockAnyone(reload) {
  const done = await ask({
    title: "Block a caller",
    text: "Also one who has not come yet.",
    fields: [
      { name: "name", label: "Name", hint: "as in the log: jwt:issuer#owner or cert:name", required: true },
    ],
    submit: "Block",
    danger: true,
    act: ({ name }) => blocked(name),
  });
  if (done !== null) reload();
}

async function blocked(name) {
  const caller = await post(path("callers", name, "block"));
  const doubt = caller.was_seen ? "" : " It was never seen here: is the name as in the log?";
  say(`${caller.account} is blocked.${doubt}`);
  return caller;
}

/** Lets one in again. */
export async function unblock(name) {
  const caller = await post(path("callers", name, "unblock"));
  say(`${caller.account} is let in again.`);
  return caller;
}

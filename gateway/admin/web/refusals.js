// Who was refused how often, of this replica; and which requests of the last day were refused or failed, of all
// replicas, from the ledger.

import { get } from "./api.js";
import { blockOf, unblock } from "./callers.js";
import { show as tell } from "./dialogs.js";
import { breakable, button, coded, el } from "./dom.js";
import { enable } from "./keys.js";
import { grantTo } from "./limits.js";
import { list, table } from "./lists.js";
import { trouble } from "./renewal.js";
import { ago, counted, healthOf, moment, number, plain } from "./words.js";

const FAILED = 500;
const MOST_SUMS = 20;

export const title = "Refusals";

export async function show(place, signal) {
  const reload = list(place, {
    of: "rows",
    caption:
      "Requests of the last day that were refused or failed, of all replicas, the newest first, some seconds late; " +
      "what is summed up has an id that begins with sum-",
    path: "refused-requests",
    rows: (answer) => answer.refusals,
    id: (row) => row.request_id,
    filters: [{ name: "failed", label: "Failures only (5xx)", type: "checkbox" }],
    above: sums(signal),
    signal,
    columns: [
      {
        name: "Request",
        cell: (row) => [
          el("code", {}, row.request_id),
          " ",
          el(
            "span",
            { class: "acts" },
            button("Open", () => open(row, reload), { "aria-label": `Open ${row.request_id}` }),
            act(row, reload),
          ),
        ],
      },
      { name: "When", cell: (row) => moment(row.at) },
      {
        name: "Who",
        cell: (row) =>
          breakable(row.key === null ? `${row.client} (no known credential)` : `${row.key} from ${row.client}`),
      },
      {
        name: "Status",
        number: true,
        cell: (row) => el("span", { class: row.status >= FAILED ? "bad" : "" }, String(row.status)),
      },
      {
        name: "Why",
        word: true,
        cell: (row) => whyOf(row) + (row.requests > 1 ? `, ${number(row.requests)} times` : ""),
      },
      { name: "Route", cell: (row) => (row.route === "-" ? "–" : `${row.method} ${row.route}`) },
      { name: "Detail", long: true, cell: (row) => row.detail ?? "–" },
    ],
  });
}

/** Who was refused how often and why, and when last: of this replica since its start, from its memory. */
function sums(signal) {
  const caption = "Who was refused how often, by this replica since its start, the latest first";
  const columns = [
    { name: "Who", cell: (row) => (row.is_stranger ? `${row.who} (stranger)` : row.who.replace(/^key:/, "")) },
    { name: "Why", word: true, cell: whyOf },
    { name: "How often", number: true, cell: (row) => number(row.count) },
    { name: "Last seen", cell: (row) => `${ago(row.last_at)} from ${row.client}` },
    { name: "Was told", cell: (row) => row.detail },
  ];
  const shown = table(caption, columns, (row) => JSON.stringify([row.who, row.is_stranger, row.reason, row.why]));
  const more = el("p", { class: "faint" });
  const wrong = trouble(() => load(wanted));
  let wanted = "";
  async function load(q) {
    wanted = q;
    try {
      const told = await get("refusals", { q, limit: MOST_SUMS }, signal);
      if (q !== wanted) return;
      wrong.clear();
      shown.fill(told.refusals);
      shown.node.hidden = !told.refusals.length;
      more.textContent = told.is_complete ? "" : `These are the latest ${MOST_SUMS}; a search finds others.`;
    } catch (error) {
      if (error.name !== "AbortError" && q === wanted) wrong.tell(error);
    }
  }
  return { node: el("section", {}, wrong.node, shown.node, more), load };
}

const whyOf = (row) => plain(row.why === null ? row.reason : `${row.reason}: ${row.why}`);

const ACTS = {
  grant: ["Grant", grantTo],
  enable: ["Enable", enable],
  unblock: ["Unblock", unblock],
};

/** A button for what lets such a request in; null where there is no such act. */
function act(row, reload) {
  const [label, run] = ACTS[row.act] ?? [];
  if (!label) return null;
  const name = { "aria-label": `${label} ${row.key}` };
  return button(label, async () => (await run(row.key)) !== null && reload(), name);
}

/** Of a budget of pages: what is left, and whether such a request is let in by now. */
function leftOf({ pages_left: left, act }) {
  if (left === null) return null;
  return `${counted(left, "page")}${act === "grant" ? "" : ", enough for such a request: nothing has to be granted"}`;
}

/** What is known of one, as `gateway explain --request-id` tells it, and a way to block who came with a token. */
function open(row, reload) {
  const isCaller = row.key !== null && row.key.includes(":") && row.act !== "unblock";
  const facts = [
    ["When", moment(row.at)],
    ["The client was told", row.title],
    ["Reason", plain(row.reason)],
    ["Why", row.why === null ? null : plain(row.why)],
    ["That means", row.means],
    ["Detail", row.detail],
    ["Left now", leftOf(row)],
    ["Who", row.key],
    ["From", row.client],
    ["Route", row.route === "-" ? null : `${row.method} ${row.route}`],
    ["Container", row.container],
    ["It is now", row.container_now && healthOf(row.container_now)],
    ["Look at", row.look_at],
    ["By command", `\`gateway explain --request-id ${row.request_id}\``],
  ];
  return tell(
    `Request ${row.request_id}, ${row.status}`,
    el(
      "dl",
      {},
      facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, coded(value))]),
    ),
    el(
      "div",
      { class: "acts" },
      act(row, reload),
      isCaller && button(`Block ${row.key}`, () => blockOf(row.key), { class: "danger" }),
    ),
  );
}

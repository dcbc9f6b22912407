// The audit trail: who changed, read or was refused what.

import { breakable, el } from "./dom.js";
import { list } from "./lists.js";
import { moment, plain } from "./words.js";

const SINCE = [
  ["", "its beginning"],
  ["1h", "an hour ago"],
  ["1d", "a day ago"],
  ["7d", "7 days ago"],
  ["30d", "30 days ago"],
];

const ACTIONS = [
  ["", "anything"],
  ["key.", "changes of keys"],
  ["caller.", "acts on callers"],
  ["webhook.", "webhooks sent again"],
  ["secret.", "secrets of the configuration"],
  ["ledger.", "ledgers filled"],
  ["job.refund", "refunds"],
  ["job.read", "first reads of jobs"],
  ["request.refused", "refused requests"],
];

const MOMENTS = new Set(["until", "previous_ends_at", "expires_at", "first_at"]); // in seconds since the epoch

export const title = "Audit";

export async function show(place, signal) {
  list(place, {
    of: "records",
    caption: "The audit trail, the newest first",
    path: "audit",
    rows: (answer) => answer.changes,
    filters: [
      { name: "since", label: "Since", options: SINCE },
      { name: "action", label: "Action", options: ACTIONS },
      { name: "changes", label: "Changes only (no reads, no refusals)", type: "checkbox" },
    ],
    signal,
    columns: [
      { name: "When", cell: (change) => moment(change.at) },
      { name: "Who", cell: (change) => breakable(change.actor) },
      { name: "Did", word: true, cell: (change) => change.action },
      { name: "To", cell: (change) => breakable(change.subject) },
      {
        name: "Detail",
        long: true,
        cell: (change) =>
          el(
            "ul",
            {},
            Object.entries(change.detail).map(([name, value]) => el("li", {}, `${name}: ${told(name, value)}`)),
          ),
      },
    ],
  });
}

function told(name, value) {
  if (MOMENTS.has(name) && typeof value === "number") return moment(value * 1000);
  if (value !== null && typeof value !== "object") return String(value);
  if (value === null || !Object.keys(value).length) return "–";
  if (Array.isArray(value)) return value.map((one) => told("", one)).join(", ");
  return Object.entries(value)
    .map(([key, one]) => `${plain(key)} ${told(key, one)}`)
    .join(", ");
}

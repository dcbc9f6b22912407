// Who was refused how often, why, and when last: by this replica, since its start.

import { list } from "./lists.js";
import { ago, number, plain } from "./words.js";

export const title = "Refusals";

export async function show(place, signal) {
  list(place, {
    of: "rows",
    caption:
      "Refusals of this replica since its start, the latest first; what all replicas refused is in the audit trail",
    path: "refusals",
    rows: (answer) => answer.refusals,
    cursor: false,
    signal,
    columns: [
      { name: "Who", cell: (row) => (row.is_stranger ? `${row.who} (no known credential)` : row.who) },
      { name: "Why", cell: (row) => plain(row.why === null ? row.reason : `${row.reason}: ${row.why}`) },
      { name: "How often", number: true, cell: (row) => number(row.count) },
      { name: "Last", cell: (row) => `${ago(row.last_at)}${row.is_stranger ? "" : ` from ${row.client}`}` },
      { name: "Route", cell: (row) => row.route },
      { name: "What it was told", cell: (row) => row.detail },
    ],
  });
}

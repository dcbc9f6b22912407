// Jobs, without anything of what was sent or of a result.

import { el } from "./dom.js";
import { list } from "./lists.js";
import { moment, number } from "./words.js";

const STATES = [
  ["", "that can be read"],
  ["running", "running"],
  ["complete", "complete"],
  ["failed", "failed"],
  ["gone", "gone"],
];

export const title = "Jobs";

export async function show(place, signal) {
  list(place, {
    of: "jobs",
    caption: "Jobs, the newest first",
    path: "jobs",
    rows: (answer) => answer.jobs,
    id: (job) => JSON.stringify([job.upstream, job.request_id]),
    filters: [{ name: "state", label: "State", options: STATES }],
    signal,
    columns: [
      { name: "Job", cell: (job) => el("code", {}, job.request_id) },
      { name: "State", cell: (job) => el("span", { class: job.state === "failed" ? "bad" : "" }, job.state) },
      { name: "Owner", cell: (job) => job.owner },
      { name: "Container", cell: (job) => job.upstream },
      { name: "Began", cell: (job) => moment(job.created_at) },
      { name: "Ended", cell: (job) => moment(job.ended_at) },
      { name: "Pages", cell: (job) => (job.pages_are ? `${number(job.pages)} ${job.pages_are}` : "–") },
      {
        name: "Webhook",
        cell: (job) => (job.webhook ? `${job.webhook.state}, ${job.webhook.destination}` : "–"),
      },
    ],
  });
}

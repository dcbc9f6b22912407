// Webhooks that go out, dead letters among them.

import { path, post } from "./api.js";
import { button, el, say } from "./dom.js";
import { list } from "./lists.js";
import { moment, number } from "./words.js";

const STATES = [
  ["", "any"],
  ["dead", "dead letters"],
  ["due", "due"],
  ["waiting", "waiting for the job"],
  ["delivered", "delivered"],
];
const RETRIED = new Set(["dead", "due"]);

export const title = "Webhooks";

export async function show(place, signal) {
  const reload = list(place, {
    of: "webhooks",
    caption: "Webhooks, the newest first",
    path: "webhooks",
    rows: (answer) => answer.webhooks,
    id: (hook) => hook.id,
    filters: [{ name: "state", label: "State", options: STATES }],
    signal,
    columns: [
      { name: "Webhook", cell: (hook) => el("code", {}, hook.id) },
      { name: "State", cell: (hook) => el("span", { class: hook.state === "dead" ? "bad" : "" }, hook.state) },
      { name: "Destination", cell: (hook) => hook.destination },
      { name: "Job", cell: (hook) => `${hook.request_id}, ${hook.status ?? "running"}` },
      { name: "Owner", cell: (hook) => hook.owner },
      {
        name: "Attempts",
        cell: (hook) => [
          number(hook.attempts),
          hook.last_status ? `, answered ${hook.last_status}` : "",
          hook.trouble ? `, ${hook.trouble}` : "",
        ],
      },
      { name: "Next", cell: (hook) => moment(hook.next_at) },
      {
        name: "Acts",
        cell: (hook) =>
          RETRIED.has(hook.state)
            ? el(
                "div",
                { class: "acts" },
                button("Retry", () => retry(hook, reload), { "aria-label": `Retry ${hook.id}` }),
              )
            : "",
      },
    ],
  });
}

async function retry(hook, reload) {
  await post(path("webhooks", hook.id, "retry"));
  say(`${hook.id} is sent within two seconds.`);
  reload();
}

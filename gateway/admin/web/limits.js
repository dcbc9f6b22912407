// The limits of an account as bars, and the question for pages on top: of keys and of callers alike.

import { get, path, post } from "./api.js";
import { ask } from "./dialogs.js";
import { el, say } from "./dom.js";
import { counted, left, moment, number, plain, zoned } from "./words.js";

const FULL = 0.9;

/** A bar for each limit that is counted. */
export function bars(standing, of) {
  const counted = Object.entries(standing ?? {}).filter(([, limit]) => limit.used !== null);
  if (!counted.length) return el("span", { class: "faint" }, "not known");
  return el(
    "div",
    { class: "limits" },
    counted.flatMap(([name, limit]) => bar(name, limit, of)),
  );
}

function bar(name, limit, of) {
  const most = limit.limit || 1;
  const told = `${number(limit.used)} of ${number(limit.limit)}`;
  return [
    el("span", {}, plain(name)),
    el("meter", {
      min: 0,
      max: most,
      value: Math.min(limit.used, most),
      high: most * FULL,
      low: most * (FULL - 0.2),
      optimum: 0,
      "aria-label": `${plain(name)} of ${of}: ${told}`,
    }),
    el("span", { class: limit.soft_limit_crossed ? "warn" : "faint" }, told),
  ];
}

/** Its bars, and what grants add to its budgets, until when. */
export function limitsOf(found, name) {
  const shown = [bars(found.standing, name)];
  if (found.granted) shown.push(el("p", { class: "granted faint" }, granted(found)));
  return shown;
}

function granted(found) {
  const until = ends(found);
  if (budgetsOf(found)?.length !== 0)
    return `${counted(found.granted, "page of its budgets is", "pages of its budgets are")} granted${until}`;
  const pages = counted(found.granted, "page is", "pages are");
  return `${pages} granted${until}, which changes nothing for now: it has no budget of pages`;
}

function ends({ granted_until: first, granted_last_until: last }) {
  if (!first) return "";
  if (first === last) return ` until ${moment(first)}`;
  return `, the first until ${moment(first)}, the last until ${moment(last)}`;
}

const PAGE_BUDGETS = ["pages_per_day", "pages_per_month"];

const GRANT =
  "A grant is pages on top of its budgets of pages: until it ends, each of them allows so many more, in full in " +
  "each day and month that the grant touches. Grants add up.";

/** The budgets that a grant adds to; null: its profile is not known here. */
function budgetsOf({ standing }) {
  const known = Object.entries(standing ?? {});
  return known.length ? known.filter(([name]) => PAGE_BUDGETS.includes(name)) : null;
}

/** What a grant is, and what it adds to. */
function addedTo(found) {
  const budgets = budgetsOf(found);
  if (budgets === null) return `${GRANT} Whether its profile has such a budget is not known here.`;
  if (!budgets.length) return "It has no budget of pages, a day or a month, so a grant changes nothing.";
  return `${GRANT} Now: ${budgets.map(([name, budget]) => usedOf(name, budget, 0)).join("; ")}.`;
}

const usedOf = (name, { limit, used }, more) => `${plain(name)} ${number(used)} of ${number(limit + more)} used`;

/** How its budgets stand then. */
function grantedThen(found, pages) {
  const more = Number(pages);
  if (!(more > 0) || !budgetsOf(found)?.length) return "";
  return `Then: ${budgetsOf(found).map(([name, budget]) => usedOf(name, budget, more)).join("; ")}.`;
}

/** Asks how many pages to add until when, and adds them. */
export function grant(kind, name, found) {
  return ask({
    title: `Grant pages to ${name}`,
    text: addedTo(found),
    fields: [
      {
        name: "pages",
        label: "Pages",
        hint: "on top",
        type: "number",
        required: true,
        note: ({ pages }) => grantedThen(found, pages),
      },
      {
        name: "until",
        label: "Until",
        hint: "when it ends",
        type: "date",
        value: daysFromNow(30),
        required: true,
        note: (values, input) => momentOf(values.until, input),
      },
    ],
    submit: "Grant",
    act: async ({ pages, until }) => {
      const made = await post(path(kind, name, "grants"), { pages: Number(pages), until: beginOf(until) });
      const doubt = made.budgets?.length === 0 ? " It has no budget of pages: they change nothing." : "";
      say(`${counted(made.pages, "page was", "pages were")} granted to ${name}.${doubt}`);
      return made;
    },
  });
}

/** The same of a key or caller that is known by its name alone. */
export async function grantTo(name) {
  if (name.includes(":")) return grant("callers", name, await get(path("callers", name)));
  const { keys } = await get("configured-keys");
  return grant("keys", name, keys.find((key) => key.id === name) ?? (await get(path("keys", name))));
}

/** Ends all that is granted before its time. */
export function endGrants(kind, name) {
  return ask({
    title: `End the grants of ${name}?`,
    text: "All pages that are granted now are gone at once; what was used of them stays used.",
    submit: "End grants",
    danger: true,
    act: async () => {
      const { grants } = await post(`${path(kind, name)}/grants/end`);
      const pages = grants.reduce((sum, ended) => sum + ended.pages, 0);
      const gone = counted(pages, "page that was", "pages that were");
      say(`${gone} granted to ${name} ${pages === 1 ? "is" : "are"} gone.`);
      return grants;
    },
  });
}

/** Resets this day's and this month's windows, once that is confirmed. */
export function reset(kind, name) {
  return ask({
    title: `Reset ${name}?`,
    text: "What it used today and this month no longer counts, except what is in flight. Reports of usage keep it.",
    submit: "Reset",
    danger: true,
    act: async () => {
      const told = await post(path(kind, name, "reset"));
      const used = `${counted(told.pages, "page")} and ${counted(told.requests, "request")}`;
      say(`${used} of ${name} no longer count.`);
      return told;
    },
  });
}

/** The moment that a day means, here as in commands: its beginning in UTC. */
export const beginOf = (day) => new Date(`${day}T00:00:00Z`).toISOString();

export const daysFromNow = (days) => dayOf(Date.now() + days * 86_400_000);

/** The day of a moment in UTC, as a field for dates takes it. */
export const dayOf = (at) => new Date(at).toISOString().slice(0, 10);

/** What a field for a date means, in words, before it is sent; `kept` is the moment that it stands for unchanged. */
export function momentOf(day, input, kept = null) {
  if (input.validity.badInput || input.validity.rangeOverflow) return "Not a whole date yet.";
  if (day === "") return input.required ? "" : "Never.";
  const at = kept !== null && day === dayOf(kept) ? kept : beginOf(day);
  const begins = at === beginOf(day) ? `, as ${day} begins in UTC` : "";
  return `${zoned(at)}${begins} (${left(at)}).`;
}

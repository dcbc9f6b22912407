// The state of this replica, and its last hour.

import { get } from "./api.js";
import { chart, MOST_LINES } from "./chart.js";
import { el } from "./dom.js";
import { tellStatus, tellUnknown } from "./head.js";
import { table as tableOf } from "./lists.js";
import { lookOf } from "./looks.js";
import { every, trouble } from "./renewal.js";
import { bytes, clock, counted, healthOf, left, moment, number, plain, second, span } from "./words.js";

const UNKNOWN = "of which the profile is not known: not seen since this replica's start, or gone";
const HOUR = 3_600_000;
const MOST_NEAR = 10;
const SOON = 14 * 86_400_000;
const AUTHORITIES = new Set(["tls.client_ca", "webhooks.out.ca"]); // no listener shows them

export const title = "Now";

export async function show(place, signal) {
  const facts = el("ul", { class: "facts" });
  const charts = el("div", { class: "charts" });
  const near = nearLimits(signal);
  const parts = el("div");
  const wrong = trouble(() => load());
  const asOf = el("p", { class: "warn" });
  place.append(wrong.node, asOf, facts, near.node, el("h2", {}, "The last hour"), charts, parts);
  let points = [];
  let toldBefore = "";
  let shownAt = null;
  let ageOfLast = HOUR; // of the last point, in milliseconds, when it was shown

  /** What is shown stays, grey and with its moment, while nothing newer comes. */
  async function load() {
    try {
      await renew(missing());
      shownAt = Date.now();
      wrong.clear();
      tellAge(false);
    } catch (error) {
      if (error.name === "AbortError") return;
      tellAge(true);
      tellUnknown(error);
      wrong.tell(error);
    }
  }

  function tellAge(isOld) {
    asOf.textContent = isOld && shownAt !== null ? `What is shown is as of ${second(shownAt)}.` : "";
    place.classList.toggle("old", isOld);
  }

  async function renew(since) {
    const [overview, history] = await Promise.all([
      get("overview", {}, signal),
      get("history", { since }, signal),
    ]);
    const known = new Set(points.map((point) => point.at));
    const now = Date.parse(overview.at); // the clock of the browser may be another
    points = [...points, ...history.points.filter((point) => !known.has(point.at))];
    points = points.filter((point) => Date.parse(point.at) > now - HOUR);
    ageOfLast = points.length ? now - Date.parse(points.at(-1).at) : HOUR;
    facts.replaceChildren(...factsOf(overview));
    charts.replaceChildren(...chartsOf(points, { now, step: history.seconds * 1000 }));
    const told = JSON.stringify([overview.certificates, overview.certificate_files, overview.issuers]);
    if (told !== toldBefore) parts.replaceChildren(...partsOf(overview)); // who reads there keeps the place
    toldBefore = told;
    tellStatus(overview);
    near.load(); // it tells itself what is wrong with it
  }

  /** From before the last point that is there: while the tab was hidden, nothing was asked. */
  const missing = () => {
    const age = points.length ? ageOfLast + Date.now() - shownAt : HOUR; // two times of one clock each
    return `${Math.ceil(Math.min(HOUR, Math.max(0, age) + 60_000) / 1000)}s`;
  };

  every(signal, load);
  await load();
}

/** Who is near a limit: of the ledger, so what is known of it may be missing while all else is told. */
function nearLimits(signal) {
  const wrong = trouble(() => load());
  const shown = el("div");
  let before = "";
  async function load() {
    try {
      const told = await get("near-limits", { limit: MOST_NEAR }, signal);
      wrong.clear();
      const text = JSON.stringify(told);
      if (text !== before) shown.replaceChildren(...nearOf(told)); // who reads there keeps the place
      before = text;
    } catch (error) {
      if (error.name !== "AbortError") wrong.tell(error);
    }
  }
  const node = el("section", {}, el("h2", {}, "Near a limit"), wrong.node, shown);
  return { node, load };
}

function nearOf({ near, total, unknown, is_complete: isComplete }) {
  const more = [
    total > near.length && `${number(total - near.length)} more`,
    unknown && `accounts left out: ${number(unknown)}, ${UNKNOWN}`,
    !isComplete && "there are too many accounts to look at all",
  ].filter(Boolean);
  const rest = more.length ? [el("p", { class: "faint" }, `${more.join("; ")}.`)] : [];
  if (!near.length) return [el("p", {}, "Nobody has used 80 percent or more of a limit."), ...rest];
  const heads = ["Key or caller", "Profile", "Limit", "Used", "Resets"];
  const row = (found) => [
    found.key ?? found.account,
    found.profile,
    plain(found.name),
    el(
      "span",
      { class: found.share >= 1 ? "bad" : "warn" },
      `${number(found.used)} of ${number(found.limit)}, ${number(Math.floor(found.share * 100))} %`,
    ),
    moment(found.resets_at),
  ];
  return [table("Near a limit", heads, near.map(row), false), ...rest];
}

function fact(name, large, kind, ...more) {
  return el(
    "li",
    {},
    el("h3", {}, name),
    el("p", { class: `large ${kind}` }, large),
    more.map((line) => el("p", { class: "faint" }, line)),
  );
}

function factsOf(told) {
  const { configuration, ledger, standing } = told;
  const down = told.upstreams.filter((upstream) => !upstream.up);
  const waits = configuration.waits_for_restart;
  return [
    fact(
      "Container",
      told.upstreams.length ? (down.length ? "down" : "up") : "not asked yet",
      down.length ? "bad" : "good",
      ...told.upstreams.map(
        (upstream) =>
          `${upstream.name}${upstream.url ? ` at ${upstream.url}` : ""}: ${healthOf(upstream)}`,
      ),
    ),
    fact(
      "Ledger",
      ledger.up ? "up" : "down",
      ledger.up ? "good" : "bad",
      `${ledger.engine}, ${ledger.name}`,
      ledger.trouble ?? "",
    ),
    fact(
      "Requests in flight",
      number(standing.requests_in_flight),
      "",
      counted(standing.connections, "connection"),
    ),
    fact(
      "Uploads in flight",
      number(standing.uploads),
      "",
      `spool ${bytes(standing.spool_used_bytes)} of ${bytes(standing.spool_limit_bytes)}`,
    ),
    fact(
      "Jobs running",
      standing.is_counted ? number(standing.jobs.running ?? 0) : "not counted yet",
      "",
      standing.is_counted ? "of all replicas, as of up to 10 s ago" : "",
      counted(standing.polls_held, "poll waits for an end", "polls wait for an end"),
      `${number(standing.jobs.complete ?? 0)} complete and ${number(standing.jobs.failed ?? 0)} failed can be read`,
    ),
    fact(
      "Webhooks waiting",
      number((standing.webhooks.waiting ?? 0) + (standing.webhooks.due ?? 0)),
      standing.webhooks.dead ? "warn" : "",
      counted(standing.webhooks.dead ?? 0, "dead letter"),
    ),
    fact(
      "Configuration",
      configuration.is_latest ? "in force" : "refused",
      configuration.is_latest ? "good" : "bad",
      configuration.file,
      `loaded ${moment(configuration.loaded_at)}`,
      ...configuration.faults,
    ),
    fact(
      "Waits for a restart",
      waits.length ? number(waits.length) : "nothing",
      waits.length ? "warn" : "good",
      ...waits,
      `runs since ${moment(told.started_at)}`,
    ),
  ];
}

const NONE_YET = "No data yet: the first point is there ten seconds after the start.";

function chartsOf(points, scale) {
  const times = points.map((point) => Date.parse(point.at));
  const none = (words) => (points.length ? `${words} since ${clock(times[0])}.` : NONE_YET);
  const of = (name) => ({ name: plain(name), values: points.map((point) => point[name]) });
  const reasons = [...new Set(points.flatMap((point) => Object.keys(point.errors)))];
  const sum = (reason) => points.reduce((total, point) => total + (point.errors[reason] ?? 0), 0);
  reasons.sort((one, other) => sum(other) - sum(one));
  const line = (name, look, ofThese) => ({
    name,
    look,
    values: points.map(({ errors }) => ofThese.reduce((total, reason) => total + (errors[reason] ?? 0), 0)),
  });
  const draw = (title, series, words, say) => chart(title, times, series, { ...scale, say, empty: none(words) });
  const own = reasons.slice(0, reasons.length > MOST_LINES ? MOST_LINES - 1 : MOST_LINES);
  const others = reasons.slice(own.length);
  const errors = own.map((reason) => line(plain(reason), lookOf(reason), [reason]));
  if (others.length) errors.push(line(`${others.length} other reasons`, lookOf("others"), others));
  return [
    draw("Requests a second", [of("requests")]),
    draw("Errors a second by reason", errors, "No errors"),
    draw("Latency", [of("p50"), of("p95")], "No requests", span),
    draw("Pages a minute", [of("pages_per_minute")]),
    draw("Jobs and uploads", [of("jobs_running"), of("polls_held"), of("uploads")]),
  ];
}

function partsOf(told) {
  const soon = (text) => text !== null && Date.parse(text) < Date.now() + SOON;
  const certificate = (of, names, found) => [
    of,
    names,
    moment(found.not_after),
    el("span", { class: soon(found.not_after) ? "bad" : "good" }, left(found.not_after)),
  ];
  const issuer = (found) => [
    found.issuer,
    found.keys === null ? el("span", { class: "bad" }, "none: its tokens are refused") : number(found.keys),
    found.fetched_at !== null ? moment(found.fetched_at) : found.keys === null ? "never" : "of a file",
    found.dropped_at === null
      ? found.failures
        ? `${counted(found.failures, "fetch", "fetches")} failed: ${found.trouble}; ` +
          `the next is at ${moment(found.next_fetch_at)}`
        : found.keys === null
          ? "–"
          : "fresh"
      : el("span", { class: "warn" }, `${left(found.dropped_at)}: ${found.trouble}`),
    found.source,
  ];
  const shown = told.certificates.map((found) => certificate(found.listener, found.names.join(", "), found));
  const authorities = told.certificate_files
    .filter(({ setting }) => AUTHORITIES.has(setting))
    .map((found) => certificate(found.setting, found.file, found));
  const parts = [table("Certificates", ["Of", "Names or file", "Ends", "Left"], [...shown, ...authorities])];
  if (told.issuers.length)
    parts.push(table("Issuers of tokens", ["Issuer", "Keys", "Fetched", "Left", "From"], told.issuers.map(issuer)));
  return parts;
}

function table(name, heads, rows, isHeaded = true) {
  const columns = heads.map((head, place) => ({ name: head, cell: (row) => row[place] }));
  const shown = tableOf(name, columns);
  shown.fill(rows);
  shown.node.querySelector("caption").className = "unseen"; // a heading stands above it
  return el("section", {}, isHeaded && el("h2", {}, name), shown.node);
}

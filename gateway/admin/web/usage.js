// What was used, by key, day and mode; as a table and as CSV.

import { get } from "./api.js";
import { button, el } from "./dom.js";
import { trouble } from "./renewal.js";
import { number } from "./words.js";

const COUNTED = ["requests", "failed", "pages", "refunded", "spend"];
const FORMULA = /^[=+\-@\t\r\n]/;
const MOST = 1000;

export const title = "Usage";

export async function show(place, signal) {
  const search = el("input", { type: "search", name: "q", autocomplete: "off" });
  const since = el(
    "select",
    { name: "since" },
    [
      ["7d", "7 days"],
      ["30d", "30 days"],
      ["92d", "92 days"],
      ["366d", "a year"],
    ].map(([value, word]) => el("option", { value, selected: value === "30d" }, word)),
  );
  const byMode = el("input", { type: "checkbox", name: "by_mode" });
  const body = el("tbody", { role: "rowgroup" });
  const foot = el("tfoot", { role: "rowgroup" });
  const count = el("p", { class: "faint", "aria-live": "polite" });
  const wrong = trouble(() => load());
  let rows = [];
  let isComplete = true;

  const shown = () =>
    rows.filter((row) =>
      `${nameOf(row)} ${row.day} ${row.mode ?? ""}`.toLowerCase().includes(search.value.trim().toLowerCase()),
    );

  function draw() {
    const found = shown();
    body.replaceChildren(...found.slice(0, MOST).map(line));
    const total = COUNTED.map((name) => found.reduce((sum, row) => sum + row[name], 0));
    foot.replaceChildren(
      el(
        "tr",
        { role: "row" },
        el("th", { scope: "row", role: "rowheader" }, "Total"),
        el("td", { role: "cell" }),
        el("td", { role: "cell" }),
        total.map((sum, place) =>
          el("td", { role: "cell", class: "number", "data-label": COUNTED[place] }, number(sum)),
        ),
      ),
    );
    const more = found.length > MOST ? `, ${number(MOST)} of them shown; the export has all` : "";
    const rest = isComplete ? "" : "; there are more than the gateway tells at once";
    count.textContent = `${countOf(found.length, rows.length)}${more}${rest}`;
  }

  async function load() {
    try {
      const told = await get("usage", { since: since.value, by_mode: byMode.checked ? "true" : "" }, signal);
      wrong.clear();
      rows = told.rows.toReversed();
      isComplete = told.is_complete;
      draw();
    } catch (error) {
      if (error.name !== "AbortError") wrong.tell(error);
    }
  }

  search.addEventListener("input", draw);
  since.addEventListener("change", load);
  byMode.addEventListener("change", load);
  const heads = ["Day", "Key or caller", "Mode", ...COUNTED];
  place.append(
    el(
      "div",
      { class: "tools", role: "search" },
      el("label", {}, "Search", search),
      el("label", {}, "Since", since),
      el("label", { class: "check" }, byMode, "By mode"),
      button("Export as CSV", () => save(csv(shown())), { class: "push" }),
    ),
    wrong.node,
    el(
      "div",
      { class: "scroll", role: "region", "aria-label": "Settled usage", tabindex: "0" },
      el(
        "table",
        { class: "rows", role: "table" },
        el("caption", {}, "Settled usage; days are those of UTC"),
        el(
          "thead",
          { role: "rowgroup" },
          el(
            "tr",
            { role: "row" },
            heads.map((head, place) =>
              el("th", { scope: "col", role: "columnheader", class: place > 2 && "number" }, head),
            ),
          ),
        ),
        body,
        foot,
      ),
    ),
    count,
  );
  await load();
}

/** None of none is something else than none that the search finds. */
function countOf(found, all) {
  if (!found) return all ? "No rows match the search" : "No rows";
  return `${number(found)} ${found === 1 ? "row" : "rows"}`;
}

const nameOf = (row) => row.key ?? (row.account === "anyone" ? "(without a key)" : row.account);
const modeOf = (row) => (row.mode === null ? "all" : row.mode || "unknown");

function line(row) {
  return el(
    "tr",
    { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, row.day),
    el("td", { role: "cell", class: "wide", "data-label": "Key or caller" }, nameOf(row)),
    el("td", { role: "cell", "data-label": "Mode" }, modeOf(row)),
    COUNTED.map((name) => el("td", { role: "cell", class: "number", "data-label": name }, number(row[name]))),
  );
}

/**
 * RFC 4180. A spreadsheet runs a cell that begins like a formula, and issuers of tokens choose the names: such a cell
 * gets an apostrophe in front.
 */
function csv(rows) {
  const cell = (value) => {
    const text = FORMULA.test(value) && typeof value === "string" ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => [row.day, nameOf(row), modeOf(row), ...COUNTED.map((name) => row[name])]);
  return (
    [["day", "key", "mode", ...COUNTED], ...lines].map((cells) => cells.map(cell).join(",")).join("\r\n") +
    "\r\n"
  );
}

function save(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = el("a", { href: address, download: "usage.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A list of the API: searched there, filtered, and shown a page at a time.

import { get } from "./api.js";
import { button, el, say } from "./dom.js";

// On a phone rows are shown one below the other, which takes a table's meaning away unless roles say it.
const PAUSE = 250;
const PAGE = 50;

/**
 * Puts a list into `place`. `columns` are {name, cell, number}; the first one heads its row. `filters` are
 * {name, label, options: [[value, word]]} or {name, label, type: "checkbox"}. `rows` picks the rows of an answer.
 * Returns a function that loads it anew.
 */
export function list(
  place,
  { of, caption, path, rows, columns, filters = [], query = {}, tools = [], signal, cursor = true },
) {
  const search = el("input", { type: "search", name: "q", autocomplete: "off", spellcheck: "false" });
  const inputs = filters.map(filterOf);
  const shown = table(caption, columns);
  const body = shown.body;
  const count = el("p", { class: "faint", "aria-live": "polite" });
  const more = button("Show more", () => load(true), { hidden: true });
  let asked = 0;
  let next = null;
  let wait = 0;

  async function load(isMore = false) {
    const mine = (asked += 1);
    const values = Object.fromEntries(inputs.map((made) => [made.name, made.read()]));
    const page = cursor ? { limit: PAGE, after: isMore ? next : null } : {};
    try {
      const answer = await get(path, { ...query, ...values, q: search.value.trim(), ...page }, signal);
      if (mine !== asked) return;
      const found = rows(answer).map((row) => line(row, columns));
      if (isMore) body.append(...found);
      else body.replaceChildren(...found);
      next = answer.next ?? null;
      more.hidden = next === null;
      const total = body.childElementCount;
      count.textContent = total ? `${total} shown${next === null ? "" : ", there are more"}` : `No ${of}.`;
      if (isMore && found.length) found[0].querySelector("th")?.focus();
    } catch (error) {
      if (error.name !== "AbortError") say(error.message);
    }
  }

  search.addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(load, PAUSE);
  });
  for (const made of inputs) made.input.addEventListener("change", () => load());
  place.append(
    el(
      "div",
      { class: "tools", role: "search" },
      el("label", {}, "Search", search),
      inputs.map((made) => made.label),
      tools,
    ),
    shown.node,
    count,
    more,
  );
  load();
  return () => load();
}

/** A table without rows yet; `fill` puts them in. */
export function table(caption, columns) {
  const body = el("tbody", { role: "rowgroup" });
  const head = el(
    "tr",
    { role: "row" },
    columns.map((column) =>
      el("th", { scope: "col", role: "columnheader", class: column.number && "number" }, column.name),
    ),
  );
  const whole = el(
    "table",
    { class: "rows", role: "table" },
    el("caption", {}, caption),
    el("thead", { role: "rowgroup" }, head),
    body,
  );
  const node = el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, whole);
  return { node, body, fill: (rows) => body.replaceChildren(...rows.map((row) => line(row, columns))) };
}

function line(row, columns) {
  const [first, ...rest] = columns;
  return el(
    "tr",
    { role: "row" },
    el("th", { scope: "row", role: "rowheader", tabindex: "-1", class: "wide" }, first.cell(row)),
    rest.map((column) =>
      el(
        "td",
        { role: "cell", class: column.number ? "number" : "wide", "data-label": column.name },
        column.cell(row),
      ),
    ),
  );
}

function filterOf({ name, label, options, type }) {
  if (type === "checkbox") {
    const input = el("input", { type, name });
    return {
      name,
      input,
      read: () => (input.checked ? "true" : ""),
      label: el("label", { class: "check" }, input, label),
    };
  }
  const input = el(
    "select",
    { name },
    options.map(([value, word]) => el("option", { value }, word)),
  );
  return { name, input, read: () => input.value, label: el("label", {}, label, input) };
}

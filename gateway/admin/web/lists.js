// A list of the API: searched there, filtered, and shown a page at a time.

import { get } from "./api.js";
import { button, el } from "./dom.js";
import { every, trouble } from "./renewal.js";

// On a phone rows are shown one below the other, which takes a table's meaning away unless roles say it.
const PAUSE = 250;
const PAGE = 50;
const MOST = 1000;

/**
 * Puts a list into `place`. `columns` are {name, cell, number, word, long}; the first one heads its row; what is a
 * `word` of a closed set is never broken, and what is `long` has more room. `filters` are
 * {name, label, options: [[value, word]]} or {name, label, type: "checkbox"}. `rows` picks the rows of an answer, and
 * `id` names one. `above` is {node, load}: what stands above it is loaded whenever it is, with what is searched. It
 * renews itself. Returns a function that loads it anew.
 */
export function list(
  place,
  { of, caption, path, rows, columns, id, filters = [], query = {}, tools = [], above = null, signal },
) {
  const search = el("input", { type: "search", name: "q", autocomplete: "off", spellcheck: "false" });
  const inputs = filters.map(filterOf);
  const shown = table(caption, columns, id);
  const wrong = trouble(() => load());
  const count = el("p", { class: "faint", "aria-live": "polite" });
  const more = button("Show more", () => load(next), { hidden: true });
  let asked = 0;
  let next = null;
  let wait = 0;

  async function load(after = null, limit = PAGE) {
    const mine = (asked += 1);
    const values = Object.fromEntries(inputs.map((made) => [made.name, made.read()]));
    above?.load(search.value.trim());
    try {
      const answer = await get(path, { ...query, ...values, q: search.value.trim(), limit, after }, signal);
      if (mine !== asked) return;
      const isToMove = wrong.node.contains(document.activeElement);
      wrong.clear();
      const first = shown.fill(rows(answer), after !== null);
      next = answer.next ?? null;
      more.hidden = next === null;
      tell(shown.count(), search.value.trim() || Object.values(values).some(Boolean));
      if (isToMove) shown.node.focus();
      else if (after !== null) first?.focus();
    } catch (error) {
      if (error.name === "AbortError" || mine !== asked) return;
      wrong.tell(error);
    }
  }

  function tell(total, isNarrowed) {
    const none = isNarrowed ? `No ${of} match what is searched and chosen above.` : `No ${of}.`;
    const text = total ? `${total} shown${next === null ? "" : ", there are more"}` : none;
    if (count.textContent !== text) count.textContent = text;
  }

  /** Asks for as many rows as are shown. */
  function renew() {
    if (shown.count() <= MOST) load(null, Math.max(PAGE, shown.count()));
  }

  search.addEventListener("input", () => {
    clearTimeout(wait);
    wait = setTimeout(() => load(), PAUSE);
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
    ...(above ? [above.node] : []),
    wrong.node,
    shown.node,
    count,
    more,
  );
  load();
  every(signal, renew);
  return () => load(null, Math.min(MOST, Math.max(PAGE, shown.count())));
}

/**
 * A table without rows yet. `fill` puts them in, instead of those that are there or behind them, and returns the head
 * of the first. What is the same as before stays where it is, and so does the focus.
 */
export function table(caption, columns, id = JSON.stringify) {
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
  let lines = new Map();
  function fill(rows, isMore = false) {
    const before = isMore ? new Map() : lines;
    const after = isMore ? new Map(lines) : new Map();
    const made = rows.map((row) => {
      let key = id(row);
      while (after.has(key)) key += "+";
      const known = before.get(key);
      const found = known ? renewed(known, row, columns) : { row, node: line(row, columns) };
      after.set(key, found);
      return found.node;
    });
    lines = after;
    const wasIn = body.contains(document.activeElement);
    arrange(
      body,
      [...lines.values()].map((found) => found.node),
    );
    if (wasIn && !body.contains(document.activeElement)) node.focus({ preventScroll: true }); // its row is gone
    return made[0]?.firstElementChild;
  }
  return { node, fill, count: () => lines.size };
}

/** Puts new values into a row: buttons that stay know them, too, since the object of the row is the same. */
function renewed(known, row, columns) {
  Object.assign(known.row, row);
  const cells = [...line(known.row, columns).children];
  [...known.node.children].forEach((cell, place) => {
    if (!cell.isEqualNode(cells[place])) exchange(cell, cells[place]);
  });
  return known;
}

function exchange(cell, made) {
  const focused = [...cell.querySelectorAll("button")].indexOf(document.activeElement);
  cell.replaceWith(made);
  if (focused < 0) return;
  const buttons = [...made.querySelectorAll("button")]; // what was done may have taken its own away
  const next = buttons[focused] ?? buttons.at(-1) ?? made.parentNode.firstElementChild;
  next.focus({ preventScroll: true });
}

/** Nodes that stay are not moved, as far as their order is the same: moved, one would lose the focus. */
function arrange(body, nodes) {
  const kept = new Set(nodes);
  for (const node of [...body.children]) if (!kept.has(node)) node.remove();
  nodes.forEach((node, place) => {
    if (body.children[place] !== node) body.insertBefore(node, body.children[place] ?? null);
  });
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
        { role: "cell", class: kindOf(column), "data-label": column.name },
        column.cell(row),
      ),
    ),
  );
}

function kindOf({ number, word, long }) {
  if (number) return "number";
  return word ? "" : long ? "wide long" : "wide";
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

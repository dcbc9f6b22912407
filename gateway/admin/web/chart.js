// Lines over the last hour, as SVG. What a chart shows stands in its caption and label as text, too.

import { el, svg } from "./dom.js";
import { clock, number } from "./words.js";

const WIDTH = 440;
const HEIGHT = 150;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;
const HOUR = 3_600_000;
const GAP = 35_000;
export const MOST_LINES = 6;

/**
 * A figure of some lines: `series` are {name, values, look}, a value for each of `times` (milliseconds), or null.
 * A look is classes of the stylesheet; without one it is of the line's place.
 */
export function chart(title, times, series, say = number, now = Date.now()) {
  const shown = series.slice(0, MOST_LINES).map((line, place) => ({ look: `s${place + 1}`, ...line }));
  const top = nice(Math.max(0, ...shown.flatMap((line) => line.values).filter((value) => value !== null)));
  const x = (at) => LEFT + ((at - (now - HOUR)) / HOUR) * (WIDTH - LEFT - 4);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const told = shown.map(
    (line) => `${line.name}: now ${say(last(line.values))}, most ${say(most(line.values))}`,
  );
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `${title}. ${told.join("; ") || "No data yet"}.`,
  });
  for (const share of [0, 0.5, 1]) {
    picture.append(
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - 4, y1: y(top * share), y2: y(top * share) }),
      svg("text", { x: LEFT - 5, y: y(top * share) + 4, "text-anchor": "end" }, say(top * share)),
    );
  }
  for (const back of [1, 0.5, 0]) {
    const at = now - HOUR * back;
    const anchor = back === 1 ? "start" : back ? "middle" : "end";
    picture.append(svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": anchor }, clock(at)));
  }
  for (const line of shown)
    picture.append(svg("path", { class: line.look, d: path(times, line.values, x, y) }));
  return el("figure", {}, el("figcaption", {}, title), picture, legend(shown, say));
}

function legend(series, say) {
  const entry = (line) =>
    el(
      "li",
      {},
      svg(
        "svg",
        { viewBox: "0 0 16 8", "aria-hidden": "true" },
        svg("path", { class: line.look, d: "M0 4H16" }),
      ),
      `${line.name}: ${say(last(line.values))}`,
    );
  return el("ul", { class: "legend" }, series.map(entry));
}

/** A line, broken where there is no value, and where points are missing. */
function path(times, values, x, y) {
  let before = null;
  const steps = [];
  values.forEach((value, place) => {
    if (value === null) {
      before = null;
      return;
    }
    const goesOn = before !== null && times[place] - before < GAP;
    steps.push(
      `${goesOn ? "L" : "M"}${x(times[place]).toFixed(1)} ${y(value).toFixed(1)}${goesOn ? "" : "h.1"}`,
    );
    before = times[place];
  });
  return steps.join("");
}

const last = (values) => values.at(-1) ?? null;
const most = (values) => values.reduce((found, value) => (value !== null && value > found ? value : found), 0);

/** The next number of 1, 2, 5, 10, ... */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

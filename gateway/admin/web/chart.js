// Lines over the last hour, as SVG. What a chart shows stands in its caption and label as text, too.

import { el, svg } from "./dom.js";
import { clock, number } from "./words.js";

const WIDTH = 440;
const HEIGHT = 150;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;
const HOUR = 3_600_000;
const JOINED = 1.8; // of the step between two points: more, and one is missing
const DOT = 1.3;
export const MOST_LINES = 6;

/**
 * A figure of some lines: `series` are {name, values, look}, a value for each of `times` (milliseconds), or null.
 * A look is classes of the stylesheet; without one it is of the line's place. `step` is what lies between two points,
 * `now` the moment at the right edge, `empty` the sentence of a chart that has no value.
 */
export function chart(title, times, series, { say = number, step, now, empty }) {
  const shown = series.slice(0, MOST_LINES).map((line, place) => ({ look: `s${place + 1}`, ...line }));
  const values = shown.flatMap((line) => line.values).filter((value) => value !== null);
  const top = nice(Math.max(0, ...values));
  const x = (at) => LEFT + ((at - (now - HOUR)) / HOUR) * (WIDTH - LEFT - 4);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const told = shown.map((line) => `${line.name}: ${latest(times, line, say)}, most ${say(most(line.values))}`);
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `${title}. ${values.length ? `${told.join("; ")}.` : empty}`,
  });
  for (const share of [0, 0.5, 1]) {
    const high = y(top * share);
    const label = values.length ? say(top * share) : "";
    picture.append(
      svg("line", { class: "axis", x1: LEFT, x2: WIDTH - 4, y1: high, y2: high }),
      svg("text", { x: LEFT - 5, y: high + 4, "text-anchor": "end" }, label),
    );
  }
  for (const back of [1, 0.5, 0]) {
    const at = now - HOUR * back;
    const anchor = back === 1 ? "start" : back ? "middle" : "end";
    picture.append(svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": anchor }, clock(at)));
  }
  const head = el("figcaption", {}, title);
  if (!values.length) {
    const words = el("p", { class: "faint", "aria-hidden": "true" }, empty); // the picture's label has them, too
    return el("figure", {}, head, picture, words);
  }
  for (const line of shown) picture.append(...drawn(line, runsOf(times, line.values, step * JOINED), x, y));
  const entries = shown.map((line, place) => entry(line, told[place]));
  return el("figure", {}, head, picture, el("ul", { class: "legend" }, entries));
}

const entry = ({ look }, told) =>
  el(
    "li",
    {},
    svg("svg", { viewBox: "0 0 16 8", "aria-hidden": "true" }, svg("path", { class: look, d: "M0 4H16" })),
    told,
  );

/** The points that have neighbours, [at, value] each: a run ends where there is no value, or a point is missing. */
function runsOf(times, values, within) {
  const runs = [];
  let before = null;
  values.forEach((value, place) => {
    if (value !== null) {
      if (before === null || times[place] - before >= within) runs.push([]);
      runs.at(-1).push([times[place], value]);
    }
    before = value === null ? null : times[place];
  });
  return runs;
}

/** A line through each run; of a single point a dot. */
function drawn({ look }, runs, x, y) {
  const spot = ([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
  const lines = runs.filter((run) => run.length > 1).map((run) => `M${run.map(spot).join("L")}`);
  const dots = runs.filter((run) => run.length === 1).map(([[at, value]]) => [x(at), y(value)]);
  return [
    lines.length ? svg("path", { class: look, d: lines.join("") }) : "",
    ...dots.map(([cx, cy]) => svg("circle", { class: look.split(" ")[0], cx, cy, r: DOT })),
  ];
}

/** The last value; where there is none at the end, also when it was. */
function latest(times, { values }, say) {
  const place = values.findLastIndex((value) => value !== null);
  if (place < 0) return "none";
  const told = say(values[place]);
  return place === values.length - 1 ? `now ${told}` : `last ${told} at ${clock(times[place])}`;
}

const most = (values) => values.reduce((found, value) => (value !== null && value > found ? value : found), 0);

/** The next number of 1, 2, 5, 10, ... */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

// Numbers and moments as people write them.

const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const ZONED = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];

export const number = (value) => (value === null || value === undefined ? "–" : NUMBER.format(value));
/** `1 page`, `2 pages`. */
export const counted = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const moment = (text) => (text === null ? "–" : MOMENT.format(new Date(text)));
/** Of which zone moments are shown that don't say it. */
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
/** With its day of the week and its zone. */
export const zoned = (text) => ZONED.format(new Date(text));
export const clock = (milliseconds) => CLOCK.format(new Date(milliseconds));
export const second = (milliseconds) => SECOND.format(new Date(milliseconds));

/** Seconds: `3 d 4 h`, `20 ms`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${NUMBER.format(seconds * 1000)} ms`;
  if (seconds < 10) return `${NUMBER.format(seconds)} s`;
  const at = UNITS.findIndex(([, size]) => seconds >= size);
  const [word, size] = UNITS[at];
  const rest = UNITS[at + 1] && Math.floor((seconds % size) / UNITS[at + 1][1]);
  return rest
    ? `${Math.floor(seconds / size)} ${word} ${rest} ${UNITS[at + 1][0]}`
    : `${Math.floor(seconds / size)} ${word}`;
}

/** How long ago a moment was. */
export function ago(text) {
  if (text === null) return "never";
  const seconds = (Date.now() - Date.parse(text)) / 1000;
  return seconds < 5 ? "now" : `${span(Math.round(seconds))} ago`;
}

/** How long it is until a moment. */
export function left(text) {
  const seconds = (Date.parse(text) - Date.now()) / 1000;
  return seconds > 0 ? `${span(seconds)} left` : "over";
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const power = Math.min(3, Math.floor(Math.log2(count) / 10));
  return `${NUMBER.format(count / 1024 ** power)} ${["B", "KB", "MB", "GB"][power]}`;
}

/** How a container is, since when, and what was wrong with it last. */
export function healthOf({ up, trouble, since, last_trouble: last, last_trouble_at: failedAt }) {
  if (!up) return `down since ${moment(since)} (${ago(since)}): ${trouble}`;
  return `up since ${moment(since)} (${ago(since)})${last ? `; last error, ${ago(failedAt)}: ${last}` : ""}`;
}

/** `pages_per_month` as `pages per month`. */
export const plain = (word) => word.replaceAll("_", " ");

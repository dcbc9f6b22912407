// Dialogs: a question with fields, a question before something is lost, and a secret that is shown once.

import { button, el, say } from "./dom.js";

const UNREADABLE = { number: "Not a number", date: "Not a whole date" };
const LAST_DAY = "9999-12-31";

let count = 0;

/** What a page finds wrong itself: `errors` are as the API's, the path is a field's name. */
export class Fault extends Error {
  constructor(path, message) {
    super(message);
    this.errors = [{ path, message }];
  }
}

/**
 * Asks for `fields` and does `act` with their values. Returns what it returned; null when it was called off.
 * While `act` refuses, the dialog stays and says why: each fault beside its field, what is of none above them.
 * A field is {name, label, type, value, hint, options, required, note, more}: options are words or [value, word],
 * `note` tells, of all values, what stands beside the field, and those with `more` are folded away.
 */
export function ask({ title, text = "", fields = [], submit, danger = false, act }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const done = el("button", { type: "submit", class: danger ? "danger" : "main" }, submit);
  const made = fields.map(field);
  const more = made.filter((input) => input.more);
  const inputs = [...made.filter((input) => !input.more), ...more]; // as they stand
  const form = el(
    "form",
    { novalidate: true },
    text && el("p", {}, text),
    problem,
    pair(inputs.filter((input) => !input.more)),
    more.length > 0 && el("details", {}, el("summary", {}, "More limits"), pair(more)),
  );
  const values = () => Object.fromEntries(inputs.map((input) => [input.key, input.read()]));
  const tell = () => inputs.forEach((input) => input.tell(values()));
  form.addEventListener("input", ({ target }) => {
    problem.textContent = "";
    inputs.find(({ input }) => input === target)?.blame("");
    tell();
  });
  tell();
  return opened(title, form, (close) => {
    form.append(
      el(
        "div",
        { class: "ends" },
        el("button", { type: "button", onclick: () => close(null) }, "Cancel"),
        done,
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (blame(inputs, problem, unreadable(inputs))) return;
      done.disabled = true;
      try {
        close(await act(values()));
      } catch (error) {
        done.disabled = false; // else the focus could not go on from it
        blame(inputs, problem, error.errors ?? [], error.message);
      } finally {
        done.disabled = false;
      }
    });
  });
}

/**
 * What is wrong with each field that can't be sent. What a browser can't read it gives as empty, and empty means
 * something else: "the profile's", or "never".
 */
const unreadable = (inputs) =>
  inputs.map((made) => ({ path: made.key, message: wordsOf(made) })).filter(({ message }) => message);

function wordsOf({ name, input }) {
  const { badInput, rangeOverflow } = input.validity;
  const words = UNREADABLE[input.type] ?? "Not readable";
  if (badInput || rangeOverflow) return `${words}. Nothing is changed.`;
  return input.required && !input.value.trim() ? `${name} is needed.` : "";
}

/**
 * Tells faults, {path, message} as in the API's `errors`: each beside its field, of which the first gets the focus,
 * and above them what is of no field, or else how many there are. `whole` is told when there are none, or some of no
 * field. Returns whether anything was told.
 */
function blame(inputs, problem, faults, whole = "") {
  const found = new Map();
  const rest = [];
  for (const fault of faults) {
    const made = inputs.find(({ key }) => fault.path.split(".").includes(key));
    if (made) found.set(made, [...(found.get(made) ?? []), sentence(fault, made)]);
    else rest.push(fault.path ? `${fault.path}: ${fault.message}` : fault.message);
  }
  const faulty = inputs.filter((made) => found.has(made));
  for (const made of inputs) made.blame((found.get(made) ?? []).join(" "));
  const names = faulty.map(({ name }) => name).join(", ");
  problem.textContent = [
    ...(faults.length ? rest.map(ended) : [whole]),
    faulty.length > 1 || (names && rest.length) ? `To be mended: ${names}.` : "",
  ].join(" ").trim();
  for (const { input } of faulty) input.closest("details")?.setAttribute("open", "");
  if (faulty.length) faulty[0].input.focus();
  else if (problem.textContent) problem.scrollIntoView({ block: "nearest" });
  return faulty.length > 0 || problem.textContent !== "";
}

/** `networks.1` is the second of them. */
function sentence({ path, message }, { key }) {
  const place = path.split(".").slice(-1)[0];
  const of = path !== key && /^\d+$/.test(place) ? `Number ${Number(place) + 1}: ` : "";
  return of + ended(of ? message : message.charAt(0).toUpperCase() + message.slice(1));
}

const ended = (text) => (/[.?!]$/.test(text) ? text : `${text}.`);

const pair = (inputs) =>
  el(
    "div",
    { class: "pair" },
    inputs.map((made) => made.node),
  );

/** Shows a secret, this once, with a button that copies it; until it was copied, only Done closes it. */
export function showSecret(title, secret, text) {
  const shown = el("code", { class: "secret", id: "secret", tabindex: "0" }, secret);
  let isCopied = false;
  const copy = button("Copy", async () => {
    await copied(shown);
    isCopied = true;
    say("The secret is in the clipboard.");
  });
  copy.className = "main";
  const body = el(
    "div",
    {},
    el("p", {}, "It is shown this once, and nobody can look it up."),
    shown,
    el("p", {}, text),
  );
  const build = (close) =>
    body.append(
      el("div", { class: "ends" }, copy, el("button", { type: "button", onclick: () => close(true) }, "Done")),
    );
  return opened(title, body, build, { mayLeave: () => isCopied });
}

/** Shows something until it is closed. */
export function show(title, ...content) {
  const body = el("div", {}, content);
  const build = (close) =>
    body.append(
      el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(null) }, "Close")),
    );
  return opened(title, body, build, { isRead: true });
}

/**
 * `mayLeave` tells whether Escape closes it. What `isRead` begins at its title; the browser would begin at its first
 * button, however far down.
 */
function opened(title, content, build, { mayLeave = () => true, isRead = false } = {}) {
  const name = `dialog-${(count += 1)}`;
  const before = document.activeElement;
  const heading = el("h2", { id: name, tabindex: isRead && "-1", autofocus: isRead }, title);
  const dialog = el("dialog", { "aria-labelledby": name }, heading, content);
  const giveBack = borrowed(dialog);
  return new Promise((resolve) => {
    let result = null;
    build((value) => {
      result = value;
      dialog.close();
    });
    // A browser lets `cancel` be refused but once, so the key is refused, too.
    const stay = (event) => mayLeave() || event.preventDefault();
    const stayByKey = (event) => event.key === "Escape" && stay(event);
    dialog.addEventListener("cancel", stay);
    addEventListener("keydown", stayByKey);
    dialog.addEventListener("close", () => {
      removeEventListener("keydown", stayByKey);
      giveBack();
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** What is said is neither seen nor read out behind an open dialog, so its place is in it, until that is undone. */
function borrowed(dialog) {
  const places = [document.getElementById("said"), document.getElementById("failed")];
  const home = places[0].parentNode;
  dialog.append(...places);
  return () => home.append(...places);
}

/** A field: `read` gives its value, `tell` says what its note has to, `blame` what is wrong with it. */
function field({ note = null, ...given }) {
  const { label: name, name: key, more = false } = given;
  const id = `field-${(count += 1)}`;
  const { input, read, shown } = (given.type === "checkbox" ? check : entry)(given, id);
  const fault = el("span", { class: "fault", id: `${id}-fault` });
  const said = note && el("span", { class: "note faint", id: `${id}-note`, "aria-live": "polite" });
  const described = () => {
    const ids = [fault, said].filter((found) => found?.textContent).map((found) => found.id);
    if (ids.length) input.setAttribute("aria-describedby", ids.join(" "));
    else input.removeAttribute("aria-describedby");
  };
  function blame(words) {
    fault.textContent = words;
    if (words) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    described();
  }
  function tell(values) {
    const text = note ? note(values, input) : "";
    if (!said || said.textContent === text) return;
    said.textContent = text;
    described();
  }
  const node = el("div", { class: note ? "field noted" : "field" }, shown(fault), said);
  return { name, key, more, input, read, node, blame, tell };
}

function check({ name, label, hint = "", value = false }, id) {
  const input = el("input", { type: "checkbox", name, id, checked: value });
  const shown = (fault) => [fault, el("label", { class: "check" }, input, worded(label, hint))];
  return { input, read: () => input.checked, shown };
}

function entry({ name, label, type = "text", value = "", hint = "", options = null, required = false }, id) {
  const input = options
    ? el("select", { name, id, required }, options.map(option(value)))
    : el("input", {
        type,
        name,
        id,
        value,
        required,
        step: type === "number" && "any", // the gateway says which may have a fraction
        max: type === "date" && LAST_DAY, // a browser takes years of six digits, too
        autocomplete: "off",
        spellcheck: "false",
      });
  const shown = (fault) => [el("label", { for: id }, worded(label, hint)), fault, input];
  return { input, read: () => input.value.trim(), shown };
}

const worded = (label, hint) => (hint ? `${label} (${hint})` : label);

const option = (chosen) => (given) => {
  const [value, word] = Array.isArray(given) ? given : [given, given];
  return el("option", { value, selected: value === chosen }, word);
};

async function copied(node) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(node.textContent);
    return;
  }
  getSelection().selectAllChildren(node); // without TLS and from elsewhere a browser gives no clipboard
  if (!document.execCommand("copy")) throw new Error("The browser does not copy; it is selected.");
}

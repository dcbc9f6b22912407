// Dialogs: a question with fields, a question before something is lost, and a secret that is shown once.

import { button, el, say } from "./dom.js";

const UNREADABLE = { number: "not a number", date: "not a whole date" };
const LAST_DAY = "9999-12-31";

let count = 0;

/**
 * Asks for `fields` and does `act` with their values. Returns what it returned; null when it was called off.
 * While `act` refuses, the dialog stays and says why. A field is {name, label, type, value, hint, options, required,
 * note, more}: options are words or [value, word], `note` tells, of all values, what stands beside the field, and
 * those with `more` are folded away.
 */
export function ask({ title, text = "", fields = [], submit, danger = false, act }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const done = el("button", { type: "submit", class: danger ? "danger" : "main" }, submit);
  const inputs = fields.map(field);
  const more = inputs.filter((made) => made.more);
  const form = el(
    "form",
    { novalidate: true },
    text && el("p", {}, text),
    pair(inputs.filter((made) => !made.more)),
    more.length > 0 && el("details", {}, el("summary", {}, "More limits"), pair(more)),
    problem,
  );
  const values = () => Object.fromEntries(inputs.map((made) => [made.key, made.read()]));
  const tell = () => inputs.forEach((made) => made.tell(values()));
  form.addEventListener("input", () => {
    problem.textContent = "";
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
      problem.textContent = faultOf(inputs);
      if (problem.textContent) return;
      done.disabled = true;
      try {
        close(await act(values()));
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        done.disabled = false;
      }
    });
  });
}

/**
 * What is wrong with the first field that can't be sent, which gets the focus; empty if all can. What a browser can't
 * read it gives as empty, and empty means something else: "the profile's", or "never".
 */
function faultOf(inputs) {
  for (const { input } of inputs) input.removeAttribute("aria-invalid");
  const found = inputs.find((made) => wordsOf(made) !== "");
  if (!found) return "";
  found.input.setAttribute("aria-invalid", "true");
  const folded = found.input.closest("details");
  if (folded) folded.open = true;
  found.input.focus();
  return wordsOf(found);
}

function wordsOf({ name, input }) {
  const { badInput, rangeOverflow } = input.validity;
  const unreadable = UNREADABLE[input.type] ?? "not readable";
  if (badInput || rangeOverflow) return `${name}: ${unreadable}. Nothing is changed.`;
  return input.required && !input.value.trim() ? `${name} is needed.` : "";
}

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
  return opened(title, body, build, () => isCopied);
}

/** Shows something until it is closed. */
export function show(title, ...content) {
  const body = el("div", {}, content);
  return opened(title, body, (close) => {
    body.append(
      el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(null) }, "Close")),
    );
  });
}

/** `mayLeave` tells whether Escape closes it. */
function opened(title, content, build, mayLeave = () => true) {
  const name = `dialog-${(count += 1)}`;
  const before = document.activeElement;
  const dialog = el("dialog", { "aria-labelledby": name }, el("h2", { id: name }, title), content);
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

/** What is said is neither seen nor read out behind an open dialog: its place is in the dialog until this is undone. */
function borrowed(dialog) {
  const said = document.getElementById("said");
  const home = said.parentNode;
  dialog.append(said);
  return () => home.append(said);
}

function field({ note, ...given }) {
  const { label: name, name: key, more = false } = given;
  const build = given.type === "checkbox" ? check : entry;
  const made = { name, key, more, ...build(given) };
  return note ? noted(made, note) : { ...made, node: made.label, tell() {} };
}

function check({ name, label, hint = "", value = false }) {
  const input = el("input", { type: "checkbox", name, checked: value });
  return { input, read: () => input.checked, label: el("label", { class: "check" }, input, worded(label, hint)) };
}

function entry({ name, label, type = "text", value = "", hint = "", options = null, required = false }) {
  const input = options
    ? el("select", { name, required }, options.map(option(value)))
    : el("input", {
        type,
        name,
        value,
        required,
        step: type === "number" && "any", // the gateway says which may have a fraction
        max: type === "date" && LAST_DAY, // a browser takes years of six digits, too
        autocomplete: "off",
        spellcheck: "false",
      });
  return { input, read: () => input.value.trim(), label: el("label", {}, worded(label, hint), input) };
}

const worded = (label, hint) => (hint ? `${label} (${hint})` : label);

const option = (chosen) => (given) => {
  const [value, word] = Array.isArray(given) ? given : [given, given];
  return el("option", { value, selected: value === chosen }, word);
};

/** The field in a row of its own, with what there is to say of it beside it, also to a screen reader. */
function noted(made, note) {
  const said = el("span", { class: "note faint", id: `note-${(count += 1)}`, "aria-live": "polite" });
  made.input.setAttribute("aria-describedby", said.id);
  const tell = (values) => {
    const text = note(values, made.input);
    if (said.textContent !== text) said.textContent = text;
  };
  return { ...made, node: el("div", { class: "noted" }, made.label, said), tell };
}

async function copied(node) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(node.textContent);
    return;
  }
  getSelection().selectAllChildren(node); // without TLS and from elsewhere a browser gives no clipboard
  if (!document.execCommand("copy")) throw new Error("The browser does not copy; it is selected.");
}

// Makes elements. Text goes in as text nodes alone: names of owners and reasons are chosen by strangers.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `given` are attributes, and listeners by `onclick` and the like; children are nodes or texts. */
export function el(tag, given = {}, ...children) {
  return filled(document.createElement(tag), given, children);
}

/** The same of SVG. */
export function svg(tag, given = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), given, children);
}

function filled(node, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map(child),
  );
  return node;
}

function child(value) {
  return value instanceof Node ? value : document.createTextNode(String(value));
}

/** Words of any length, which break behind a mark before they break anywhere: the name of a caller, an address. */
export function breakable(text) {
  const parts = text.split(/(?<=[@:/#,_.])/);
  return parts.flatMap((part, place) => (place ? [el("wbr"), part] : [part]));
}

/** A text in which `what stands so` is code. */
export const coded = (text) => text.split("`").map((part, place) => (place % 2 ? el("code", {}, part) : part));

/** A button that tells of what goes wrong and can't be pressed twice at once. */
export function button(label, act, more = {}) {
  const made = el("button", { type: "button", ...more }, label);
  let isBusy = false; // not disabled: a button that is disabled can't have the focus again behind its dialog
  made.addEventListener("click", async () => {
    if (isBusy) return;
    isBusy = true;
    try {
      await act();
    } catch (error) {
      sayFault(error.message);
    } finally {
      isBusy = false;
    }
  });
  return made;
}

let silence = 0;

/** Says something to everybody: it is seen, and read out. */
export const say = (text) => put(text, "");

/** The same of what went wrong: at once, and as such. */
export const sayFault = (text) => put("", text);

/** Takes back what is said: who looks at something else has read it, or will not. */
export const hush = () => put("", "");

function put(said, failed) {
  document.getElementById("said").textContent = said;
  document.getElementById("failed").textContent = failed;
  clearTimeout(silence);
  if (said || failed) silence = setTimeout(hush, 8000);
}

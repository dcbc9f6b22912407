// Renews what is shown, every ten seconds, while it is looked at and no dialog is open; tells what can't be shown.

import { button, el } from "./dom.js";

const EVERY = 10_000;

/** Does `act` every ten seconds until `signal` aborts. */
export function every(signal, act) {
  const timer = setInterval(() => {
    if (!document.hidden && !document.querySelector("dialog[open]")) act();
  }, EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));
}

/** A place for what went wrong with a table: `tell` says it with a button that tries again, `clear` takes it back. */
export function trouble(retry) {
  const node = el("div", { class: "problem", role: "alert" });
  let told = "";
  return {
    node,
    tell(error) {
      if (error.message === told) return; // it would be read out again
      told = error.message;
      node.replaceChildren(`${told} `, button("Retry", retry));
    },
    clear() {
      told = "";
      node.replaceChildren();
    },
  };
}

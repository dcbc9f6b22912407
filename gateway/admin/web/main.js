// The frame: signing in, and one view at a time, named by the address behind #.

import { dropToken, get, hasToken, keepToken } from "./api.js";
import { el, hush, say } from "./dom.js";
import { tellNothing, tellStatus, tellUnknown, watchAnswers } from "./head.js";
import * as audit from "./audit.js";
import * as callers from "./callers.js";
import * as jobs from "./jobs.js";
import * as keys from "./keys.js";
import * as now from "./now.js";
import * as refusals from "./refusals.js";
import { every } from "./renewal.js";
import * as usage from "./usage.js";
import * as webhooks from "./webhooks.js";
import { zone } from "./words.js";

const VIEWS = { now, keys, callers, usage, jobs, webhooks, audit, refusals };
const main = document.getElementById("main");
const signOut = document.getElementById("sign-out");
const nav = document.querySelector("nav");
let leaving = new AbortController();
document.getElementById("zone").textContent = `Times are those of ${zone()}.`;

const nameOfView = () => (Object.hasOwn(VIEWS, location.hash.slice(1)) ? location.hash.slice(1) : "now");

async function show(isMove) {
  if (location.hash === "#main") return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const name = nameOfView();
  const view = VIEWS[name];
  for (const link of document.querySelectorAll("#views a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} – Gateway`;
  const place = el("div");
  main.replaceChildren(el("h1", {}, view.title), place);
  if (isMove) {
    hush();
    main.focus();
  }
  if (view !== now) {
    every(signal, tell);
    tell();
  }
  await view.show(place, signal); // it says itself what is wrong, and takes it back
}

/** Says in the head how it stands. */
async function tell() {
  const { signal } = leaving;
  try {
    tellStatus(await get("overview", {}, signal));
  } catch (error) {
    if (error.name !== "AbortError") tellUnknown(error);
  }
}

function signIn(why = "") {
  leaving.abort();
  dropToken();
  signOut.hidden = nav.hidden = true; // of what is behind the token nothing stays
  tellNothing();
  document.title = "Sign in – Gateway";
  const input = el("input", {
    type: "password",
    name: "token",
    autocomplete: "current-password",
    required: true,
  });
  const problem = el("p", { class: "problem", role: "alert" }, why);
  const form = el(
    "form",
    { class: "sign-in", novalidate: true },
    el("p", {}, "The admin token (admin.token of the configuration) is kept in this tab, and gone with it."),
    el("label", {}, "Admin token", input),
    problem,
    el("button", { type: "submit", class: "main" }, "Sign in"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    keepToken(input.value.trim());
    try {
      await get("overview");
      begin();
    } catch (error) {
      signIn(error.status === 401 ? "That is not the admin token." : error.message);
    }
  });
  main.replaceChildren(el("h1", {}, "Sign in"), form);
  input.focus();
}

function begin() {
  signOut.hidden = !hasToken();
  nav.hidden = false;
  show(true);
}

signOut.addEventListener("click", () => {
  signIn();
  say("You are signed out.");
});
document
  .getElementById("views")
  .append(
    ...Object.entries(VIEWS).map(([name, view]) => el("li", {}, el("a", { href: `#${name}` }, view.title))),
  );
addEventListener("unauthenticated", () => signIn(hasToken() ? "The token is not valid any more." : ""));
watchAnswers(tell);
addEventListener("hashchange", () => nav.hidden || show(true));
signOut.hidden = !hasToken();
show(false);

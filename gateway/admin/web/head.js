// The head of the page: how the gateway stands, and since when it does not answer.

import { clock } from "./words.js";

const MISSING = { ledger: "ledger down", jwks: "keys of an issuer missing" };

let awaySince = null;

/** Says in the head of the page how it stands. */
export function tellStatus(overview) {
  const troubles = [...new Set(troublesOf(overview))];
  const isGood = overview.status === "ready" && !troubles.length;
  const words =
    overview.status === "ready" && !isGood
      ? `ready, with problems: ${troubles.join(", ")}`
      : [overview.status, ...troubles].join(", ");
  put(`${words}; version ${overview.version}`, isGood ? "good" : "bad");
}

/** What `gateway status` counts as a problem; what it only warns of is on Now. */
const troublesOf = (overview) => [
  ...missing(overview),
  ...down(overview),
  ...refused(overview),
  ...(overview.configuration.is_latest ? [] : ["the configuration on the disk is refused"]),
  ...ended(overview),
];

const missing = (overview) => overview.missing.map((word) => MISSING[word] ?? `${word} missing`);

const refused = ({ missing, issuers_without_keys: issuers }) =>
  issuers.length && !missing.includes("jwks") ? [`tokens of ${issuers.join(", ")} refused`] : [];

function down({ upstreams, ledger }) {
  const names = upstreams.filter((upstream) => !upstream.up).map((upstream) => upstream.name);
  return [
    ...(names.length ? [upstreams.length > 1 ? `container down (${names.join(", ")})` : "container down"] : []),
    ...(ledger.up ? [] : ["ledger down"]),
  ];
}

const ended = ({ at, certificate_files: files }) =>
  files.filter((file) => Date.parse(file.not_after) <= Date.parse(at)).map(({ setting }) => `${setting} has ended`);

/** Says when no request is answered; `again` asks how it stands once one is answered again. */
export function watchAnswers(again) {
  addEventListener("away", () => {
    awaySince ??= Date.now();
    put(`does not answer since ${clock(awaySince)}`, "bad");
  });
  addEventListener("answered", () => {
    if (awaySince === null) return;
    awaySince = null;
    tellNothing();
    again();
  });
}

/** Says that it answers, but not how it stands. */
export function tellUnknown(error) {
  if (awaySince === null && error.status !== 401) put(`how it stands is not known: ${error.message}`, "bad");
}

/** Says nothing: nobody is signed in. */
export const tellNothing = () => put("", "");

function put(text, kind) {
  const word = document.getElementById("status");
  if (word.textContent !== text) word.textContent = text; // it would be read out again
  word.className = kind;
}

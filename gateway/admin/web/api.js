// The admin API. The token stays in this tab: sessionStorage, sent as a header, never a cookie.

const TOKEN = "gateway-admin-token";
const PATIENCE = 40_000; // milliseconds: the gateway itself gives up after 30 s

/** What the API refused: `status`, a `reason` of its closed set, a sentence as the message and `errors`. */
export class Problem extends Error {
  constructor(status, reason, detail, errors = []) {
    super(detail);
    this.status = status;
    this.reason = reason;
    this.errors = errors;
  }
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);
export const dropToken = () => sessionStorage.removeItem(TOKEN);

/** GET; a parameter that is empty is left out. */
export function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  const words = new URLSearchParams(given).toString();
  return ask("GET", words ? `${path}?${words}` : path, undefined, signal);
}

export const post = (path, body = {}) => ask("POST", path, body);
export const patch = (path, body) => ask("PATCH", path, body);

/** The path of one thing: names may hold anything. */
export const path = (kind, name, act = "") => `${kind}/${encodeURIComponent(name)}${act && `/${act}`}`;

async function ask(method, address, body, signal) {
  const headers = { Accept: "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`/admin/v1/${address}`, {
      method,
      headers,
      signal: AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]),
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw away("The gateway does not answer.");
  }
  const told = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return undefined; // it broke off, or is no JSON
  });
  if (told === undefined && answer.ok && answer.status !== 204) throw away("The gateway's answer broke off.");
  dispatchEvent(new Event("answered"));
  if (answer.ok) return told ?? {};
  if (answer.status === 401) dispatchEvent(new Event("unauthenticated"));
  const detail = told?.detail ?? `The gateway answered ${answer.status}.`;
  throw new Problem(answer.status, told?.reason ?? "", detail, told?.errors);
}

/** Tells the page that the gateway is away; returns what its caller throws. */
function away(detail) {
  dispatchEvent(new Event("away"));
  return new Problem(0, "away", detail);
}

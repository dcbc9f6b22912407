// How the line of each reason is drawn: by the reason alone, so that it is the same at each visit.

const COLOURS = 6;
const OTHER = "s6 d7";

/** Those that are seen together most often come first: they differ in colour, the others in their dashes, too. */
const REASONS = [
  "rate_limited", "forwarded_5xx", "upstream_unreachable",
  "unauthenticated", "forwarded_4xx", "budget_exhausted",
  "upstream_timeout", "client_gone", "token_invalid",
  "forbidden", "ledger_unavailable", "too_many_pages_in_flight",
  "too_many_requests_in_flight", "upstream_broke_off", "token_expired",
  "job_not_found", "internal", "body_too_large",
  "route_not_found", "address_denied", "too_many_pages",
  "field_refused", "spool_full", "body_malformed",
  "bad_request", "bad_page_range", "method_not_allowed",
  "head_too_slow", "body_too_slow", "unsupported_media_type",
  "expectation_failed", "misdirected", "too_many_bad_logins",
  "headers_too_large", "client_too_slow", "no_room",
  "lookup_unavailable", "out_of_files", "version_not_supported",
];

/** Classes of the stylesheet. */
export function lookOf(reason) {
  const place = REASONS.indexOf(reason);
  if (place < 0) return OTHER;
  return `s${(place % COLOURS) + 1} d${Math.floor(place / COLOURS) + 1}`;
}

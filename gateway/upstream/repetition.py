"""When a request goes to an upstream a second time (retry). Pure.

An upstream closes connections that were idle (uvicorn after 5 s), and may do so in the very moment when the next
request is on its way. Nothing tells such a request from one that was carried out and whose answer was lost (RFC 9112
9.3.1). So this is the rule, for clients' requests and for our own:

- On a used connection goes only what asks and changes nothing: its method is safe (RFC 9110 9.2.1), and its body is
  kept whole, if it has one. Everything else gets a new connection. A PUT or DELETE that was carried out could be
  repeated, too, but its second answer may differ: a job that was deleted would be a 404. So may what begins or ends
  a job by GET, which a configuration may say of a route.
- What a used connection lost goes once more, on a new one.
- What a new connection lost does not: that was not closed for having been idle.
- Once a byte of an answer came, nothing goes again: the upstream had the request, and what it does with it may not
  end otherwise a second time.
"""

from typing import Final

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def may_go_on_used(method: str, *, is_streamed: bool, changes_job: bool = False) -> bool:
    """Whether a used connection may carry a request.

    `is_streamed`: it has a body that is not kept; `changes_job`: it begins or ends a job, whatever its method says.
    """
    return method in _SAFE and not is_streamed and not changes_job


def may_go_again(*, may_reuse: bool, was_used: bool, has_arrived: bool) -> bool:
    """Whether a request goes once more that its connection lost.

    `may_reuse`: what `may_go_on_used` says of it; `was_used`: an earlier request went on that connection;
    `has_arrived`: a byte of an answer to this one came.
    """
    return may_reuse and was_used and not has_arrived

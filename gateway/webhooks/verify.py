"""Verifies webhooks, for receivers: `from gateway.webhooks import verify`."""

import time
from collections.abc import Mapping, Sequence

from gateway.webhooks.signature import TOLERANCE, check_secret, is_signed, sent_with


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | bytes | Sequence[str | bytes],
    *,
    now: float | None = None,
    tolerance: float = TOLERANCE,
    plain: bool = True,
) -> bool:
    """Returns whether a webhook comes from a sender that knows a secret. Never raises because of what was sent.

    A missing, malformed, repeated, wrong or too old signature gives False. The Standard Webhooks headers decide if
    any of them is present, else X-Webhook-Signature. That one has no time in it, so anyone who has seen such a
    message can replay it: do nothing twice for one request_id.

    Args:
        body: the raw bytes of the body, before any JSON parsing.
        headers: the request's; the case of the names does not matter.
        secrets: the secret, or all in force while one is rotated.
        now: seconds since the epoch; the system's clock by default.
        tolerance: seconds by which the message's time may be off.
        plain: whether X-Webhook-Signature alone is enough. False for messages of this gateway, which always sends
            both; true for those of Datalab's cloud.

    Raises:
        ValueError: no secret is given, one is shorter than 16 bytes, or what follows `whsec_` is not base64.
    """
    given = [secrets] if isinstance(secrets, str | bytes) else secrets
    known = [check_secret(one.encode() if isinstance(one, str) else one) for one in given]
    if not known:
        raise ValueError("there is no secret to verify with")
    moment = time.time() if now is None else now
    return is_signed(bytes(body), sent_with(headers.items()), known, moment, tolerance, plain=plain)

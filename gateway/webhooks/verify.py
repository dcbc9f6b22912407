"""The verification of webhooks, for receivers: `from gateway.webhooks import verify`."""

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
    """Tells whether a webhook comes from who knows a secret. Whatever was sent, it answers and never raises.

    A missing, malformed, repeated or wrong signature, and one that is too old, is False. The Standard Webhooks
    headers decide where any of them is there, else X-Webhook-Signature, which has no time in it: a message that it
    signs can be sent once more by who has seen it, so do nothing twice for one request_id.

    Args:
        body: the body's bytes as they came; not what a JSON parser made of them.
        headers: the request's; the case of the names does not matter.
        secrets: the secret, or all that are in force while one is rotated.
        now: seconds since the epoch; the system's clock by default.
        tolerance: seconds by which the message's time may be off.
        plain: whether X-Webhook-Signature alone is enough. False for messages of this gateway, which always sends
            both; true for those of Datalab's cloud.

    Raises:
        ValueError: there is no secret, one is shorter than 16 bytes, or goes on behind `whsec_` without base64.
    """
    given = [secrets] if isinstance(secrets, str | bytes) else secrets
    known = [check_secret(one.encode() if isinstance(one, str) else one) for one in given]
    if not known:
        raise ValueError("there is no secret to verify with")
    moment = time.time() if now is None else now
    return is_signed(bytes(body), sent_with(headers.items()), known, moment, tolerance, plain=plain)

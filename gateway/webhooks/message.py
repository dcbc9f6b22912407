"""The body of a webhook that goes out: pure. Each attempt sends the same bytes."""

import json


def body_of(request_id: str, check_url: str | None, status: str) -> bytes:
    """The body, as Datalab sends it, and the status: complete or failed. No result is in it."""
    members = {"request_id": request_id, "request_check_url": check_url, "status": status}
    return json.dumps(members, separators=(",", ":")).encode()

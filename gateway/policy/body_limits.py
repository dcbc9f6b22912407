"""How large a body may be: pure."""

from gateway.errors import refuse
from gateway.model.reasons import Reason
from gateway.model.request import BodyLimit


def with_framing(limit: int) -> int:
    """A configured limit with room for multipart framing: 0.1 % more, at most 8 KB; in bytes."""
    return limit + min(limit // 1000, 8192)


def check_length(size: int | None, limit: BodyLimit) -> None:
    """Refuses a body that has, or says that it has, more bytes than it may.

    Raises:
        Refused: body_too_large, naming the size, the limit and what sets it.
    """
    if size is not None and size > limit.most:
        detail = f"The body has {size} bytes or more; the limit is {limit.most} ({limit.named_by})."
        raise refuse(Reason.BODY_TOO_LARGE, detail)

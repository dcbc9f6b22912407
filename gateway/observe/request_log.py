"""One structured log event for each request: what it was, its outcome, how long it took. Pure.

The fields are a closed list. None is a header, a query, a path, a body, a token or a file name; of a token that its
issuer signed there are owner and audience, short and visible. The method, which a client may choose freely, is
reduced to a known set by the metrics, and not shown here when unknown.
"""

from datetime import datetime
from typing import Any

from gateway.model.reasons import Reason, Source
from gateway.model.request import Exchange
from gateway.observe.methods import method_named


def level_of(exchange: Exchange) -> str:
    """Errors and warnings are for what an operator should examine: faults of the gateway and of the upstream."""
    if exchange.source is Source.GATEWAY:
        return "info" if exchange.reason is Reason.ANSWERED else "error"
    return "warning" if exchange.source is Source.UPSTREAM and exchange.reason is not Reason.FORWARDED else "info"


def request_event(exchange: Exchange, level: str, at: datetime) -> dict[str, Any]:
    """The event as fields; durations in seconds, sizes in bytes, `at` in UTC."""
    delivery = exchange.delivery
    audience = exchange.bearer.audience if exchange.bearer else None
    event = {
        "timestamp": at,
        "level": level,
        "event": "request",
        "request_id": exchange.request_id,
        "trace_id": exchange.trace.trace_id if exchange.trace else None,
        "client": exchange.client_ip,
        "peer": exchange.peer_ip,
        "method": method_named(exchange.method),
        "route": exchange.route,
        "key": exchange.name,
        "status": exchange.status,
        "reason": exchange.reason,
        "source": exchange.source,
        "detail": exchange.detail,
        **({"why": exchange.why} if exchange.why else {}),
        **({"audience": audience} if audience is not None else {}),
        "duration": round(exchange.ended - exchange.started, 6),
    }
    if delivery is not None:
        event["received"] = delivery.received
        event["sent"] = delivery.sent
        event["upstream_connection"] = delivery.connection
        event["retried"] = delivery.retried
        if delivery.started is not None:
            event["upstream_duration"] = round((delivery.ended or exchange.ended) - delivery.started, 6)
    return event

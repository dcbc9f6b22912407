"""The routes that the gateway answers itself."""

from typing import Final

from gateway.model.networks import Networks
from gateway.model.routes import Access, Kind, Route
from gateway.policy.routes import Rule, compile_pattern


def _own(name: str, access: Access, path: str, *methods: str) -> Rule:
    route = Route(name, Kind.PLAIN, access, is_ours=True)
    return Rule(route, frozenset(methods), compile_pattern(path), None, Networks())


WEBHOOKS: Final = _own("webhooks", Access.ANYONE, "/gateway/v1/webhooks/{name}", "POST")
ME: Final = _own("me", Access.KEY, "/gateway/v1/me", "GET", "HEAD")

# As in Datalab's cloud. They come after the file's own routes, one of which may lead to the container's.
HEALTHS: Final = (
    _own("cloud_health", Access.ANYONE, "/api/v1/health", "GET", "HEAD"),
    _own("cloud_user_health", Access.KEY, "/api/v1/user_health", "GET", "HEAD"),
)
HEALTH_ROUTES: Final = frozenset(rule.route for rule in HEALTHS)

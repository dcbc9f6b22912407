"""Faults between settings that are valid one by one and contradict each other.

Works on the raw document, so that these faults are reported together with all others. Values of the wrong shape are
skipped: the settings themselves report those. Pure.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gateway.config.route_consistency import job_disagreements
from gateway.config.settings import Admin, Listen, ProfileSettings, Settings
from gateway.errors import Fault

Document = dict[str, Any]
_PORT: Final = Listen.model_fields["port"].default
_ADMIN_PORT: Final = Admin.model_fields["port"].default
_PAGES: Final = {
    name: ProfileSettings.model_fields[name].default for name in ("pages_in_flight", "pages_per_request")
}
_SHIPPED_ROUTES: Final = frozenset(
    route.name for route in Settings.model_fields["routes"].get_default(call_default_factory=True)
)
_ASKING: Final = frozenset({"optional", "required"})


def inconsistencies(document: Document) -> Iterator[Fault]:
    """Finds all of them."""
    yield from _listeners(document)
    yield from _client_certificates(document)
    yield from _repeated("keys", document.get("keys"), "id")
    yield from _repeated("routes", document.get("routes"), "name")
    yield from _repeated("authentication.jwt", _section(document, "authentication").get("jwt"), "issuer")
    yield from _profiles_named(document)
    yield from _routes_named(document)
    yield from _pages(document)
    yield from _of_routes_named(document)
    yield from job_disagreements(document)


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A suggestion ("did you mean") as the end of a sentence; empty when no known name is similar."""
    closest = near(wrong, known)
    return "" if closest is None else f"; did you mean {closest}?"


def near(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar; None when none is."""
    return next(iter(difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=0.5)), None)


def _listeners(document: Document) -> Iterator[Fault]:
    network, listen = _mapping(document.get("network")), _mapping(document.get("listen"))
    if listen.get("proxy_protocol") is True and not network.get("trusted_proxies"):
        yield Fault("listen.proxy_protocol", "is on, but network.trusted_proxies names nobody who may use it")
    port = listen.get("port", _PORT)
    if port and port == _mapping(document.get("admin")).get("port", _ADMIN_PORT):
        yield Fault("admin.port", f"{port} is listen.port, too: two listeners need two ports")


def _client_certificates(document: Document) -> Iterator[Fault]:
    tls = _mapping(document.get("tls"))
    mode = tls.get("client_certificates")
    if isinstance(mode, str) and mode in _ASKING and tls.get("client_ca") is None:
        yield Fault("tls.client_certificates", f"is {mode}, but tls.client_ca names no CA to check them against")
    mapping = _section(document, "authentication", "certificates")
    if mapping.get("identity") == "dns":
        path, seen = "authentication.certificates.names", set[str]()
        for name in map(str, _mapping(mapping.get("names"))):
            if name.lower() in seen:
                yield Fault(f"{path}.{name}", "is there already: DNS names have no case")
            seen.add(name.lower())


def _repeated(path: str, entries: Any, name: str) -> Iterator[Fault]:
    """Of two entries with one name the first would be lost: what they are compiled into has names as keys."""
    seen: set[str] = set()
    for i, entry in enumerate(_mappings(entries)):
        value = entry.get(name)
        if isinstance(value, str) and value in seen:
            yield Fault(f"{path}[{i}].{name}", f"{value} is there already", plain="is there already")
        seen.add(str(value))


def _profiles_named(document: Document) -> Iterator[Fault]:
    known = {"default", *map(str, _mapping(document.get("profiles")))}
    authentication = _mapping(document.get("authentication"))
    certificates = _mapping(authentication.get("certificates"))
    places = [
        *((f"keys[{i}]", key) for i, key in enumerate(_mappings(document.get("keys")))),
        *((f"authentication.jwt[{i}]", issuer) for i, issuer in enumerate(_mappings(authentication.get("jwt")))),
        ("authentication.certificates", certificates),
        *(
            (f"authentication.certificates.names.{name}", _mapping(entry))
            for name, entry in _mapping(certificates.get("names")).items()
        ),
    ]
    for path, place in places:
        profile = place.get("profile")
        if isinstance(profile, str) and profile not in known:
            yield Fault(f"{path}.profile", f"there is no profile {profile}{nearest(profile, known)}")


def _routes_named(document: Document) -> Iterator[Fault]:
    routes = document.get("routes")
    written = {str(route.get("name")) for route in _mappings(routes)}
    known = written if "routes" in document else _SHIPPED_ROUTES
    for name, profile in _mapping(document.get("profiles")).items():
        named = _mapping(profile).get("routes")
        for i, route in enumerate(named if isinstance(named, list) else []):
            if isinstance(route, str) and route not in known:
                yield Fault(f"profiles.{name}.routes[{i}]", f"there is no route {route}{nearest(route, known)}")


def _of_routes_named(document: Document) -> Iterator[Fault]:
    """Checks the upstreams and job shapes that routes name."""
    shapes = _section(document, "jobs", "shapes")
    known = {
        "upstream": {"default", *map(str, _mapping(document.get("upstreams")))},
        "job": {"default", *map(str, shapes)},
    }
    kinds = {"upstream": "upstream", "job": "shape in jobs.shapes named"}
    for i, route in enumerate(_mappings(document.get("routes"))):
        for setting, names in known.items():
            name = route.get(setting)
            if isinstance(name, str) and name not in names and "," not in name:
                words = f"there is no {kinds[setting]} {name}{nearest(name, names)}"
                yield Fault(f"routes[{i}].{setting}", words)


def _pages(document: Document) -> Iterator[Fault]:
    """A job that may have more pages than may be in flight could never start."""
    profiles = _mapping(document.get("profiles"))
    for name, profile in profiles.items():
        yield from _too_few_in_flight(f"profiles.{name}", _mapping(profile).get)
    for i, key in enumerate(_mappings(document.get("keys"))):
        limits, profile = _mapping(key.get("limits")), _mapping(profiles.get(str(key.get("profile", "default"))))
        if limits.keys() & _PAGES.keys():
            yield from _too_few_in_flight(f"keys[{i}].limits", {**profile, **limits}.get)


def _too_few_in_flight(path: str, limit: Callable[[str, Any], Any]) -> Iterator[Fault]:
    in_flight, per_request = (limit(name, default) for name, default in _PAGES.items())
    if type(in_flight) is int and type(per_request) is int and in_flight < per_request:
        text = f"{in_flight} is less than pages_per_request ({per_request}): such a job could never start"
        yield Fault(f"{path}.pages_in_flight", text)


def _section(document: Document, *names: str) -> Document:
    for name in names:
        document = _mapping(document.get(name))
    return document


def _mapping(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Document]:
    return [_mapping(entry) for entry in value] if isinstance(value, list) else []

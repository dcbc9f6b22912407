"""Two gateways on one ledger behave as one: real processes, on one SQLite file and on one PostgreSQL."""

import http.client
import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.auth.key_secrets import is_secret
from tests.support.forms import FORM_TYPE, form, image, pdf
from tests.support.process import Process, Served, configure, eventually, run, serving, trusting

FOLLOWS = 2.0  # seconds within which a replica follows a change of keys; the contract's
PROFILES = {
    "default": {"requests_per_minute": 10_000},
    "budget": {"requests_per_minute": 10_000, "pages_per_day": 20},
    "rate": {"requests_per_minute": 10},
    "flight": {"requests_per_minute": 10_000, "pages_in_flight": 12, "pages_per_request": 12},
}


class Pair(NamedTuple):
    """Two gateways before one container, with one ledger."""

    gateways: tuple[Served, Served]
    config: Path
    certificates: Path

    def ask(
        self, which: int, key: str, path: str, body: bytes | None = None
    ) -> tuple[int, http.client.HTTPMessage, dict[str, Any]]:
        """One request to one of them, on a connection of its own."""
        tls = trusting(self.certificates)
        connection = http.client.HTTPSConnection("localhost", self.gateways[which].port, timeout=60, context=tls)
        headers = {"X-API-Key": key} | ({"Content-Type": FORM_TYPE} if body else {})
        try:
            connection.request("POST" if body else "GET", path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, json.loads(response.read())
        finally:
            connection.close()

    def me(self, which: int, key: str) -> dict[str, Any]:
        """What a gateway tells a key of itself."""
        return self.ask(which, key, "/gateway/v1/me")[2]

    def both(self, key: str, status: int) -> None:
        """Waits until both answer a key so, as long as the contract gives them."""
        for which in (0, 1):
            eventually(lambda which=which: self.ask(which, key, "/gateway/v1/me")[0] == status, FOLLOWS)  # type: ignore[misc]

    def keys(self, *arguments: str) -> str:
        """A `gateway keys` command; the secret that it printed, if any."""
        code, output = run("keys", *arguments, "--config", str(self.config))
        assert code == 0, output
        return next((line for line in output.splitlines() if is_secret(line.encode())), "")

    def made(self, key_id: str, profile: str = "default") -> str:
        """Makes a key that both know; its secret."""
        secret = self.keys("create", key_id, "--profile", profile)
        self.both(secret, 200)
        return secret

    def race(self, key: str, count: int) -> Counter[int]:
        """So many one-page submits at once, half of them to each; how often each status came."""
        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda n: self.ask(n % 2, key, "/api/v1/marker", form(image()))[0], range(count))
            return Counter(answers)


@pytest.fixture
def pair(ledger_url: str, tmp_path: Path, certificates: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        container = Process((sys.executable, "-m", "gateway.demo.container", "--port", "0"))
        stack.enter_context(container)
        upstream = container.line(lambda line: line.startswith("container ready on ")).rpartition(" ")[2]
        ledger = {"url": ledger_url, "timeout": "20s"}
        config = configure(tmp_path, certificates, upstream, ledger=ledger, profiles=PROFILES)
        gateways = (stack.enter_context(serving(config)), stack.enter_context(serving(config)))
        yield Pair(gateways, config, certificates)


def test_keys_budgets_and_rates_are_those_of_one_gateway(pair: Pair) -> None:
    budget, rate = pair.made("budget", "budget"), pair.made("rate", "rate")
    answers = pair.race(budget, 40)
    assert answers == {200: 20, 403: 20}, pair.me(0, budget)  # what was charged, and what failed
    passed = pair.race(rate, 30)
    assert passed.keys() == {200, 429}
    assert 10 <= passed[200] <= 12  # one more comes back every six seconds
    standings = [pair.me(which, budget)["limits"]["pages_per_day"] for which in (0, 1)]
    assert standings[0] == standings[1]
    assert standings[0]["remaining"] == 0


def test_what_one_took_the_other_settles_once(pair: Pair) -> None:
    flight = pair.made("flight", "flight")
    status, _, answer = pair.ask(0, flight, "/api/v1/marker", form(pdf(12), mode="fast"))
    assert status == 200
    refused, headers, problem = pair.ask(1, flight, "/api/v1/marker", form(image()))
    assert (refused, problem["reason"]) == (429, "too_many_pages_in_flight")
    assert int(headers["Retry-After"]) > 0
    path = f"/api/v1/marker/{answer['request_id']}"
    eventually(lambda: pair.ask(1, flight, path)[2]["status"] == "complete")
    pair.ask(0, flight, path)
    eventually(lambda: pair.me(0, flight)["limits"]["pages_in_flight"]["used"] == 0)
    assert pair.me(1, flight)["usage"]["day"] == {"requests": 1, "pages": 12, "spend": 0.0}
    assert pair.ask(1, flight, "/api/v1/marker", form(image()))[0] == 200


def test_a_rotated_and_revoked_key_is_so_in_both(pair: Pair) -> None:
    old = pair.made("turning")
    new = pair.keys("rotate", "turning", "--overlap", "1h")
    pair.both(new, 200)
    pair.both(old, 200)
    assert [pair.me(which, new)["generation"] for which in (0, 1)] == [2, 2]
    pair.keys("revoke", "turning", "--generation", "1")
    pair.both(old, 401)
    pair.both(new, 200)
    pair.keys("disable", "turning")
    pair.both(new, 401)

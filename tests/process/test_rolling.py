"""A rolling restart: what stands in front moves the load, and not one request fails."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Final, Self

from tests.support.forms import form, image
from tests.support.process import (
    DEADLINE,
    Served,
    Upstream,
    call,
    configure,
    eventually,
    free_port,
    serving,
    start,
    trusting,
)

_CLIENTS: Final = 4
_ENOUGH: Final = 50
_FORM: Final = form(image(b"x" * 200_000))


class Balancer:
    """What a load balancer knows: which gateways there are, and which of them say that they are ready."""

    def __init__(self) -> None:
        self.targets: list[Served] = []
        self._ends = threading.Event()
        self._chosen: Served | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.set()
        self._thread.join(DEADLINE)

    @property
    def chosen(self) -> Served:
        """Whom the next connection goes to."""
        return eventually(lambda: self._chosen)  # type: ignore[no-any-return]

    def _look(self) -> None:
        while not self._ends.wait(0.05):
            self._chosen = next((target for target in self.targets if _is_ready(target)), None)


def _is_ready(target: Served) -> bool:
    try:
        return target.admin("/readyz")[0] == 200
    except OSError:
        return False


class Load:
    """Clients that poll for one job and upload as fast as they can, on connections that are kept."""

    def __init__(self, balancer: Balancer, certificates: Path) -> None:
        self.failures: list[str] = []
        self.served_by: Counter[int] = Counter()
        self._balancer = balancer
        self._tls = trusting(certificates)
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(_CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(DEADLINE)

    def has_moved_to(self, target: Served) -> bool:
        """Whether a gateway has served enough to be counted on."""
        return self.served_by[target.port] >= _ENOUGH or bool(self.failures)

    def _run(self, number: int) -> None:
        while not self._ends.is_set() and not self.failures:
            target = self._balancer.chosen
            connection = http.client.HTTPSConnection("127.0.0.1", target.port, timeout=DEADLINE, context=self._tls)
            try:
                self._use(connection, target, number)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{target.port}: {error!r}")
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPSConnection, target: Served, number: int) -> None:
        """Keeps a connection until its gateway says close, or another one is chosen."""
        while not self._ends.is_set() and self._balancer.chosen is target:
            if number == 0:
                status, body = call(connection, "/api/v1/marker", "POST", _FORM)
            else:
                status, body = call(connection, "/api/v1/marker/job")
            if status != 200 or json.loads(body) != {"name": "container"}:
                self.failures.append(f"{target.port}: {status}")
            self.served_by[target.port] += 1
            if connection.sock is None:
                return


@contextmanager
def gateway(directory: Path, certificates: Path, upstream: Upstream, port: int) -> Iterator[Served]:
    directory.mkdir()
    listen = {"address": "127.0.0.1", "port": port}
    shutdown = {"drain_delay": "1s", "drain_timeout": "20s"}
    limits = {
        "default": {"requests_per_minute": 1_000_000, "polls_per_minute": 1_000_000, "pages_in_flight": 1_000_000}
    }
    ledger = {"url": f"sqlite:///{directory.parent}/ledger.db"}  # whose a job is, all know
    path = configure(
        directory, certificates, upstream.url, listen=listen, shutdown=shutdown, profiles=limits, ledger=ledger
    )
    with serving(path) as served:
        yield served


def test_no_request_fails(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    with ExitStack() as stack, Balancer() as balancer:

        def begin(name: str, port: int) -> Served:
            made = stack.enter_context(gateway(tmp_path / name, certificates, upstream, port))
            balancer.targets.append(made)
            return made

        def replace(old: Served, new: Served) -> None:
            old.process.send(SIGTERM)
            assert old.process.exit_code() == 0
            balancer.targets.remove(old)
            eventually(lambda: load.has_moved_to(new))

        first = begin("first", free_port())
        submitting = http.client.HTTPSConnection(
            "127.0.0.1", first.port, timeout=DEADLINE, context=trusting(certificates)
        )
        with closing(submitting) as connection:
            start(connection, "job")
        with Load(balancer, certificates) as load:
            eventually(lambda: load.has_moved_to(first))
            second = begin("second", free_port())
            replace(first, second)
            third = begin("third", first.port)  # the port of the one that ended can be bound at once
            load.served_by.clear()
            replace(second, third)
        assert load.failures == []
        third.process.send(SIGTERM)
        assert third.process.exit_code() == 0

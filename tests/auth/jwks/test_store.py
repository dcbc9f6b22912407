"""When keys are fetched, kept and dropped. The clock is the test's, and so is the provider."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.aio.drive import Drive
from gateway.auth.jwks.fetch import FetchFailed
from gateway.auth.jwks.source import KeySource
from gateway.auth.jwks.store import KeySets
from gateway.auth.jwt.key_set import KeySet, read_jwks
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.config.compile import compile_issuers
from gateway.config.settings import JwtIssuer
from tests.support.tokens import ASYMMETRIC, ISSUER, NOW, PROFILES, jwk_of, jwks_of, make_token, p256_key, rsa_key

pytestmark = pytest.mark.usefixtures("plain_log")

OTHER = "https://other.example"
FIRST, SECOND = (read_jwks(jwks_of(jwk_of(p256_key(i), kid=str(i))), ASYMMETRIC) for i in (0, 1))
LOCAL = read_jwks(jwks_of(jwk_of(rsa_key())), ASYMMETRIC)


def issuer_of(name: str = ISSUER, **members: Any) -> JwtIssuer:
    values = {"issuer": name, "audience": "gateway", "jwks": f"{name}/keys", "refresh": "600s", "stale": "1h"}
    return JwtIssuer.model_validate({**values, **members})


class Provider:
    """Answers fetches with what `answers` holds for the issuer; with `gate`, not before that is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answers: dict[str, KeySet | Exception] = {ISSUER: FIRST, OTHER: FIRST}
        self.gate: asyncio.Event | None = None
        self.fetches: list[tuple[float, str]] = []
        self.changes: list[Mapping[str, KeySet]] = []
        self.sets = KeySets(self.changes.append, self.fetch, clock=lambda: self.now, dice=lambda: 0.5)

    async def fetch(self, issuer: KeySource, deadline: float) -> KeySet:
        assert deadline == 5.0
        self.fetches.append((self.now, issuer.issuer))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers[issuer.issuer]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def after(self, seconds: float | None) -> float | None:
        """Lets time pass, and does what is due then."""
        assert seconds is not None
        self.now += seconds
        return await self.sets.refresh()

    async def turns(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 -- fetches tell nobody
                await asyncio.sleep(0)


@pytest.fixture
def provider() -> Provider:
    return Provider()


async def test_keys_are_fetched_at_the_start_and_at_half_their_age(provider: Provider) -> None:
    issuers = [issuer_of(), issuer_of(OTHER, refresh="100s")]
    assert provider.sets.configure(issuers, {"local": LOCAL}) == {"local": LOCAL}
    assert (provider.sets.is_ready, provider.sets.ages()) == (False, {})
    with capture_logs() as events:
        assert await provider.after(0) == 50
    assert events[0] == {
        "event": "jwks fetched", "log_level": "info", "issuer": ISSUER, "keys": 1, "skipped": {},
    }  # fmt: skip
    assert provider.sets.is_ready
    assert provider.sets.sets == provider.changes[-1] == {"local": LOCAL, ISSUER: FIRST, OTHER: FIRST}
    assert await provider.after(49) == 1
    assert provider.sets.ages() == {ISSUER: 49, OTHER: 49}
    assert await provider.after(1) == 50
    assert provider.sets.ages() == {ISSUER: 50, OTHER: 0}
    assert provider.sets.results == {"success": 3, "failure": 0}


async def test_nothing_to_fetch_is_ready_and_nothing_is_due(provider: Provider) -> None:
    assert provider.sets.configure([], {"local": LOCAL}) == {"local": LOCAL}
    assert provider.sets.is_ready
    assert await provider.sets.refresh() is None
    assert not await provider.sets.refetch("local")
    assert not await provider.sets.refetch("unknown")


async def test_the_same_keys_are_no_change(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.answers[ISSUER] = read_jwks(jwks_of(jwk_of(p256_key(0), kid="0")), ASYMMETRIC)
    with capture_logs() as events:
        await provider.after(300)
    assert (len(provider.changes), events) == (1, [])
    assert provider.sets.sets[ISSUER] is FIRST
    provider.answers[ISSUER] = SECOND
    await provider.after(300)
    assert provider.changes[1:] == [{ISSUER: SECOND}]


async def test_a_refresh_that_a_reload_makes_shorter_counts_at_once(provider: Provider) -> None:
    """Keys were fetched again when half of the former one was over."""
    provider.sets.configure([issuer_of(refresh="10m")], {})
    assert await provider.after(0) == 300
    assert await provider.after(20) == 280
    provider.sets.configure([issuer_of(refresh="1m")], {})
    assert await provider.after(0) == 10
    provider.sets.configure([issuer_of(refresh="10m")], {})
    assert await provider.after(0) == 10  # it was to be then, and is not put off


@pytest.mark.parametrize(("dice", "pause"), [(0.0, 270.0), (0.5, 300.0), (1.0, 330.0)])
async def test_refreshes_are_spread(dice: float, pause: float) -> None:
    provider = Provider()
    sets = KeySets(provider.changes.append, provider.fetch, clock=lambda: 0.0, dice=lambda: dice)
    sets.configure([issuer_of()], {})
    assert await sets.refresh() == pytest.approx(pause)


async def test_failures_are_tried_again_less_and_less_often(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    provider.answers[ISSUER] = FetchFailed("no connection")
    pause: float | None = 0
    pauses = []
    with capture_logs() as events:
        for _ in range(15):
            pause = await provider.after(pause)
            pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 32, *[60] * 9]
    assert events[2] == {
        "event": "jwks fetch failed", "log_level": "warning", "issuer": ISSUER, "why": "no connection", "retry_in": 4,
        "held": 0,
    }  # fmt: skip
    assert not provider.sets.is_ready
    assert provider.sets.results == {"success": 0, "failure": 15}
    provider.answers[ISSUER] = FIRST
    assert await provider.after(pause) == 300
    provider.answers[ISSUER] = FetchFailed("no connection")
    assert await provider.after(300) == 1


async def test_the_last_good_set_outlives_failures_until_it_is_stale(provider: Provider) -> None:
    provider.sets.configure([issuer_of(stale="310s")], {})
    await provider.after(0)
    provider.answers[ISSUER] = FetchFailed("the answer is 500")
    pause = await provider.after(300)
    for _ in range(3):
        assert provider.sets.sets == {ISSUER: FIRST}
        pause = await provider.after(pause)
    assert pause == 3  # not the 8 seconds to the next fetch: that is when the set is stale
    with capture_logs() as events:
        pause = await provider.after(pause)
    assert [(entry["event"], entry.get("age")) for entry in events] == [("jwks dropped", 310)]
    assert provider.changes == [{ISSUER: FIRST}, {}]
    assert provider.sets.sets == {}
    assert provider.sets.is_ready
    assert provider.sets.ages() == {ISSUER: 310}
    provider.answers[ISSUER] = FIRST
    await provider.after(pause)
    assert provider.sets.sets == provider.changes[-1] == {ISSUER: FIRST}


async def test_a_set_that_can_be_fetched_is_never_stale(provider: Provider) -> None:
    provider.sets.configure([issuer_of(stale="1s")], {})
    await provider.after(0)
    assert await provider.after(299) == 1
    assert provider.sets.sets == {ISSUER: FIRST}


async def test_a_flapping_provider_keeps_its_keys(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    pause: float | None = 0
    for number in range(20):
        provider.answers[ISSUER] = FIRST if number % 2 == 0 else FetchFailed("no connection")
        pause = await provider.after(pause)
        assert provider.sets.sets == {ISSUER: FIRST}
    assert len(provider.changes) == 1


async def test_an_error_that_nobody_thought_of_ends_nothing(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    provider.answers[ISSUER] = RuntimeError("canary")
    with capture_logs() as events:
        assert await provider.after(0) == 1
    assert events[0]["why"].startswith("RuntimeError at test_store.py:")
    assert "canary" not in str(events)


async def test_a_reload_keeps_what_comes_from_where_it_came_from(provider: Provider) -> None:
    provider.sets.configure([issuer_of(), issuer_of(OTHER)], {})
    await provider.after(0)
    changed = [issuer_of(leeway="10s", algorithms=["ES256"]), issuer_of(OTHER, jwks=f"{OTHER}/elsewhere")]
    assert provider.sets.configure(changed, {}) == {ISSUER: FIRST}
    assert provider.sets.is_ready  # it was
    assert provider.sets.without_keys == [OTHER]
    assert len(provider.changes) == 2
    await provider.after(0)
    assert [name for _, name in provider.fetches] == [ISSUER, OTHER, OTHER]
    assert provider.sets.configure([issuer_of(discovery=True, jwks=None)], {"local": LOCAL}) == {"local": LOCAL}


async def test_an_issuer_that_came_after_all_had_keys_is_told_and_blocks_nothing(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {"local": LOCAL})
    assert (provider.sets.is_ready, provider.sets.without_keys) == (False, [ISSUER])
    await provider.after(0)
    provider.answers[OTHER] = FetchFailed("no connection")
    provider.sets.configure([issuer_of(), issuer_of(OTHER)], {"local": LOCAL})
    await provider.after(0)
    assert (provider.sets.is_ready, provider.sets.without_keys) == (True, [OTHER])
    assert provider.sets.counts == {ISSUER: 1, OTHER: 0, "local": 1}
    provider.answers[OTHER] = FIRST
    await provider.after(1)
    assert provider.sets.without_keys == []
    assert provider.sets.counts[OTHER] == 1


async def test_before_all_had_keys_an_issuer_that_a_reload_adds_blocks_until_it_goes(provider: Provider) -> None:
    provider.answers |= {ISSUER: FetchFailed("no connection"), OTHER: FetchFailed("no connection")}
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.sets.configure([issuer_of(), issuer_of(OTHER)], {})
    provider.answers[ISSUER] = FIRST
    await provider.after(1)
    assert (provider.sets.is_ready, provider.sets.without_keys) == (False, [OTHER])
    provider.sets.configure([issuer_of()], {})
    assert (provider.sets.is_ready, provider.sets.without_keys) == (True, [])


async def test_one_without_issuers_at_the_start_stays_ready(provider: Provider) -> None:
    provider.sets.configure([], {})
    provider.answers[ISSUER] = FetchFailed("no connection")
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    assert (provider.sets.is_ready, provider.sets.without_keys) == (True, [ISSUER])


async def test_a_failed_fetch_says_how_many_keys_are_held(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.answers[ISSUER] = FetchFailed("no connection")
    with capture_logs() as events:
        await provider.after(300)
    assert [entry["held"] for entry in events] == [1]


async def test_a_fetch_for_a_configuration_of_yesterday_changes_nothing(provider: Provider) -> None:
    provider.gate = asyncio.Event()
    provider.sets.configure([issuer_of()], {})
    refresh = asyncio.get_running_loop().create_task(provider.sets.refresh())
    await provider.turns(lambda: provider.fetches)
    provider.sets.configure([issuer_of(OTHER)], {})
    provider.gate.set()
    await refresh
    assert provider.changes == []
    assert provider.sets.sets == {}


async def test_an_unknown_key_is_fetched_once_for_all_who_ask(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.gate, provider.answers[ISSUER] = asyncio.Event(), SECOND
    asked = asyncio.gather(*(provider.sets.refetch(ISSUER) for _ in range(50)))
    await provider.turns(lambda: len(provider.fetches) == 2)
    provider.gate.set()
    assert await asked == [True] * 50
    assert len(provider.fetches) == 2
    assert provider.sets.sets == {ISSUER: SECOND}


async def test_who_waited_for_a_fetch_goes_on_a_few_at_a_time(provider: Provider) -> None:
    """Each is answered at once then: thousands of them would hold the loop for all others."""
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.gate, provider.answers[ISSUER] = asyncio.Event(), SECOND
    asked = [asyncio.ensure_future(provider.sets.refetch(ISSUER)) for _ in range(100)]
    await provider.turns(lambda: len(provider.fetches) == 2)
    asked[7].cancel()
    provider.gate.set()
    most = before = 0
    while before < len(asked):
        await asyncio.sleep(0)
        done = sum(one.done() for one in asked)
        most, before = max(most, done - before), done
    assert most <= 17
    assert sum(not one.cancelled() and one.result() for one in asked) == 99


async def test_a_flood_of_unknown_keys_is_one_fetch_in_half_a_minute(provider: Provider) -> None:
    provider.sets.configure([issuer_of(), issuer_of(OTHER)], {})
    await provider.after(0)
    for _ in range(100):
        assert not await provider.sets.refetch(ISSUER)
    assert len(provider.fetches) == 3
    assert not await provider.sets.refetch(OTHER)
    assert len(provider.fetches) == 4
    provider.answers[ISSUER] = SECOND
    provider.now += 29.9
    assert not await provider.sets.refetch(ISSUER)
    provider.now += 0.1
    assert await provider.sets.refetch(ISSUER)


async def test_a_refetch_that_fails_keeps_the_keys(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.answers[ISSUER] = FetchFailed("the answer is 500")
    assert not await provider.sets.refetch(ISSUER)
    assert provider.sets.sets == {ISSUER: FIRST}
    assert await provider.sets.refresh() == 1


async def test_who_asks_while_a_refresh_is_under_way_waits_for_that(provider: Provider) -> None:
    provider.gate = asyncio.Event()
    provider.sets.configure([issuer_of()], {})
    loop = asyncio.get_running_loop()
    refresh = loop.create_task(provider.sets.refresh())
    await provider.turns(lambda: provider.fetches)
    again, asked = loop.create_task(provider.sets.refresh()), loop.create_task(provider.sets.refetch(ISSUER))
    await asyncio.sleep(0)
    provider.gate.set()
    assert await asked
    await asyncio.gather(refresh, again)
    assert len(provider.fetches) == 1


class Driven:
    """A request without a task, as the listener runs it."""

    def __init__(self, awaited: Coroutine[Any, Any, bool]) -> None:
        self.result: bool | None = None
        self.error: BaseException | None = None
        self.ended = asyncio.Event()

        async def request() -> None:
            self.result = await awaited

        self.drive = Drive(request(), self._end)
        self.drive.step()

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        self.ended.set()


async def test_a_request_without_a_task_can_wait_and_give_up(provider: Provider) -> None:
    provider.sets.configure([issuer_of()], {})
    await provider.after(0)
    provider.gate, provider.answers[ISSUER] = asyncio.Event(), SECOND
    given_up, patient = Driven(provider.sets.refetch(ISSUER)), Driven(provider.sets.refetch(ISSUER))
    await provider.turns(lambda: len(provider.fetches) == 2)
    given_up.drive.interrupt(TimeoutError("the client left"))
    assert isinstance(given_up.error, TimeoutError)
    provider.gate.set()
    await patient.ended.wait()
    assert (patient.result, patient.error) == (True, None)
    at_once = Driven(provider.sets.refetch(ISSUER))
    assert at_once.result is False


async def test_run_fetches_wakes_for_a_reload_and_ends_with_all_it_began(provider: Provider) -> None:
    provider.sets.configure([], {})
    run = asyncio.get_running_loop().create_task(provider.sets.run())
    await asyncio.sleep(0)
    provider.sets.configure([issuer_of()], {})
    await provider.turns(lambda: provider.sets.sets)
    provider.gate = asyncio.Event()
    provider.sets.configure([issuer_of(), issuer_of(OTHER)], {})
    await provider.turns(lambda: len(provider.fetches) == 2)
    waiting = Driven(provider.sets.refetch(OTHER))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await waiting.ended.wait()
    assert (waiting.result, waiting.error) == (False, None)
    assert provider.sets.results == {"success": 1, "failure": 0}
    assert repr(provider.sets) == "<KeySets sets=1 providers=2 fetching=0>"


async def test_run_goes_on_when_its_pause_is_over() -> None:
    provider = Provider()
    sets = KeySets(provider.changes.append, provider.fetch, dice=lambda: 0.5)
    sets.configure([issuer_of(refresh="10ms")], {})
    run = asyncio.get_running_loop().create_task(sets.run())
    await provider.turns(lambda: len(provider.fetches) > 3)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert len(provider.changes) == 1


async def test_a_rotated_key_is_let_in_after_one_fetch(provider: Provider) -> None:
    settings = [issuer_of(audience="gateway", algorithms=["ES256"])]
    provider.sets.configure(settings, {})
    token = make_token("ES256", p256_key(1), {"kid": "1"})
    for expected in (FIRST, SECOND):
        provider.answers[ISSUER] = expected
        with pytest.raises(KeyUnknown) as caught:
            identify(token, compile_issuers(settings, provider.sets.sets), PROFILES, NOW)
        provider.now += 30
        assert await provider.sets.refetch(caught.value.issuer)
    assert identify(token, compile_issuers(settings, provider.sets.sets), PROFILES, NOW).owner.endswith("#alice")

"""One sample of each measure: what one peer used for one kind of work. Keys of the samples are in metrics.py."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from subprocess import SubprocessError

from bench import load
from bench.backend import WAITED
from bench.client import Errand, answer, connect, submit
from bench.options import Options
from bench.peers import Peer
from bench.process import NotRunningError
from bench.site import Site, pause
from bench.usage import cpu_seconds, page_faults

Sample = dict[str, float]
GB = 1e9
FAULTS = (NotRunningError, OSError, HTTPException, SubprocessError)  # how a measure may fail


@dataclass(frozen=True, slots=True)
class Bout:
    """One peer, ready to be measured: it knows a running job, a finished one, and a running one of a token."""

    peer: Peer
    site: Site
    options: Options
    poll: str
    result: str
    token_poll: str

    def errand(self, do: str, path: str, streams: int, count: int, **more: str | float) -> Errand:
        """An errand for this peer, bounded in time far beyond what it needs."""
        base = Errand(do, self.peer.port, self.site.key, path, streams, count, seconds=60)
        return dataclasses.replace(base, **more)  # type: ignore[arg-type]

    def cpu(self) -> float:
        """CPU seconds that the peer has used so far."""
        return cpu_seconds(self.peer.pid)


def untouched(peer: Peer, site: Site, options: Options) -> Bout:
    """A peer through which nothing was submitted."""
    return Bout(peer, site, options, "", "", "")


def prepare(peer: Peer, site: Site, options: Options) -> Bout:
    """Submits one job of each kind through the peer, so that the key owns what is read later."""
    small = Errand("upload", peer.port, site.key, "", 1, 1, 60, size=1000)
    link = connect(small)
    marker, ocr = (submitted(link, dataclasses.replace(small, path=f"/api/v1/{kind}")) for kind in ("marker", "ocr"))
    by_token = marker
    if peer.who.is_gateway:
        by_token = submitted(link, dataclasses.replace(small, path="/api/v1/marker", key=peer.who.token))
    link.close()
    paths = (f"/api/v1/marker/{marker}", f"/api/v1/ocr/{ocr}", f"/api/v1/marker/{by_token}")
    return Bout(peer, site, options, *paths)


def submitted(link: HTTPSConnection, errand: Errand) -> str:
    """Submits and returns the request_id."""
    submit(link, errand)
    with answer(link) as response:
        said: dict[str, str] = json.loads(response.read())
    return said["request_id"]


def also(first: Sample, name: str, then: Callable[[], Sample]) -> Sample:
    """A sample and a further part of it; if that fails, the first part stays."""
    try:
        return first | then()
    except FAULTS as fault:
        print(f"           {name} FAILED: {fault}", flush=True)
        return first


def polls(bout: Bout) -> Sample:
    """Small polls on 32 keep-alive connections."""
    before = bout.cpu()
    seen = load.polls(f"https://127.0.0.1:{bout.peer.port}{bout.poll}", bout.site.key, 32, bout.options.seconds)
    return {"poll_cpu": (bout.cpu() - before) / seen.requests * 1e6, "poll_rate": seen.rate}


def tokens(bout: Bout) -> Sample:
    """The same polls with a JWT; of the gateway alone, whose peers here know no tokens."""
    if not bout.peer.who.is_gateway:
        return {}
    before = bout.cpu()
    url = f"https://127.0.0.1:{bout.peer.port}{bout.token_poll}"
    seen = load.polls(url, bout.peer.who.token, 32, bout.options.seconds)
    return {"token_cpu": (bout.cpu() - before) / seen.requests * 1e6}


def submits(bout: Bout) -> Sample:
    """Small forms, one after the other: what a submit costs besides its bytes."""
    before = bout.cpu()
    done = load.send(bout.errand("upload", "/api/v1/marker", 1, 100_000, size=2000, seconds=bout.options.seconds))
    return {
        "submit_cpu": (bout.cpu() - before) / done.count * 1e6,
        "submit_time": done.seconds / done.count * 1e6,
    }


def transfer(bout: Bout, kind: str, errand: Errand) -> Sample:
    """CPU and page faults per GB of an errand that moves bytes."""
    before, faults = bout.cpu(), page_faults(bout.peer.pid)
    done = load.send(errand)
    used, touched = bout.cpu() - before, page_faults(bout.peer.pid) - faults
    return {f"{kind}_cpu": used / done.bytes * GB, f"{kind}_faults": touched / done.bytes * GB}


def uploads(bout: Bout) -> Sample:
    """Large forms, two at a time; nothing in them to count."""
    size, count = bout.options.upload_size, bout.options.transfers
    return transfer(bout, "upload", bout.errand("upload", "/api/v1/marker", 2, count, size=size))


def inspected(bout: Bout) -> Sample:
    """The same with a PDF, whose pages the gateway counts; to the others it is one more upload."""
    size, count = bout.options.upload_size, bout.options.transfers
    errand = bout.errand("upload", "/api/v1/marker", 2, count, size=size, filename="bench.pdf")
    return transfer(bout, "inspected", errand)


def downloads(bout: Bout) -> Sample:
    """Large results, two at a time."""
    return transfer(bout, "download", bout.errand("download", bout.result, 2, 2 * bout.options.transfers))


def handshakes(bout: Bout) -> Sample:
    """A new connection with a full handshake for each poll."""
    before = bout.cpu()
    done = load.send(bout.errand("handshake", bout.poll, 4, 100_000, seconds=bout.options.seconds))
    return {"handshake_cpu": (bout.cpu() - before) / done.count * 1e6}


def resumed(bout: Bout) -> Sample:
    """A new connection with a resumed session for each poll."""
    before = bout.cpu()
    done = load.send(bout.errand("resumed", bout.poll, 4, 100_000, seconds=bout.options.seconds))
    return {"resumed_cpu": (bout.cpu() - before) / done.count * 1e6}


def latency(bout: Bout) -> Sample:
    """What the peer adds to the median poll of a single client, against the backend without TLS."""
    seconds = max(1, bout.options.seconds / 2)
    through = load.polls(f"https://127.0.0.1:{bout.peer.port}{bout.poll}", bout.site.key, 1, seconds)
    direct = load.polls(f"http://127.0.0.1:{bout.site.upstream}{bout.poll}", bout.site.key, 1, seconds)
    return {"latency": float(through.p50 - direct.p50)}


def mixed(bout: Bout) -> Sample:
    """Polls of eight clients at their own pace while four uploads run."""
    seconds = bout.options.seconds
    errand = bout.errand("upload", "/api/v1/marker", 4, 4000, size=bout.options.upload_size, seconds=seconds + 1)
    with load.sending(errand) as process:
        pause(1)
        seen = load.paced(bout.errand("poll", bout.poll, 8, 100_000, seconds=seconds))
        done = load.outcome(errand, process)
    return {"mixed_p50": seen["p50"], "mixed_p99": seen["p99"], "mixed_rate": done.bytes / done.seconds / 1e6}


def waits(bout: Bout) -> Sample:
    """Four clients wait for the end of a job: held by the gateway, polling each second through the others."""
    do = "hold" if bout.peer.who.is_gateway else "poll"
    seen = load.waiting(bout.errand(do, "/api/v1/marker", 4, 2 * max(1, round(bout.options.seconds)), size=WAITED))
    return {"wait_late": seen["late"], "wait_asked": seen["asked"]}

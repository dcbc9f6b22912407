from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.engine import Engine
from tests.support.backend import Backend
from tests.support.room import Container, Room

MakeRoom = Callable[..., Room]


@pytest.fixture
def container(backend: Backend) -> Container:
    """What the upstream says of jobs."""
    backend.script = made = Container()
    return made


@pytest.fixture
async def make_room(
    engine: Engine, backend: Backend, container: Container, tmp_path: Path
) -> AsyncIterator[MakeRoom]:
    """Makes replicas on one ledger, before one container; at the end nothing of them is under way."""
    del container
    rooms: list[Room] = []

    def make(**options: Any) -> Room:
        directory = tmp_path / f"room-{len(rooms)}"
        directory.mkdir()
        rooms.append(Room(engine, backend.port, directory, **options))
        return rooms[-1]

    yield make
    for room in rooms:
        await room.close()
        assert "running=0" in repr(room.upstream_client)
        assert "running=0" in repr(room.background)


@pytest.fixture
async def room(make_room: MakeRoom) -> Room:
    """One replica."""
    return make_room()

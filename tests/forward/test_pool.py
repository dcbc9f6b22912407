import asyncio

from gateway.drive import Drive
from gateway.errors import ClientGone
from gateway.forward.pool import Pool
from gateway.state import UpstreamTarget
from tests.support.iteration import iteration_now


async def test_a_client_that_leaves_as_its_connection_is_made_leaves_none_behind() -> None:
    """The task that connects is done, its callback is not yet called: the result would belong to nobody."""
    ended = asyncio.Event()
    lost = asyncio.Event()

    class Upstream(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            lost.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Pool(
        UpstreamTarget("http", "127.0.0.1", port, f"127.0.0.1:{port}", 1.0, 1.0, 1.0, "/", 3.0), loop, iteration_now()
    )
    errors: list[BaseException | None] = []

    async def ask() -> None:
        await pool.connect()

    def told(error: BaseException | None) -> None:
        errors.append(error)
        ended.set()

    drive = Drive(ask(), told)
    drive.step()
    while not len(pool):  # noqa: ASYNC110 -- the very turn is what is tested
        await asyncio.sleep(0)
    drive.interrupt(ClientGone("left"))
    async with asyncio.timeout(10):
        await ended.wait()
        await lost.wait()
        while len(pool):  # noqa: ASYNC110 -- likewise
            await asyncio.sleep(0)
    assert isinstance(errors[0], ClientGone)
    server.close()
    await server.wait_closed()

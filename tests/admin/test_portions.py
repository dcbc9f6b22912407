"""A long answer is made in several iterations of the loop."""

import asyncio

from gateway.admin.portions import convert_all


async def test_a_long_answer_lets_others_go_on() -> None:
    loop, converted, seen = asyncio.get_running_loop(), list[int](), list[int]()

    def look() -> None:
        seen.append(len(converted))
        loop.call_soon(look)

    def convert(row: int) -> str:
        converted.append(row)
        return str(row)

    loop.call_soon(look)
    found = await convert_all(range(170), convert)
    look = lambda: None  # noqa: E731 -- it calls itself no more
    assert found == [str(row) for row in range(170)]
    assert seen[:3] == [50, 100, 150]


async def test_nothing_is_converted_to_nothing() -> None:
    assert await convert_all([], str) == []

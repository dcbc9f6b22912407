"""PostgreSQL's URLs: what of them is read, and that no fault and no name shows a part of a password."""

import pytest

from gateway.ledger.postgres_url import Host, read_postgres_url
from gateway.ledger.url import place_of, shown_url


@pytest.mark.parametrize(
    ("url", "hosts", "database"),
    [
        ("postgresql://me:pw@db/ledger", (Host("db", 5432),), "ledger"),
        ("postgres://me@db:1", (Host("db", 1),), "me"),
        ("postgresql://me@a:1,b:2/x?target_session_attrs=read-write", (Host("a", 1), Host("b", 2)), "x"),
        ("postgresql://me@a,b:2/x", (Host("a", 5432), Host("b", 2)), "x"),
        ("postgresql://me@[::1]:1,[fe80::1]/x", (Host("::1", 1), Host("fe80::1", 5432)), "x"),
        ("postgresql://me@%2Frun%2Fpg/x", (Host("/run/pg", 5432),), "x"),
        ("postgresql://me@/x?host=/run/pg", (Host("/run/pg", 5432),), "x"),
        ("postgresql:///?host=a,b&port=1,2&user=me&dbname=x", (Host("a", 1), Host("b", 2)), "x"),
        ("postgresql:///x?host=a,b&port=7", (Host("a", 7), Host("b", 7)), "x"),
        ("postgresql://me@/x", (), "x"),
    ],
)
def test_hosts_and_database_are_read_as_libpq_reads_them(url: str, hosts: tuple[Host, ...], database: str) -> None:
    found = read_postgres_url(url)
    assert (found.hosts, found.database) == (hosts, database)


# Each password holds CAN, ARY or 4711, and each has something that is not percent-encoded.
WRONG = [
    "postgresql://me:CAN/ARY@db/x",
    "postgresql://me:4711/ARY@db/x",
    "postgresql://me:4711?ARY@db/x",
    "postgresql://me:4711?ARY=1@db/x",
    "postgresql://me:4711?user=ARY@db/x",
    "postgresql://me:4711#ARY@db/x",
    "postgresql://me:CAN#ARY@db/x",
    "postgresql://me:CAN@ARY@db/x",
    "postgresql://me:CAN@ARY/4711@db/x",
    "postgresql://me:CAN[ARY@db/x",
    "postgresql://me:CAN]ARY@db/x",
    "postgresql://me:CAN ARY@db/x",
    "postgresql://me:CAN\nARY@db/x",
    "postgresql://me:CAN%00ARY@db/x",
    "postgresql://me:CANARY@db:4711x/x",
    "postgresql://me:CANARY@db:99999/x",
    "postgresql://me:CANARY@db,/x",
    "postgresql://me:CANARY@a..b/x",
    "postgresql://me:CANARY@.b/x",
    "postgresql://me:CANARY@" + "b" * 64 + "/x",
    "postgresql://me:CANARY@\u00fc.test/x",
    "postgresql://me:CANARY@db/x?password",
    "postgresql://me:CANARY@db/x?4711=ARY",
    "postgresql://me:CANARY@db/x?sslmode=ARY",
    "postgresql://me:CANARY@db/x?target_session_attrs=ARY",
    "postgresql://me:CANARY@db/x?channel_binding=require",
    "postgresql://me@a,b/x?host=a&port=1,2&password=CANARY@db",
    "postgresql:///x?host=a,b&port=1,2,3&password=CANARY",
]


@pytest.mark.parametrize("url", WRONG)
def test_what_is_wrong_is_told_without_a_part_of_the_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- what it says is looked at below
        read_postgres_url(url)
    told = f"{caught.value} {shown_url(url)}"
    assert not any(part in told for part in ("CAN", "ARY", "4711"))
    assert caught.value.__cause__ is None


def test_only_who_logs_in_and_how_may_differ_within_one_place() -> None:
    place = place_of("postgresql://me:a@db/x")
    for url in ("postgresql://you:b@db:5432/x", "postgres://db/x?user=z&password=%40&sslmode=require"):
        assert place_of(url) == place
    for url in ("postgresql://me:a@db2/x", "postgresql://me:a@db/y", "postgresql://me:a@db/x?search_path=z"):
        assert place_of(url) != place
    assert place_of("sqlite:///x") != place_of("sqlite:///y")

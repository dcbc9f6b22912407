"""Usage as programs read it: CSV that no spreadsheet runs, sums that are exact."""

import csv
import io

import pytest

from gateway.cli.run_usage import as_csv
from gateway.cli.table import printable
from gateway.cli.words import money
from gateway.ledger.usage import UsedByMode, UsedOnDay

HEADING = "day,key,requests,failed,pages,refunded,spend"


def used(account: str, spend: int = 0, pages: int = 3) -> UsedOnDay:
    return UsedOnDay(account, 20261123, 2, 1, pages, 4, spend)


def test_rows_end_as_rfc_4180_wants() -> None:
    text = as_csv([used("key:ci", 1_250_000), used("anyone", pages=-3)])
    assert text == f"{HEADING}\r\n2026-11-23,ci,2,1,3,4,1.25\r\n2026-11-23,(without a key),2,1,-3,4,0.00\r\n"
    assert as_csv([]) == f"{HEADING}\r\n"


def test_a_sum_that_was_given_back_is_a_number() -> None:
    assert as_csv([used("key:ci", -250_000)]).endswith(",-0.25\r\n")


def test_modes_have_a_column_of_their_own() -> None:
    row = UsedByMode("key:ci", 20261123, "fast", 2, 1, 3, 4, 1_250_000)
    text = as_csv([row, row._replace(mode="")], by_mode=True)
    heading = HEADING.replace("key,", "key,mode,")
    assert text == f"{heading}\r\n2026-11-23,ci,fast,2,1,3,4,1.25\r\n2026-11-23,ci,(unknown),2,1,3,4,1.25\r\n"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1"])
def test_no_name_is_a_formula(name: str) -> None:
    ((_, found, *_),) = list(csv.reader(io.StringIO(as_csv([used(name)]), newline="")))[1:]
    assert found == f"'{name}"


@pytest.mark.parametrize("name", ['jwt:https://idp#a,"b"', "jwt:x#a\r\nb", "cert:CN, O"])
def test_a_name_is_one_cell_whatever_is_in_it(name: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv([used(name)]), newline="")))
    assert [len(row) for row in rows] == [7, 7]
    assert rows[1][1] == name


@pytest.mark.parametrize(
    ("millionths", "told"),
    [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (-250_000, "-0.25"), (10**18 + 10, "1000000000000.00001")],
)
def test_money_is_exact(millionths: int, told: str) -> None:
    assert money(millionths) == told


def test_nothing_from_outside_moves_a_cursor() -> None:
    assert printable("a\x1b[2Jb\x07\u202ec") == "a\ufffd[2Jb\ufffd\ufffdc"

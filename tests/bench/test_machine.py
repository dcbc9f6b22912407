"""What machine a run was made on."""

import pytest

from bench import machine
from bench.machine import Machine


@pytest.mark.parametrize(
    ("exit_time", "touch_time", "kind"),
    [
        (60, 200, "bare metal, or as good as it"),
        (1300, 700, "a virtual machine that does not look nested"),
        (1300, 3700, "a virtual machine that looks nested"),
        (25_000, 700, "a virtual machine that looks nested"),
        (None, 700, "a machine whose kind can't be seen from within"),
    ],
)
def test_the_kind_of_a_machine_is_told_by_its_times(exit_time: int | None, touch_time: int, kind: str) -> None:
    assert Machine(2, "a processor", "6.1", 300, touch_time, exit_time).kind == kind


def test_a_machine_is_told_in_a_sentence() -> None:
    told = Machine(2, "AMD EPYC (x86_64)", "6.1.0", 350, 720, 1333).told()
    assert told == (
        "2 cores of AMD EPYC (x86_64), a virtual machine that does not look nested, kernel 6.1.0; a system call from"
        " Python takes 350 ns, the first touch of a page 720 ns, a trap into the hypervisor 1,333 ns"
    )
    assert "trap" not in Machine(2, "Arm (aarch64)", "6.1.0", 350, 500, None).told()


def test_this_machine_can_be_looked_at() -> None:
    found = machine.look()
    assert found.system_call > 0
    assert found.touch_time >= 0
    assert found.exit_time is None or found.exit_time >= 0


def test_of_another_processor_the_kind_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert machine.exit_time() is None

"""What machine a run was made on."""

import pytest

from bench import machine
from bench.machine import Machine


@pytest.mark.parametrize(
    ("exit_time", "kind"),
    [
        (60, "bare metal"),
        (1300, "a virtual machine, not nested"),
        (25_000, "a nested virtual machine"),
        (None, "can't"),
    ],
)
def test_the_kind_of_a_machine_is_told_by_who_answers_cpuid(exit_time: int | None, kind: str) -> None:
    assert kind in Machine(2, "a processor", "6.1", 300, exit_time).kind


def test_a_machine_is_told_in_a_sentence() -> None:
    told = Machine(2, "AMD EPYC (x86_64)", "6.1.0", 350, 1333).told()
    assert told == (
        "2 cores of AMD EPYC (x86_64), a virtual machine, not nested, kernel 6.1.0;"
        " a system call from Python takes 350 ns and a trap into the hypervisor 1,333 ns"
    )
    assert "trap" not in Machine(2, "Arm (aarch64)", "6.1.0", 350, None).told()


def test_this_machine_can_be_looked_at() -> None:
    found = machine.look()
    assert found.system_call > 0
    assert found.exit_time is None or found.exit_time >= 0


def test_of_another_processor_the_kind_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert machine.exit_time() is None

"""What errors say, and to whom."""

from gateway.errors import ConfigurationError, Fault, SetupError, ledger_unavailable
from gateway.model.reasons import Reason


def test_a_log_gets_faults_without_the_values_that_stand_there() -> None:
    fault = Fault("listen.port", "it is not a port: quote canary", "line 3", "canary", plain="it is not a port")
    error = ConfigurationError([fault, Fault("", "it is empty")])
    assert str(error) == "listen.port: it is not a port: quote canary (line 3: canary)\nit is empty"
    assert error.for_log == "listen.port: it is not a port (line 3: ***)\nit is empty"
    assert Fault("listen.port", "it is not a port", "line 3", "70000", is_for_log=True).for_log == (
        "listen.port: it is not a port (line 3: 70000)"
    )
    assert SetupError("the port is taken").for_log == "the port is taken"


def test_a_ledger_that_does_not_answer_says_when_to_come_again() -> None:
    denial = ledger_unavailable("Try again.", 5, "Away").denial
    assert (denial.reason, denial.detail, denial.retry_after, denial.title) == (
        Reason.LEDGER_UNAVAILABLE, "Try again.", 5, "Away",
    )  # fmt: skip
    assert ledger_unavailable("Try again.").denial.retry_after == 2

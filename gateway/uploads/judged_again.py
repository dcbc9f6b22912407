"""Judges a form by the rules that are in force when its upload has come: it may have taken hours. Pure."""

from gateway.http.names import readings
from gateway.uploads.field_rules import field_refused
from gateway.uploads.form import Form, FormRules
from gateway.uploads.form_options import check_options
from gateway.uploads.work import Work


def judge_again(form: Form, rules: FormRules) -> None:
    """Refuses a form that was let in by other rules. What was removed from it stays removed.

    Raises:
        Refused: as for a form that comes now; field_refused also for a name that is too long to have been kept.
    """
    refused = [name for name in sorted(form.given.names) if any(map(rules.refuses, readings(name)))]
    if refused or form.given.has_long:
        raise field_refused(refused[0] if refused else "")
    check_options(rules, form.options, Work())

import re

from consent.eventlog import errors
from consent.eventlog.errors import EventLogError


def test_errors_every_class_has_a_reason_of_its_own() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    reasons = {error.reason for error in classes if issubclass(error, EventLogError)}
    assert len(reasons) == len(classes) > 1
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", reason) for reason in reasons)

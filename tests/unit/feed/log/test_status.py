import importlib
import pkgutil

import grpc
import pytest

import consent
import feed
import hosting
from consent.errors import ConsentError
from consent.eventlog.errors import EventLogError
from consent.policy import PolicyError
from feed import errors
from feed.errors import FeedError, LogStoreError
from feed.grpc_api.status import STATUSES
from hosting.errors import HostingError, stable_reason

ROOTS = (FeedError, LogStoreError, ConsentError, EventLogError, PolicyError, HostingError)
#: Programs, and settings that need more than is there to be imported alone.
NOT_IMPORTED = {"cli", "runtime", "__main__"}


def all_errors() -> list[type[Exception]]:
    """Every error class of this package and of those below it."""
    for package in (consent, feed, hosting):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not NOT_IMPORTED & set(module.name.split(".")):
                importlib.import_module(module.name)
    found: set[type[Exception]] = set(ROOTS)
    waiting: list[type[Exception]] = list(ROOTS)
    while waiting:
        new: list[type[Exception]] = [
            error for error in waiting.pop().__subclasses__() if error.__module__.split(".")[0] != "tests"
        ]
        found.update(new)
        waiting += new
    return sorted(found, key=lambda error: (error.__module__, error.__name__))


def status_of(error: type[Exception]) -> grpc.StatusCode | None:
    return next((STATUSES[base] for base in error.__mro__ if base in STATUSES), None)


def test_status_every_error_has_one_and_a_reason_for_programs() -> None:
    found = all_errors()
    without_status = [error for error in found if status_of(error) in (None, grpc.StatusCode.UNKNOWN)]
    without_reason = [error for error in found if stable_reason(error("text")) is None]

    assert len(found) > 50
    assert (without_status, without_reason) == ([], [])


def test_status_every_error_of_the_feed_has_a_row_of_its_own() -> None:
    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, FeedError)]

    assert [error for error in own if error not in STATUSES] == []


@pytest.mark.parametrize("error", [errors.InvalidRequest, errors.LogWriteFailed, errors.Overloaded, errors.CorruptLog])
def test_status_is_not_that_of_the_root(error: type[Exception]) -> None:
    assert status_of(FeedError) is grpc.StatusCode.INTERNAL
    assert status_of(error) is not grpc.StatusCode.INTERNAL


def test_status_waiting_helps_where_the_code_says_so_and_only_there() -> None:
    retried = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}

    assert {error for error in STATUSES if STATUSES[error] in retried} == {
        errors.LogWriteFailed,
        errors.ArchiveWriteFailed,
        errors.OutcomeUnknown,
        errors.LogStoreError,
        errors.ShuttingDown,
        errors.Overloaded,
        errors.PolicyConflict,
        errors.KeyEpochConflict,
        errors.KeyEpochBegan,
    }

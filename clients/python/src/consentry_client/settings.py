"""What a client is made with: checked once, then never changed."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from consentry_client.context import Context
from consentry_client.endpoint import Endpoint, TlsFiles, resolve_endpoint
from consentry_client.errors import ConfigurationError
from consentry_client.failure import FailurePolicy

ADDRESS_VARIABLE = "CONSENTRY_ADDRESS"
INTAKE_ADDRESS_VARIABLE = "CONSENTRY_INTAKE_ADDRESS"
BATCH_ITEMS_MAX = 10_000


class ClientOptions(TypedDict, total=False):
    """Keywords of `Client` and `AsyncClient`.

    Attributes:
        timeout_seconds: Longest time that one `check` may take, a retry included (0.25).
        batch_timeout_seconds: The same for each batch of `check_many` and `filter_allowed` (10).
        batch_items: Most subjects in one batch of `check_many`, 1 to 10,000 (10,000).
        fail_closed: Leave this. False makes an outage an ALLOW, and needs the next one.
        i_accept_processing_without_a_decision: Why that is acceptable; goes into a warning at every open answer.
        default_context: What holds for every question; a question's own context adds to it and cannot weaken it.
        tls: Files for mutual TLS; needed for TCP.
        monotonic: Clock in seconds, for tests.
    """

    timeout_seconds: float
    batch_timeout_seconds: float
    batch_items: int
    fail_closed: bool
    i_accept_processing_without_a_decision: str | None
    default_context: Context | None
    tls: TlsFiles | None
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked form of `ClientOptions`, with the address that they belong to."""

    endpoint: Endpoint
    failure_policy: FailurePolicy
    timeout_seconds: float
    batch_timeout_seconds: float
    batch_items: int
    default_context: Context | None
    monotonic: Callable[[], float]


_DEFAULTS = ClientOptions(
    timeout_seconds=0.25,
    batch_timeout_seconds=10.0,
    batch_items=BATCH_ITEMS_MAX,
    fail_closed=True,
    i_accept_processing_without_a_decision=None,
    default_context=None,
    tls=None,
    monotonic=time.monotonic,
)


def resolve_settings(address: str | None, options: ClientOptions, environ: Mapping[str, str] | None = None) -> Settings:
    """Checks everything that a client is made with.

    Raises:
        ConfigurationError: Something cannot work.
        TypeError: A keyword that no client has.
    """
    for name in options:
        if name not in _DEFAULTS:
            raise TypeError(f"a client has no keyword {name!r}")
    chosen: ClientOptions = {**_DEFAULTS, **options}
    require_duration("timeout_seconds", chosen["timeout_seconds"])
    require_duration("batch_timeout_seconds", chosen["batch_timeout_seconds"])
    require_count("batch_items", chosen["batch_items"], BATCH_ITEMS_MAX)
    return Settings(
        endpoint=resolve_endpoint(address, ADDRESS_VARIABLE, os.environ if environ is None else environ, chosen["tls"]),
        failure_policy=FailurePolicy.agree(chosen["fail_closed"], chosen["i_accept_processing_without_a_decision"]),
        timeout_seconds=chosen["timeout_seconds"],
        batch_timeout_seconds=chosen["batch_timeout_seconds"],
        batch_items=chosen["batch_items"],
        default_context=chosen["default_context"],
        monotonic=chosen["monotonic"],
    )


def require_duration(name: str, seconds: float) -> None:
    """Checks that a setting is a positive, finite number of seconds."""
    if not seconds > 0 or math.isinf(seconds):
        raise ConfigurationError("OPTION_OUT_OF_RANGE", f"{name} must be a positive number of seconds")


def require_count(name: str, count: int, most: int) -> None:
    """Checks that a setting is a number from 1 to `most`."""
    if not 1 <= count <= most:
        raise ConfigurationError("OPTION_OUT_OF_RANGE", f"{name} must be from 1 to {most}")

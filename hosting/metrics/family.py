"""What a metric is: name, kind, labels and meaning, known without a running program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class Kind(StrEnum):
    """How its numbers are to be read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series.

    Attributes:
        name: As Prometheus and OTLP show it; a counter's ends with `_total`, and the unit is part of it.
        kind: Of its numbers.
        meaning: One line.
        labels: Names of its labels. A value is never an identifier, a pseudonym or anything else that a caller may choose.

    Raises:
        ValueError: A name that is not allowed.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(_NAME.fullmatch(name) for name in (self.name, *self.labels)):
            raise ValueError(f"{self.name}: the names of metrics and labels are lower case with underscores")
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: counters, and only they, end with _total")


def list_families(module: Mapping[str, object]) -> tuple[Family, ...]:
    """The families that a module defines, in the order of their definition; from `vars()` of the module."""
    return tuple(value for value in module.values() if isinstance(value, Family))

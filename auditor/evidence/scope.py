"""What one export is about, and what was given to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from auditor.evidence.masking import IdentifierFinder
from auditor.evidence.period import Period
from auditor.evidence.sampling import Item, Sample
from auditor.findings import Finding
from auditor.folder import AuditFolder
from consent.eventlog.trust import Trust

DEFAULT_SAMPLE_SIZE: Final = 25
DEFAULT_DEADLINE_DAYS: Final = 10
"""Business days that CAN-SPAM gives (15 U.S.C. 7704(a)(4))."""

Check: TypeAlias = Callable[[AuditFolder], Iterable[Finding]]
"""A check that is run over the folder, such as `verify`."""


@dataclass(frozen=True, slots=True)
class SuppliedFile:
    """A file that somebody else vouches for.

    Attributes:
        name: One of `auditor.evidence.supplied.KINDS`.
        path: The file.
        supplied_by: Who vouches for it.
    """

    name: str
    path: Path
    supplied_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """All that one export depends on: the same scope and the same folder make the same bytes.

    Attributes:
        trust: Whom to believe.
        period: The days that it is about.
        seed: Of the samples.
        generated_at_ms: Unix ms that the export names as its time.
        exporter: Name of the auditor that exports.
        finder: Recognises identifiers.
        sample_size: Items drawn from each population.
        deadline_days: Business days within which an opt-out must be in force.
        supplied: Files that others vouch for.
        certificates: Folder with certificates (PEM), None for none.
        checks: By name: `verify`, `replay`, `reconcile`.
    """

    trust: Trust
    period: Period
    seed: str
    generated_at_ms: int
    exporter: str
    finder: IdentifierFinder
    sample_size: int = DEFAULT_SAMPLE_SIZE
    deadline_days: int = DEFAULT_DEADLINE_DAYS
    supplied: tuple[SuppliedFile, ...] = ()
    certificates: Path | None = None
    checks: dict[str, Check] = field(default_factory=dict)

    def sample(self, population: str, _of: type[Item]) -> Sample[Item]:
        """A sample of a population, by this export's seed."""
        return Sample(population, self.seed, self.sample_size)

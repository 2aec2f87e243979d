"""What a report is made of, before it is written: sections with figures, tables, charts, samples, findings, and what is open."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from auditor.evidence.catalogue import SECTIONS, SectionSpec
from auditor.evidence.masking import IdentifierFinder
from auditor.findings import Finding, Severity

Cell: TypeAlias = str | int | float | None


class Figure(NamedTuple):
    """One number or fact."""

    label: str
    value: Cell


class Table(NamedTuple):
    """Rows under column names.

    Attributes:
        name: Part of a file name.
        caption: One sentence.
        columns: Names.
        rows: Each as long as `columns`.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Chart(NamedTuple):
    """Bars.

    Attributes:
        name: Part of a file name.
        caption: One sentence; says the unit.
        unit: Of the values.
        bars: Label and value of each, in order.
        is_series: The labels are times in a row: drawn upright, one beside the other.
    """

    name: str
    caption: str
    unit: str
    bars: tuple[tuple[str, float], ...]
    is_series: bool = False


class OpenPoint(NamedTuple):
    """What this tool cannot know.

    Attributes:
        what: What is missing.
        who: Who has to supply it.
    """

    what: str
    who: str


@dataclass(slots=True)
class Section:
    """One group of controls.

    Attributes:
        spec: Which, and what it shows.
        sources: What it was taken from, with counts.
        figures, tables, charts, samples, findings, open_points: What it holds, in the order added.
    """

    spec: SectionSpec
    finder: IdentifierFinder
    sources: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    samples: list[Table] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open_points: list[OpenPoint] = field(default_factory=list)

    def add_source(self, text: str) -> None:
        """Say what was read."""
        self.sources.append(self._clean_text(text))

    def add_figure(self, label: str, value: Cell) -> None:
        """A number or fact."""
        self.figures.append(Figure(self._clean_text(label), self._clean(value)))

    def add_table(self, name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """A table; it stands also where it has no row, because that is a statement too."""
        self.tables.append(self._table(name, caption, columns, rows))

    def add_sample(self, name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """What was drawn from a population; the caption says its size."""
        self.samples.append(self._table(name, caption, columns, rows))

    def add_chart(
        self, name: str, caption: str, unit: str, bars: Iterable[tuple[str, float]], *, is_series: bool = False
    ) -> None:
        """Bars; none are drawn where there is nothing but zeros."""
        drawn = tuple((self._clean_text(label), value) for label, value in bars)
        if any(value for _, value in drawn):
            self.charts.append(Chart(name, self._clean_text(caption), unit, drawn, is_series))

    def add_finding(self, finding: Finding) -> None:
        """Something found."""
        texts = (self._clean_text(part) for part in (finding.text, finding.sidecar_id, finding.place))
        text, sidecar_id, place = texts
        self.findings.append(finding._replace(text=text, sidecar_id=sidecar_id, place=place))

    def add_open(self, what: str, who: str) -> None:
        """Something that this tool cannot know."""
        self.open_points.append(OpenPoint(self._clean_text(what), self._clean_text(who)))

    def _table(self, name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
        cleaned = tuple(tuple(self._clean(cell) for cell in row) for row in rows)
        return Table(name, self._clean_text(caption), tuple(columns), cleaned)

    def _clean(self, cell: Cell) -> Cell:
        return self._clean_text(cell) if isinstance(cell, str) else cell

    def _clean_text(self, text: str) -> str:
        """Without identifiers and without characters that no document can hold."""
        masked = self.finder.mask(text)
        return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in masked)


class Report:
    """All sections, each there from the start.

    Args:
        finder: Keeps identifiers out of every text.
    """

    def __init__(self, finder: IdentifierFinder) -> None:
        self._sections = {spec.slug: Section(spec, finder) for spec in SECTIONS}
        for section in self._sections.values():
            for what, who in section.spec.open_points:
                section.add_open(what, who)

    def __getitem__(self, slug: str) -> Section:
        """A section by its slug."""
        return self._sections[slug]

    def __iter__(self) -> Iterator[Section]:
        """Sections in the order of the controls."""
        return iter(self._sections.values())

    def findings(self) -> list[Finding]:
        """Of all sections."""
        return [finding for section in self for finding in section.findings]

    def open_count(self) -> int:
        """Open points of all sections."""
        return sum(len(section.open_points) for section in self)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is as it must not be; notes do not count."""
        return all(finding.severity is not Severity.FINDING for finding in self.findings())

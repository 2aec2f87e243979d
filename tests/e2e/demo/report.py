"""What the demo shows: one numbered line for each step, what it found below, and a table at the end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_OF_A_FILE = 120
_INDENT = 23


@dataclass(frozen=True, slots=True)
class Line:
    """A finished step."""

    number: int
    title: str
    elapsed_ms: float
    is_passed: bool


class Report:
    """Writes to standard output; colours and a spinner only where somebody looks."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._console = console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_A_FILE)
        self._lines: list[Line] = []

    @contextmanager
    def running(self, number: int, title: str) -> Iterator[None]:
        """Show that a step is under way."""
        if self._console.is_terminal:
            with self._console.status(f"{number:>2}  {title}", refresh_per_second=4):
                yield
        else:
            yield

    def show_step(self, line: Line, facts: Sequence[str], table: Mapping[str, object]) -> None:
        """Show a finished step with what it found: sentences, and names with values."""
        self._lines.append(line)
        mark, style = ("ok", "bold green") if line.is_passed else ("FAILED", "bold red")
        start = Text.assemble(f"{line.number:>2}  {line.elapsed_ms:>8,.0f} ms  ", (f"{mark:<6}  ", style))
        self._show_beside(start, Text(line.title, style="bold"))
        for fact in facts:
            self._show_beside(Text(), Text(fact, style="" if line.is_passed else "red"))
        width = max(map(len, table), default=0)
        for name, value in table.items():
            self._show_beside(Text(), Text.assemble((f"{name:<{width}}  ", "cyan"), str(value)))

    def _show_beside(self, start: Text, text: Text) -> None:
        """Show text in its column, the lines after the first too."""
        for number, line in enumerate(text.wrap(self._console, self._console.width - _INDENT)):
            left = start if number == 0 and start else Text(" " * _INDENT)
            self._console.print(Text.assemble(left, line), soft_wrap=True)

    def show_log(self, name: str, text: str) -> None:
        """Show the end of a program's log."""
        self._console.print(Text(f"--- the last lines of {name} ---", style="yellow"))
        self._console.print(Text(text or "(nothing)"))

    def show_summary(self, figures: Mapping[str, str], total_seconds: float, steps: int) -> None:
        """Show what came of it all."""
        table = Table("step", "", "ms", title="Summary", title_justify="left")
        table.columns[0].justify = table.columns[2].justify = "right"
        for line in self._lines:
            mark = Text("ok", style="green") if line.is_passed else Text("FAILED", style="bold red")
            table.add_row(f"{line.number}", Text.assemble(mark, "  ", line.title), f"{line.elapsed_ms:,.0f}")
        self._console.print()
        self._console.print(table)
        for name, value in figures.items():
            self._console.print(f"{name}: {value}")
        passed = sum(line.is_passed for line in self._lines)
        style = "bold green" if passed == steps else "bold red"
        self._console.print(Text(f"{passed} of {steps} steps hold, in {total_seconds:.1f} s", style=style))

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(Text(text, style="yellow"))

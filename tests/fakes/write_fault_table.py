"""How a table of failing writes is gone through: the same life of a program once for each write that fails in it."""

from collections.abc import Collection, Mapping, Sequence
from pprint import pformat
from typing import Any, NamedTuple, Protocol

import pytest

from tests.fakes.write_faults import WriteFaults

ROW_SECONDS = 0.2
QUICK_TIMES = 2


class Life(Protocol):
    """What a program does with its files. Its steps are methods of these names, each to be called again after it has failed."""

    @property
    def STEPS(self) -> Sequence[str]:
        """In their order."""

    @property
    def ERRORS(self) -> tuple[type[Exception], ...]:
        """What a step may raise."""

    async def verify(self) -> None:
        """Check what is in force and what is in the files, and, after a restart, everything again."""

    async def end(self) -> None:
        """Close what is open."""


class Fault(NamedTuple):
    """One row of a table.

    Attributes:
        step: During which step.
        write: Name of the write that fails.
        skipped: So many of that name in that step succeed before.
        is_persisted: Whether it is done all the same.
    """

    step: str
    write: str
    skipped: int
    is_persisted: bool


Table = Mapping[str, Mapping[str, int]]
"""The writes of each step, and how often each is done in it."""


def rows(table: Table, quick: Collection[str]) -> list[Any]:
    """A test's parameters: each write, failed and not persisted, and failed but persisted.

    Args:
        table: The writes.
        quick: Those of them that `make test` tries too, as often as there is time for.
    """
    # An estimate so small counts as hung too soon on a busy machine.
    is_long = (pytest.mark.long(seconds=ROW_SECONDS), pytest.mark.timeout(60))
    return [
        pytest.param(
            Fault(step, write, skipped, is_persisted),
            id=f"{step}-{write}-{skipped + 1}-{word}".replace(" ", "_"),
            marks=() if write in quick and skipped < QUICK_TIMES else is_long,
        )
        for step, writes in table.items()
        for write, count in writes.items()
        for skipped in range(count)
        for is_persisted, word in ((False, "lost"), (True, "kept"))
    ]


async def verify_complete(life: Life, faults: WriteFaults, table: Table) -> None:
    """Check that a life without faults does the writes of a table, so often, and no other."""
    found: dict[str, dict[str, int]] = {}
    for step in life.STEPS:
        faults.take_seen()
        await getattr(life, step)()
        found[step] = dict(faults.take_seen())
    await life.verify()
    writing = {step: writes for step, writes in found.items() if writes}
    assert writing == table, f"the table of writes must be:\n{pformat(writing, width=120, sort_dicts=False)}"


async def suffer(life: Life, faults: WriteFaults, fault: Fault) -> None:
    """Let a write fail: the step succeeds all the same, or raises an error of ours and succeeds when it is done again."""
    for step in life.STEPS:
        if step == fault.step:
            faults.fail(fault.write, is_persisted=fault.is_persisted, skipped=fault.skipped)
        try:
            await getattr(life, step)()
        except life.ERRORS:
            assert faults.has_failed
            assert step == fault.step
            await getattr(life, step)()
    assert faults.has_failed
    await life.verify()

"""Whatever fails, and however often the process ends: nothing is gone that the log does not name, and no chain gets a hole."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import SidecarError
from tests.fakes.disposals import CrashedError, DisposingSidecar, error_of

#: At which step from the last start on, whether it is done all the same, and whether the process ends there.
FAULTS = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans()), max_size=6)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), FAULTS, st.floats(0.5, 9))
def test_disposals_in_any_order_of_faults(
    lengths: list[int], faults: list[tuple[int, bool, bool]], days: float
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(DisposingSidecar(Path(directory), lengths, days), faults))


async def live(sidecar: DisposingSidecar, faults: list[tuple[int, bool, bool]]) -> None:
    with sidecar.watching():
        for step, is_kept, is_crash in faults:
            started = len(sidecar.steps)

            def fail(
                number: int,
                is_done: bool,
                planned: tuple[int, bool] = (started + step, is_kept),
                is_crash: bool = is_crash,
            ) -> None:
                if (number, is_done) == planned:
                    raise CrashedError if is_crash else error_of(sidecar.steps[number])

            sidecar.fault = fail
            try:
                await sidecar.disposer.make_pass()
            except CrashedError:
                sidecar.start()
            except (SidecarError, OSError):
                pass
            sidecar.verify()
        sidecar.fault = lambda *_: None
        kept = [chain.present for chain in sidecar.chains]
        await sidecar.disposer.make_pass()
        sidecar.verify()
        # What is left is what a journal without any fault would have left, and the last segment stays in any case.
        for chain, before in zip(sidecar.chains, kept, strict=True):
            ended_on = 10 - sidecar.days
            expected = [number for number in before if number + 1 > ended_on or number == len(chain.paths) - 1]
            assert chain.present == expected

"""Each step of a disposal, failed before it was done or after, in a process that goes on or in one that ends there."""

from pathlib import Path

import pytest

from consent.eventlog.journal_head import verify_disposal
from sidecar.errors import JournalUnavailable, RefusedHead, SidecarError
from tests.fakes.disposals import ORIGIN, STEPS, CrashedError, DisposingSidecar, error_of
from tests.fakes.trails import make_sidecar_key

#: Of two chains with three segments to dispose of: each is logged and noted, then goes file by file.
ORDER = 2 * ["log", "note", "flush", *3 * ["unlink", "fsync"]]


async def test_disposal_is_logged_then_noted_then_done(tmp_path: Path) -> None:
    sidecar = DisposingSidecar(tmp_path, (4, 4))
    with sidecar.watching():
        await sidecar.disposer.make_pass()
        assert sidecar.steps == ORDER
        assert set(ORDER) == set(STEPS)
        sidecar.verify()
        assert (sidecar.is_done, sidecar.logged == sidecar.noted, sidecar.disposed_decisions) == (True, True, 12)
        await sidecar.disposer.make_pass()
        assert sidecar.steps == ORDER


@pytest.mark.parametrize("is_crash", [False, True], ids=["goes-on", "crash"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["lost", "kept"])
@pytest.mark.parametrize("place", range(len(ORDER)), ids=[f"{place}-{step}" for place, step in enumerate(ORDER)])
async def test_step_that_fails_leaves_everything_or_less_than_was_said(
    tmp_path: Path, place: int, is_kept: bool, is_crash: bool
) -> None:
    sidecar = DisposingSidecar(tmp_path, (4, 4))

    def fail(number: int, is_done: bool) -> None:
        if (number, is_done) == (place, is_kept):
            raise CrashedError if is_crash else error_of(ORDER[place])

    sidecar.fault = fail
    with sidecar.watching():
        with pytest.raises((CrashedError, SidecarError, OSError)):
            await sidecar.disposer.make_pass()
        sidecar.verify()
        if is_crash:
            sidecar.start()
        await sidecar.disposer.make_pass()
        sidecar.verify()
        assert sidecar.is_done
    if not is_crash:
        # A process that goes on says nothing twice in the log, and asks again only where it was not answered.
        assert len(sidecar.logged) == 2
        assert sidecar.steps.count("log") == 2 + (ORDER[place] == "log")


async def test_feed_that_is_away_keeps_everything(tmp_path: Path) -> None:
    sidecar = DisposingSidecar(tmp_path)

    def fail(number: int, is_done: bool) -> None:
        raise error_of("log")

    sidecar.fault = fail
    for _ in range(3):
        with pytest.raises(SidecarError):
            await sidecar.disposer.make_pass()
    assert (sidecar.steps, sidecar.chains[0].present) == (["log"] * 3, [0, 1, 2, 3])


async def test_feed_that_refuses_a_disposal_keeps_everything_and_is_asked_anew(tmp_path: Path) -> None:
    sidecar = DisposingSidecar(tmp_path)

    def refuse(number: int, is_done: bool) -> None:
        raise RefusedHead("another key is enrolled")

    sidecar.fault = refuse
    with pytest.raises(RefusedHead):
        await sidecar.disposer.make_pass()
    assert sidecar.chains[0].present == [0, 1, 2, 3]
    sidecar.fault = lambda *_: None
    sidecar.key = make_sidecar_key("pod-1", seed=1)
    await sidecar.disposer.make_pass()
    sidecar.verify()
    assert sidecar.is_done
    verify_disposal(sidecar.logged[0], ORIGIN, sidecar.key.verifier_key.public_key)


async def test_note_that_may_not_be_on_the_disk_keeps_everything(tmp_path: Path) -> None:
    sidecar = DisposingSidecar(tmp_path)
    sidecar.is_writable = False
    with pytest.raises(JournalUnavailable):
        await sidecar.disposer.make_pass()
    assert sidecar.chains[0].present == [0, 1, 2, 3]
    sidecar.is_writable = True
    await sidecar.disposer.make_pass()
    assert sidecar.is_done


async def test_sidecar_that_is_not_enrolled_disposes_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = DisposingSidecar(tmp_path)
    monkeypatch.setattr(sidecar.disposer, "_sign", lambda _: None)
    await sidecar.disposer.make_pass()
    assert (sidecar.steps, sidecar.chains[0].present) == ([], [0, 1, 2, 3])

"""The vectors, asked of a real sidecar behind a real feed: what its journal says, a replay gets again."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.folder import (
    JOURNALS_DIRECTORY_NAME,
    REPLAY_KEYS_FILE_NAME,
    ROOT_KEY_FILE_NAME,
    TRUST_FILE_NAME,
    AuditFolder,
    open_folder,
)
from auditor.log_copy import FILE_NAME, CopiedEntry, LogCopyWriter
from auditor.replay.judge import Obstacle, Outcome
from auditor.replay.run import replay
from consent.event import PolicyEvent
from consent.key_ring import KeyRing, seal_key_ring
from consent.policy import Policy, format_policy
from consent.vocabulary.subject import Tokeniser
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import audit_day_key, load_keys
from sidecar.cache.key_file import FileKeyProvider
from tests.conformance.cases import ORIGIN, Case, load_cases
from tests.conformance.real import _ask_all, _log_case
from tests.fakes.audit_material import AUDITOR
from tests.fakes.clock import FakeClock
from tests.fakes.installation import TENANT, TestInstallation, install
from tests.fakes.recorded_life import seal_segment_keys

SIDECAR_ID = "sidecar-1"
PUBLIC_KEY = AUDITOR.private_key.public_key().public_bytes_raw()
_MS_PER_DAY = 86_400_000


async def copy_log(feed: RunningFeed, folder: Path) -> None:
    head = feed.log.head
    writer = LogCopyWriter(folder / FILE_NAME)
    while writer.size < head.size:
        writer.append(
            CopiedEntry(
                entry.seq, entry.type_byte, entry.opening, entry.event_bytes, entry.commitment, entry.attestations
            )
            for entry in await feed.log.read_entries(writer.size + 1, head.size - writer.size)
        )
    writer.seal(head.checkpoint_note)
    writer.close()


def finish(installation: TestInstallation, folder: Path, now_ms: int) -> AuditFolder:
    journal = folder / JOURNALS_DIRECTORY_NAME / SIDECAR_ID
    shutil.copytree(installation.directory / SIDECAR_ID / "journal", journal)
    seal_segment_keys(folder, SIDECAR_ID, FileKeyProvider([installation.directory / "cache.key"]))
    for source, name in (("trust.note", TRUST_FILE_NAME), ("root.pub", ROOT_KEY_FILE_NAME)):
        shutil.copy(installation.directory / source, folder / name)
    keys, today = load_keys(installation.directory / "keys", ORIGIN), now_ms // _MS_PER_DAY
    days = tuple((day, audit_day_key(keys.audit_master, day)) for day in range(today - 3, today + 1))
    ring = KeyRing((bytes(32),), days)
    sealed = seal_key_ring(ring, PUBLIC_KEY, tenant=TENANT, sidecar_id=AUDITOR.name)
    (folder / REPLAY_KEYS_FILE_NAME).write_bytes(sealed)
    return open_folder(folder, AUDITOR)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csty-") as folder:
        yield Path(folder)


@pytest.fixture
def vectors(shared_directory: Path) -> tuple[Policy, list[Case]]:
    return load_cases(shared_directory / "vectors" / "decision.json")


async def test_replay_of_the_vectors_through_a_real_sidecar_gives_the_same_answers(
    short_directory: Path, tmp_path: Path, vectors: tuple[Policy, list[Case]]
) -> None:
    policy, cases = vectors
    now_ms, feed_time_ms = 1_794_355_200_000, 1_794_354_900_000
    group = [case for case in cases if (case.query.now_ms, case.feed_time_ms) == (now_ms, feed_time_ms)]
    installation = install(short_directory / "audited")
    async with running_feed(installation.feed_settings(), clock=FakeClock(feed_time_ms)) as feed:
        published = PolicyEvent(
            origin=ORIGIN, version=policy.version, replaces_version=0, document=format_policy(policy)
        )
        await feed.log.submit(installation.signers.submit([published]))
        tokeniser = Tokeniser([load_keys(installation.directory / "keys", ORIGIN).subject_key])
        for case in group:
            await _log_case(feed, case, tokeniser, installation.signers)
        failures = await _ask_all(installation, policy, group, now_ms, feed.log.head.size, lambda: None)
        await copy_log(feed, tmp_path)
    assert (len(group), failures) == (14, [])
    report = replay(finish(installation, tmp_path, now_ms))
    assert report.findings.listed == ()
    assert report.outcomes == {Outcome.SAME: len(group)}


async def test_replay_of_vectors_before_the_first_snapshot_needs_the_bootstrap_policy(
    short_directory: Path, tmp_path: Path, vectors: tuple[Policy, list[Case]]
) -> None:
    policy, cases = vectors
    now_ms = 1_794_355_200_000
    group = [case for case in cases if (case.query.now_ms, case.feed_time_ms) == (now_ms, None)]
    installation = install(short_directory / "audited")
    assert await _ask_all(installation, policy, group, now_ms, 0, lambda: None) == []
    async with running_feed(installation.feed_settings(), clock=FakeClock(now_ms)) as feed:
        await copy_log(feed, tmp_path)
    folder = finish(installation, tmp_path, now_ms)
    assert replay(folder).obstacles[Obstacle.BOOTSTRAP_POLICY] == len(group)
    assert replay(folder, {policy.version: policy}).outcomes == {Outcome.SAME: len(group)}

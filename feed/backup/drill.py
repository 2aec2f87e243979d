"""A drill: restores a log to a place of its own and checks what a restore is for."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from consent.event import DirectiveEvent, Event
from consent.eventlog.merkle import Frontier
from consent.state_record import parse_cluster
from consent.tenant_state import TenantState
from consent.vocabulary.directive import Kind
from feed.backup.reading import Progress, no_progress
from feed.backup.restoring import RestoreSource, restore
from feed.errors import CorruptLog
from feed.log_store.high_water import Mark
from feed.log_store.port import EMPTY_STATE_SUM, StoredHead
from feed.log_store.sqlite import SqliteLog
from feed.log_store.state_sum import add_records
from feed.ports import StoredEntry
from feed.signing.subject_keys import SubjectKeys

_PAGE: Final = 1_000
_EVERY_PURPOSE: Final = "*"


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill has found.

    Attributes:
        size: Entries restored.
        root_hash: Root over them, 32 bytes.
        backup_size: Entries of the backup itself.
        archived: Entries that only the archive had.
        subjects: Tokens in the restored state.
        opt_outs_after_backup: Denials that were logged after the backup.
        opt_outs_not_in_force: Sequence numbers of those that the restored state lacks: none, or the restore is of no use.
    """

    size: int
    root_hash: bytes
    backup_size: int
    archived: int
    subjects: int
    opt_outs_after_backup: int
    opt_outs_not_in_force: tuple[int, ...]


async def drill(source: RestoreSource, mark: Mark | None, progress: Progress = no_progress) -> DrillReport:
    """Restore into a temporary directory, verify everything there, and remove it again. The running feed is not touched.

    Raises:
        LogRolledBack: Backup and archive together do not reach the mark.
        CorruptLog, CorruptArchive, ForeignLog: They are not whole, or what was restored is not what was logged.
        LogStoreError, HostingError: There is no room.
    """
    with tempfile.TemporaryDirectory(prefix="consentry-drill-") as directory:
        verified = await restore(source, Path(directory) / "log", mark, progress)
        store = await SqliteLog.open(Path(directory) / "log", source.identity, source.kek)
        try:
            head = await store.load_head()
            await verify_state(store, head)
            denials = await _verify_entries(store, head, verified.base_size, progress)
            denials = [(seq, _lead(event, source.subject_keys, head.tenant)) for seq, event in denials]
            missing = await _find_missing(store, denials)
            return DrillReport(
                size=head.size,
                root_hash=head.frontier.root_hash(),
                backup_size=verified.base_size,
                archived=head.size - verified.base_size,
                subjects=await store.count_subjects(),
                opt_outs_after_backup=len(denials),
                opt_outs_not_in_force=tuple(missing),
            )
        finally:
            await store.close()


async def verify_state(store: SqliteLog, head: StoredHead) -> None:
    """Check that the stored state is the one that the head speaks of, that its index is whole, and that every answer can be read.

    Raises:
        CorruptLog: Rows were lost, added, moved or put back.
    """
    state_sum = EMPTY_STATE_SUM
    async for page in store.read_clusters():
        state_sum = add_records(state_sum, (row.record for row in page))
    if state_sum != head.state_sum:
        raise CorruptLog("the stored state is not the fold of the log: rows were lost, added or put back")
    await store.verify_members()
    after = b""
    while requests := await store.read_requests(after, _PAGE):
        after = requests[-1][0]


async def _verify_entries(
    store: SqliteLog, head: StoredHead, backup_size: int, progress: Progress
) -> list[tuple[int, DirectiveEvent]]:
    """Hash the stored entries to the head's root; returns the denials behind the backup."""
    frontier = Frontier()
    denials: list[tuple[int, DirectiveEvent]] = []
    while frontier.size < head.size:
        page = await store.read_entries(frontier.size + 1, _PAGE)
        if not page:
            raise CorruptLog(f"entry {frontier.size + 1} is missing")
        for entry in page:
            frontier.append(entry.leaf_hash)
        denials += _denials(page, backup_size)
        progress("check", frontier.size, head.size)
    if frontier != head.frontier:
        raise CorruptLog("the stored entries do not lead to the signed root")
    return denials


def _denials(page: Sequence[StoredEntry], backup_size: int) -> list[tuple[int, DirectiveEvent]]:
    events: list[tuple[int, Event]] = [(entry.seq, entry.load_event()) for entry in page if entry.seq > backup_size]
    return [(seq, event) for seq, event in events if isinstance(event, DirectiveEvent) and event.kind != Kind.GRANT]


def _lead(event: DirectiveEvent, subject_keys: SubjectKeys, tenant: TenantState) -> DirectiveEvent:
    """The denial under the token of the key epoch that the log is in."""
    return replace(event, token=subject_keys.lead_token(event.token, tenant, event.key_epoch))


async def _find_missing(store: SqliteLog, denials: Sequence[tuple[int, DirectiveEvent]]) -> list[int]:
    missing: list[int] = []
    for start in range(0, len(denials), _PAGE):
        part = denials[start : start + _PAGE]
        records = await store.find_clusters({event.token for _, event in part})
        missing += [seq for seq, event in part if not _is_in_force(records.get(event.token), event, seq)]
    return missing


def _is_in_force(record: bytes | None, event: DirectiveEvent, seq: int) -> bool:
    """Whether the denial stands, or a later one on the same purpose, or on every purpose, in its place."""
    if record is None:
        return False
    member = parse_cluster(record).find(event.token)
    purposes = (event.purpose, _EVERY_PURPOSE)
    return any(
        not directive.is_grant and directive.purpose in purposes and directive.seq >= seq
        for directive in member.directives
    )

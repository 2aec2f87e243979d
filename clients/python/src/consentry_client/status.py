"""What a sidecar holds and how fresh it is."""

from dataclasses import dataclass
from enum import StrEnum

from consentry.decision.v1 import decision_pb2


class SyncState(StrEnum):
    """How the sidecar stands with the feed."""

    UNSPECIFIED = "UNSPECIFIED"
    EMPTY = "EMPTY"
    IN_SYNC = "IN_SYNC"
    DISCONNECTED = "DISCONNECTED"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class SidecarStatus:
    """Says nothing about any person.

    Attributes:
        staleness_ms: Age of the newest verified checkpoint for the size held; None before the first.
        last_error_reason: Why what the feed sent was refused; empty where nothing was.
        journal_backlog_records: Decision records not yet shipped as spans.
        journal_mode: Weakest mode of the journal since the start.
        enrolled: Its own key is enrolled, so its acknowledgements count.
        sidecar_key_id: First 4 bytes of that key's hash; empty from a sidecar that has none.
        unconfirmed_receipts: Acknowledgements that the log does not hold yet.
    """

    sidecar_id: str
    tenant: str
    log_origin: str
    log_size: int
    root_hash: bytes
    policy_version: int
    staleness_ms: int | None
    cache_generation: int
    sync_state: SyncState
    last_error_reason: str
    subjects: int
    journal_backlog_records: int
    journal_mode: str
    version: str
    enrolled: bool = False
    sidecar_key_id: bytes = b""
    unconfirmed_receipts: int = 0


def read_status(answer: decision_pb2.GetStatusResponse) -> SidecarStatus:
    """Reads the status; a state that this version does not know is UNSPECIFIED."""
    states = {number: name.removeprefix("SYNC_STATE_") for name, number in decision_pb2.SyncState.items()}
    return SidecarStatus(
        sidecar_id=answer.sidecar_id,
        tenant=answer.tenant,
        log_origin=answer.log_origin,
        log_size=answer.log_size,
        root_hash=answer.root_hash,
        policy_version=answer.policy_version,
        staleness_ms=answer.staleness_ms if answer.HasField("staleness_ms") else None,
        cache_generation=answer.cache_generation,
        sync_state=SyncState(states.get(answer.sync_state, "UNSPECIFIED")),
        last_error_reason=answer.last_error_reason,
        subjects=answer.subjects,
        journal_backlog_records=answer.journal_backlog_records,
        journal_mode=answer.journal_mode,
        version=answer.version,
        enrolled=answer.enrolled,
        sidecar_key_id=answer.sidecar_key_id,
        unconfirmed_receipts=answer.unconfirmed_receipts,
    )

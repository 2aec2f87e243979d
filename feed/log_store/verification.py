"""Whether what is stored may be gone on from: the head is signed, and the stored tree leads to it."""

from collections.abc import Sequence

from consent.eventlog.checkpoint import Checkpoint, parse_checkpoint_text
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import VerifierKey, verify_note
from consent.eventlog.proof import NodeAt, root_from_nodes
from consent.eventlog.signed_note import parse_note
from feed.errors import CorruptLog, ForeignLog
from feed.log_store.port import StoredHead


def verify_stored_note(note_bytes: bytes, *, origin: str, log_keys: Sequence[VerifierKey]) -> Checkpoint:
    """Check a stored checkpoint and return what it says.

    Raises:
        ForeignLog: It is signed as another log's, or by none of these keys.
        CorruptLog: It cannot be read.
    """
    try:
        note = parse_note(note_bytes)
        checkpoint = parse_checkpoint_text(note.text)
    except EventLogError as error:
        raise CorruptLog(f"the head's checkpoint: {error}") from None
    if checkpoint.origin != origin:
        raise ForeignLog("the head's checkpoint is of another log")
    try:
        verify_note(note, *log_keys)
    except EventLogError as error:
        raise ForeignLog(f"the head's checkpoint is not signed by this log's key: {error}") from None
    return checkpoint


def verify_head(head: StoredHead, node_at: NodeAt, *, origin: str, log_keys: Sequence[VerifierKey]) -> None:
    """Check a stored head that is not the empty one.

    Args:
        head: As it was read.
        node_at: Reads the stored tree.
        origin: Name of the log.
        log_keys: Keys that may have signed it; more than one while they rotate.

    Raises:
        ForeignLog: It is signed as another log's, or by none of these keys.
        CorruptLog: It is not what was signed, or the tree is not what it says.
    """
    # 1. The signature says what was promised.
    checkpoint = verify_stored_note(head.checkpoint_note, origin=origin, log_keys=log_keys)
    # 2. The frontier is what the next entry will be hashed onto.
    if (checkpoint.size, checkpoint.root_hash) != (head.size, head.frontier.root_hash()):
        raise CorruptLog("the frontier is not that of the signed checkpoint")
    # 3. The nodes are what proofs will be made of.
    if root_from_nodes(head.size, node_at) != checkpoint.root_hash:
        raise CorruptLog("the stored tree does not lead to the signed root")

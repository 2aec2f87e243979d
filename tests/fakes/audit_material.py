"""What tests of the auditor are made of: a log, journals with signed heads, and the folder that an auditor would have fetched."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from auditor.folder import (
    JOURNALS_DIRECTORY_NAME,
    ROOT_KEY_FILE_NAME,
    TRUST_FILE_NAME,
    AuditFolder,
    open_folder,
)
from auditor.journals import KEYS_FILE_NAME, AuditorKey, format_key_name
from auditor.log_copy import FILE_NAME, CopiedEntry, LogCopyWriter
from consent.event import EnrolEvent, JournalHeadsEvent
from consent.eventlog.acknowledgement import sign_possession
from consent.eventlog.journal_head import (
    NO_HEAD,
    NO_ID,
    HeadKind,
    JournalHead,
    WeakestMode,
    format_head,
    hash_head,
    sign_head,
)
from consent.eventlog.keys import KeyKind, SigningKey, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from journal.format import (
    CHAIN_START,
    FrameKind,
    JournalMode,
    SegmentChain,
    SegmentHeader,
    format_header,
    format_segment_name,
    pack_records,
)
from journal.segment_keys import seal_segment_key
from tests.fakes.journal_material import NOW_MS, SealingKeys
from tests.fakes.log_builder import LogBuilder

AUDITOR = AuditorKey("auditor", X25519PrivateKey.from_private_bytes(bytes(range(32))))
ROOT_KEY = generate_signing_key("root.example", KeyKind.LOG, bytes(range(1, 33)))


def sidecar_key(sidecar_id: str) -> SigningKey:
    """A sidecar's own key, which its name decides."""
    return generate_signing_key(sidecar_id, KeyKind.SIDECAR, _seed(f"sidecar/{sidecar_id}"))


class JournalBuilder:
    """Writes a journal as a sidecar does, and makes heads where a test says.

    Args:
        folder: The audit folder.
        origin: Name of the log.
        sidecar_id: Whose journal it is.
        chain_name: Decides the chain's id.

    Attributes:
        heads: Every head made, in order.
    """

    def __init__(self, folder: Path, origin: str, sidecar_id: str = "pod-1", chain_name: str = "a") -> None:
        self.sidecar_id = sidecar_id
        self.chain_id = _seed(f"{sidecar_id}/{chain_name}")[:16]
        self.key = sidecar_key(sidecar_id)
        self.directory = folder / JOURNALS_DIRECTORY_NAME / sidecar_id
        self.directory.mkdir(parents=True, exist_ok=True)
        self.heads: list[JournalHead] = []
        self._origin = origin
        self._keys = SealingKeys()
        self._segment = -1
        self._decisions = 0
        self._ids: list[bytes] = []
        self._chain: SegmentChain
        self._last_hash = CHAIN_START
        self.begin_segment()

    @property
    def path(self) -> Path:
        """The segment that is written."""
        return self.directory / format_segment_name(self.chain_id, self._segment)

    def begin_segment(self) -> None:
        """Go on in a new segment."""
        self._segment += 1
        data_key = _seed(f"{self.sidecar_id}/{self.chain_id.hex()}/{self._segment}")
        header = SegmentHeader(
            chain_id=self.chain_id,
            number=self._segment,
            created_ms=NOW_MS,
            mode=JournalMode.GROUP,
            previous_chain_hash=self._last_hash,
            sidecar_id=self.sidecar_id,
            wrapped_key=self._keys.wrap(data_key, "journal"),
        )
        header_bytes = format_header(header, data_key)
        self._chain = SegmentChain(header_bytes, self._last_hash, data_key)
        self._last_hash = self._chain.chain_hash
        self.path.write_bytes(header_bytes)
        self._seal_key(data_key)

    def write(self, records: Sequence[bytes], decisions: int | None = None) -> None:
        """A frame of records (`consent.decision_record` bytes)."""
        count = len(records) if decisions is None else decisions
        self._decisions += count
        self._ids += [record[1:17] for record in records]
        self.write_frame(pack_records(records), count)

    def write_frame(self, plaintext: bytes, decisions: int = 0) -> None:
        """A frame of any kind."""
        frame_bytes = self._chain.seal(plaintext, decisions)
        self._chain.advance(frame_bytes)
        self._last_hash = self._chain.chain_hash
        with self.path.open("ab") as file:
            file.write(frame_bytes)

    def end(self) -> dict[str, Any]:
        """Where the chain ends now, as the fields of a head."""
        return {
            "segment": self._segment,
            "frame": self._chain.frame,
            "chain_hash": self._chain.chain_hash,
            "decisions": self._decisions,
            "first_id": self._ids[0] if self._ids else NO_ID,
            "last_id": self._ids[-1] if self._ids else NO_ID,
        }

    def head(self, kind: HeadKind = HeadKind.PERIODIC, at_ms: int = NOW_MS, **fields: object) -> JournalHead:
        """Sign a head for what was written, put it into the journal, and return it."""
        values: dict[str, object] = {
            "sidecar_id": self.sidecar_id,
            "chain_id": self.chain_id,
            "number": len(self.heads),
            "kind": kind,
            "at_ms": at_ms,
            **self.end(),
            "answered": self._decisions,
            "weakest_mode": WeakestMode.GROUP,
            "previous_head_hash": hash_head(self.heads[-1]) if self.heads else NO_HEAD,
        }
        head = sign_head(JournalHead(**(values | fields)), self.key, self._origin)  # type: ignore[arg-type]
        self.heads.append(head)
        self._ids = []
        self.write_frame(bytes((FrameKind.HEAD,)) + format_head(head))
        return head

    def _seal_key(self, data_key: bytes) -> None:
        path = self.directory / KEYS_FILE_NAME
        sealed = json.loads(path.read_text()) if path.exists() else {}
        sealed[format_key_name((self.chain_id, self._segment))] = seal_segment_key(
            data_key,
            AUDITOR.private_key.public_key().public_bytes_raw(),
            recipient_name=AUDITOR.name,
            sidecar_id=self.sidecar_id,
            chain_id=self.chain_id,
            number=self._segment,
        ).hex()
        path.write_text(json.dumps(sealed))


def enrol(log: LogBuilder, sidecar_id: str = "pod-1") -> None:
    """Log the ENROL of a sidecar with its own key."""
    key = sidecar_key(sidecar_id)
    log.append(
        EnrolEvent(
            origin=log.origin,
            source="feed",
            sidecar_id=sidecar_id,
            public_key=key.verifier_key.public_key,
            enrolled_at_ms=log.now_ms,
            possession=sign_possession(key, log.origin),
        )
    )


def log_heads(log: LogBuilder, heads: Iterable[JournalHead], received_at_ms: int = NOW_MS) -> None:
    """Log heads as the feed does."""
    log.append(JournalHeadsEvent(origin=log.origin, source="feed", received_at_ms=received_at_ms, heads=tuple(heads)))


def write_folder(path: Path, log: LogBuilder, key: AuditorKey | None = AUDITOR) -> AuditFolder:
    """Put log and trust file into an audit folder, beside the journals that are there, and open it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / TRUST_FILE_NAME).write_bytes(seal_trust(log.trust, ROOT_KEY))
    (path / ROOT_KEY_FILE_NAME).write_text(format_verifier_key(ROOT_KEY.verifier_key) + "\n")
    (path / FILE_NAME).unlink(missing_ok=True)
    writer = LogCopyWriter(path / FILE_NAME)
    writer.append(
        CopiedEntry(seq, entry.type_byte, entry.opening, entry.event_bytes, entry.commitment, entry.attestations)
        for seq, entry in enumerate(log.entries, 1)
    )
    writer.seal(log.sign())
    writer.close()
    return open_folder(path, key)


def _seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()

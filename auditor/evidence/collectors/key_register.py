"""8.24: every key that counts."""

from auditor.evidence.events import Collector, EntrySeen
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import MS_PER_SECOND, format_time
from auditor.evidence.scope import Scope
from auditor.findings import Finding
from consent.event import EnrolEvent, KeyEpochEvent, RetireEvent
from consent.eventlog.errors import MalformedKey
from consent.eventlog.keys import KeyKind, VerifierKey
from consent.eventlog.trust import TrustedKey

SLUG = "8.24"
#: What the program uses, from docs/protocol.md and docs/decision-record.md.
_ALGORITHMS = (
    ("signatures of log, cosigners, witnesses, sources, approvers, sidecars, auditors", "Ed25519 (RFC 8032)"),
    ("tree of the log, chains of journals", "SHA-256 (RFC 6962 tree; hash chain)"),
    ("caches, journals, stored log", "AES-256-GCM, keys derived by HKDF-SHA256"),
    ("pseudonyms (tokens) of identifiers", "keyed hash under a subject key of the epoch"),
    ("keys sealed to a sidecar or auditor", "X25519 with HKDF-SHA256 and AES-256-GCM"),
    ("connections", "TLS 1.2 or 1.3, mutual"),
)


class KeyCollector(Collector):
    """Puts the trust file's keys beside those that the log names.

    Args:
        scope: The export.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._epochs: list[tuple[Cell, ...]] = []
        self._sidecars: dict[str, tuple[Cell, ...]] = {}
        self._replaced: list[tuple[Cell, ...]] = []

    def see_entry(self, seen: EntrySeen) -> None:
        """Key epochs and sidecars' keys."""
        match seen.event:
            case KeyEpochEvent() as event:
                self._epochs.append((event.epoch, seen.seq, format_time(seen.logged_at_ms or None)))
            case EnrolEvent() as event:
                self._end(event.sidecar_id, seen.seq)
                enrolled = format_time(event.enrolled_at_ms)
                self._sidecars[event.sidecar_id] = (event.sidecar_id, _key_id(event), seen.seq, enrolled)
            case RetireEvent() as event:
                self._end(event.sidecar_id, seen.seq)
            case _:
                pass

    def write(self, report: Report) -> None:
        """The register."""
        section, trust = report[SLUG], self._scope.trust
        section.add_source(
            "trust file as its root key signs it, complete; event log: KEY_EPOCH, ENROL, RETIRE, complete"
        )
        lists = (
            ("log", trust.log_keys),
            ("cosigner", trust.cosigner_keys),
            ("witness", trust.witness_keys),
            ("source", trust.source_keys),
            ("approver", trust.approver_keys),
        )
        rows = [_describe(kind, key) for kind, keys in lists for key in keys]
        section.add_figure("keys in the trust file", len(rows))
        section.add_figure("keys of sidecars that count", len(self._sidecars))
        section.add_figure("epochs of the subject key", len(self._epochs))
        section.add_table(
            "trusted-keys", "Keys of the trust file", ("kind", "name", "key id", "from", "until", "last seq"), rows
        )
        live = [(*row, None) for row in self._sidecars.values()]
        section.add_table(
            "sidecar-keys",
            "Keys of sidecars, and the entry from which on one no longer counts",
            ("sidecar", "key id", "enrolled at seq", "enrolled", "ended at seq"),
            sorted([*self._replaced, *live], key=lambda row: (str(row[0]), int(row[2] or 0))),
        )
        section.add_table("epochs", "Epochs of the subject key", ("epoch", "seq", "about"), self._epochs)
        section.add_table(
            "algorithms", "What is used where, as this program is built", ("use", "algorithm"), _ALGORITHMS
        )
        for name, keys in lists:
            for key in keys:
                end = key.not_after_unix_seconds
                if end is not None and end * MS_PER_SECOND < self._scope.generated_at_ms:
                    text = f"a {name} key of the trust file is past its validity: {key.verifier_key.name}"
                    section.add_finding(Finding("KEY_EXPIRED", text, place=key.verifier_key.key_id.hex()))

    def _end(self, sidecar_id: str, seq: int) -> None:
        held = self._sidecars.pop(sidecar_id, None)
        if held:
            self._replaced.append((*held, seq))


def _key_id(event: EnrolEvent) -> str:
    try:
        return VerifierKey(event.sidecar_id, KeyKind.SIDECAR, event.public_key).key_id.hex()
    except MalformedKey:
        # A feed that lies can log any name; what else is there must still be shown.
        return "not a key"


def _describe(kind: str, key: TrustedKey) -> tuple[Cell, ...]:
    start, end = (
        None if seconds is None else seconds * MS_PER_SECOND
        for seconds in (key.not_before_unix_seconds, key.not_after_unix_seconds)
    )
    name = key.verifier_key
    return (kind, name.name, name.key_id.hex(), format_time(start), format_time(end), key.last_seq)

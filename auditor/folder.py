"""An audit folder: everything that an audit reads, fetched over the network or copied by hand.

log.copy                           the event log (`auditor.log_copy`)
trust.note, root.pub               whom to believe, as the auditor has it from whoever signs it
replay.keys                        optional: a key ring sealed to the auditor, for `replay`
journals/<sidecar>/*.journal       segments as they lay on the sidecar's disk
journals/<sidecar>/segment-keys.json, shipped.json
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.errors import FolderUnusable
from auditor.journals import AuditorKey, SidecarJournal
from auditor.log_copy import FILE_NAME, LogCopy
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import parse_verifier_key
from consent.eventlog.trust import Trust, open_trust
from consent.key_ring import InvalidKeyRing, KeyRing, open_key_ring

TRUST_FILE_NAME: Final = "trust.note"
ROOT_KEY_FILE_NAME: Final = "root.pub"
REPLAY_KEYS_FILE_NAME: Final = "replay.keys"
JOURNALS_DIRECTORY_NAME: Final = "journals"
CHANGED_SUFFIX: Final = ".changed"
"""What `fetch` puts beside a file where a source gave something else later than it had given before."""


@dataclass(frozen=True, slots=True)
class AuditFolder:
    """What an audit reads.

    Attributes:
        path: The folder.
        trust: Whom to believe.
        key: The auditor's own, None where it has none: then chains are verified, and no record is read.
    """

    path: Path
    trust: Trust
    key: AuditorKey | None = None

    @property
    def log(self) -> LogCopy:
        """The copy of the event log."""
        return LogCopy(self.path / FILE_NAME)

    @property
    def has_log(self) -> bool:
        """Whether there is one."""
        return (self.path / FILE_NAME).is_file()

    def journals(self) -> Iterator[SidecarJournal]:
        """The journals of all sidecars, by name; none where there is no folder of them.

        Raises:
            FolderUnusable: It cannot be read.
        """
        directory = self.path / JOURNALS_DIRECTORY_NAME
        try:
            places = sorted(place for place in directory.iterdir() if place.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise FolderUnusable(f"{directory}: {error.strerror}") from None
        for place in places:
            yield SidecarJournal(place.name, place, self.key)

    def replay_keys(self) -> KeyRing | None:
        """The keys for `replay`, None where there are none.

        Raises:
            FolderUnusable: They are not sealed to this auditor, or are damaged.
        """
        path = self.path / REPLAY_KEYS_FILE_NAME
        with suppress(FileNotFoundError):
            try:
                sealed = path.read_bytes()
                if self.key is None:
                    raise FolderUnusable(f"{path}: needs the auditor's own key")
                return open_key_ring(sealed, self.key.private_key, tenant=self.trust.tenant, sidecar_id=self.key.name)
            except InvalidKeyRing:
                raise FolderUnusable(f"{path}: not sealed to this auditor for this tenant") from None
        return None


def open_folder(path: Path, key: AuditorKey | None = None) -> AuditFolder:
    """Open an audit folder with the trust file in it.

    Raises:
        FolderUnusable: There is none, or its trust file cannot be believed.
    """
    try:
        root_key = parse_verifier_key((path / ROOT_KEY_FILE_NAME).read_text(encoding="utf-8").strip())
        trust = open_trust((path / TRUST_FILE_NAME).read_bytes(), root_key)
    except EventLogError as error:
        raise FolderUnusable(f"{path}: trust file: {error.reason}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        described = getattr(error, "strerror", None) or "not readable"
        raise FolderUnusable(f"{path}: trust file: {described}") from None
    return AuditFolder(path, trust, key)

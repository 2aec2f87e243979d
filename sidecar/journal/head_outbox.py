"""Heads on their way to the feed: what waits in memory, and in a small file how far each chain's are logged there."""

import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from consent.eventlog.journal_head import HeadKind, JournalHead
from hosting.key_files import write_file_atomically
from journal.format import CHAIN_ID_BYTES
from sidecar.errors import SidecarError
from sidecar.ports import LoggedPlace

logger = logging.getLogger(__name__)

LOGGED_FILE_NAME: Final = "logged-heads.json"
MAX_WAITING: Final = 1_000

_VERSION: Final = 1


class MalformedLoggedHeads(SidecarError):
    """The file is not ours or was damaged. Expected after a repair by hand: heads are sent again, which changes nothing."""

    reason = "MALFORMED_LOGGED_HEADS"


class HeadOutbox:
    """Keeps heads until the feed has logged them. Safe from several threads.

    What waits is in memory only: it lies in the journal too, and a start finds it again there (`sidecar.journal.recovery`).

    Args:
        position_path: The file; `LOGGED_FILE_NAME` in the journal's directory by custom.
    """

    def __init__(self, position_path: Path) -> None:
        self._path = position_path
        self._lock = threading.Lock()
        self._waiting: dict[tuple[bytes, int], JournalHead] = {}
        self._logged = _load(position_path)

    def add(self, heads: Sequence[JournalHead]) -> None:
        """Take heads, in the order in which they lie in the journal; one that waits or is logged is not taken again."""
        with self._lock:
            for head in heads:
                place = self._logged.get(head.chain_id)
                if place is None or head.number > place.number:
                    self._waiting.setdefault((head.chain_id, head.number), head)
            if len(self._waiting) > MAX_WAITING:
                self._thin_out()

    def pending(self, limit: int) -> list[JournalHead]:
        """The heads that have waited longest, at most `limit`."""
        with self._lock:
            return list(islice(self._waiting.values(), limit))

    def count_waiting(self) -> int:
        """How many heads the feed has not logged."""
        with self._lock:
            return len(self._waiting)

    def confirm(self, heads: Sequence[JournalHead]) -> None:
        """The feed has logged these. Writes a file and waits for the disk.

        If that fails, the heads are sent once more after the next start, and the feed answers that it has them.
        """
        with self._lock:
            for head in heads:
                self._waiting.pop((head.chain_id, head.number), None)
                place = self._logged.get(head.chain_id)
                if place is None or head.number > place.number:
                    is_ended = head.kind in (HeadKind.FINAL, HeadKind.RECOVERY)
                    self._logged[head.chain_id] = LoggedPlace(head.number, head.segment, is_ended)
            self._save()

    def logged(self, chain_id: bytes) -> LoggedPlace | None:
        """The newest logged head of a chain, None before the first."""
        with self._lock:
            return self._logged.get(chain_id)

    def retain(self, chain_ids: Collection[bytes]) -> None:
        """Forget how far chains are logged whose segments are gone."""
        with self._lock:
            gone = [chain_id for chain_id in self._logged if chain_id not in chain_ids]
            for chain_id in gone:
                del self._logged[chain_id]
            if gone:
                self._save()

    def _thin_out(self) -> None:
        """Leave out every second of those that only say that time went by: each later one covers what they say."""
        newest = dict(self._waiting.keys())
        for at, (key, head) in enumerate(list(self._waiting.items())):
            if at % 2 and head.kind == HeadKind.PERIODIC and head.number not in (0, newest[head.chain_id]):
                del self._waiting[key]

    def _save(self) -> None:
        try:
            write_file_atomically(self._path, format_logged(self._logged))
        except OSError as error:
            logger.warning(
                "how far heads are logged cannot be kept; they are sent again after the next start",
                extra={"fields": {"cause": error.strerror}},
            )


def format_logged(places: Mapping[bytes, LoggedPlace]) -> bytes:
    """The content of the file, from places by chain id."""
    chains = {chain_id.hex(): asdict(place) for chain_id, place in places.items()}
    return json.dumps({"version": _VERSION, "chains": chains}, indent=1).encode("ascii") + b"\n"


def parse_logged(text: bytes) -> dict[bytes, LoggedPlace]:
    """Places by chain id.

    Raises:
        MalformedLoggedHeads: Not what `format_logged` writes.
    """
    try:
        content = json.loads(text)
        if content["version"] != _VERSION:
            raise MalformedLoggedHeads("logged heads: another version")
        return {_parse_chain_id(name): _parse_place(fields) for name, fields in content["chains"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedLoggedHeads("logged heads: not the expected JSON") from None


def _parse_chain_id(name: str) -> bytes:
    chain_id = bytes.fromhex(name)
    if len(chain_id) != CHAIN_ID_BYTES:
        raise ValueError
    return chain_id


def _parse_place(fields: dict[str, Any]) -> LoggedPlace:
    place = LoggedPlace(**fields)
    numbers = (place.number, place.segment)
    if type(place.is_ended) is not bool or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError
    return place


def _load(path: Path) -> dict[bytes, LoggedPlace]:
    try:
        return parse_logged(path.read_bytes())
    except FileNotFoundError:
        return {}
    except MalformedLoggedHeads as error:
        logger.error("all heads are sent again", extra={"fields": {"reason": error.reason}})
    except OSError as error:
        logger.error("all heads are sent again", extra={"fields": {"cause": error.strerror}})
    return {}

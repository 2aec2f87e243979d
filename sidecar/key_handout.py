"""Keys of a stopped sidecar's journal, sealed to an auditor. A running one is asked itself, since its journal then says so."""

from hosting.locks import keep_still
from journal.directory import list_segments
from sidecar.config import SidecarSettings
from sidecar.journal.segment_access import Recipient, SegmentName, seal_keys
from sidecar.runtime import load_keys


def seal_stopped(settings: SidecarSettings, recipient: Recipient) -> dict[SegmentName, bytes]:
    """The key of every segment in the journal's directory, empty where none at hand opens it.

    Nothing is noted: nobody writes this journal.

    Raises:
        InstanceLocked: The sidecar runs.
        SidecarError, HostingError: The key provider has no keys, or the directory cannot be used.
        InvalidSegmentKey: The recipient's key is not one.
        OSError: The disk cannot be read.
    """
    with keep_still(settings.cache.directory):
        keys = load_keys(settings)
        keys.refresh()
        chains = list_segments(settings.journal.directory)
        names = [SegmentName(chain_id, number) for chain_id, sizes in chains.items() for number in sizes]
        sealed = seal_keys(settings.journal.directory, names, keys, settings.sidecar_id, recipient)
        return dict.fromkeys(names, b"") | {each.name: each.sealed_key for each in sealed}

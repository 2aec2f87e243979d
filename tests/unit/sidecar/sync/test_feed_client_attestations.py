"""Signatures beside an entry, as they come from the wire: taken as they are, or the frame is refused."""

import pytest
from consentry.event.v1 import event_pb2
from consentry.feed.v1 import feed_pb2

from feed.grpc_api.attestation_codec import encode_attestation
from sidecar.errors import MalformedFrame
from sidecar.ports import EntriesFrame
from sidecar.sync.feed_client import _read_frame
from tests.fakes.signing_feed import SIGNERS, opt_out

(ATTESTATION,) = SIGNERS.sign(opt_out(1, "newsletter", kind=1, source="web", proof=2))
ENCODED = encode_attestation(ATTESTATION)


def frame(*attestations: event_pb2.Attestation) -> feed_pb2.SubscribeResponse:
    entry = event_pb2.Entry(type=1, opening=bytes(32), event_bytes=b"\x01\x01", attestations=attestations)
    return feed_pb2.SubscribeResponse(entries=feed_pb2.Entries(from_seq=1, entries=[entry]))


def changed(**fields: object) -> event_pb2.Attestation:
    message = event_pb2.Attestation()
    message.CopyFrom(ENCODED)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_read_frame_hands_on_the_signatures_as_they_came() -> None:
    read = _read_frame(frame(ENCODED, ENCODED))
    assert isinstance(read, EntriesFrame)
    assert read.entries[0].attestations == (ATTESTATION, ATTESTATION)


@pytest.mark.parametrize(
    "attestations",
    [
        [ENCODED] * 17,
        [changed(key_id=b"123")],
        [changed(signature=b"")],
        [changed(evidence_digest=bytes(31))],
        [changed(batch_index=1)],
        [changed(batch_size=0)],
        [changed(batch_size=10_001)],
        [changed(signed_at_unix_seconds=-1)],
    ],
    ids=["too many", "key id", "signature", "digest", "index", "no batch", "large batch", "time"],
)
def test_read_frame_signature_of_another_form_is_refused(attestations: list[event_pb2.Attestation]) -> None:
    with pytest.raises(MalformedFrame, match=r"^entries: "):
        _read_frame(frame(*attestations))

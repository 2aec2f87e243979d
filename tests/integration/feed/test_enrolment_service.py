"""Enrolment and signed acknowledgements, over a real socket: what is not the sidecar's own word is refused by name."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from consentry.feed.v1 import feed_pb2

from consent.eventlog.acknowledgement import sign_ack, sign_possession
from tests.fakes.feed_log import ORIGIN
from tests.fakes.trails import make_sidecar_key
from tests.integration.feed.sync_peer import Peer, refusal_of, run_feed


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"signature": bytes(64)}, (grpc.StatusCode.PERMISSION_DENIED, "ACK_SIGNATURE_INVALID")),
        ({"applied_at_ms": 6}, (grpc.StatusCode.PERMISSION_DENIED, "ACK_SIGNATURE_INVALID")),
        ({"root_hash": bytes(32)}, (grpc.StatusCode.FAILED_PRECONDITION, "ACK_ROOT_MISMATCH")),
        ({"root_hash": b"short"}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        ({"size": 9}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
    ],
)
async def test_stream_acknowledgement_that_is_not_the_sidecars_word_ends_it_by_name(
    tmp_path: Path, changes: dict[str, Any], refusal: tuple[grpc.StatusCode, str]
) -> None:
    async with run_feed(tmp_path) as feed:
        key = make_sidecar_key("pod-1")
        public_key, possession = key.verifier_key.public_key, sign_possession(key, ORIGIN)
        await feed.desk.enrol("pod-1", public_key, possession, "")
        await feed.desk.approve("pod-1", b"", "administrator")
        peer = Peer(feed.stub)
        await peer.receive_until(2)
        receipt = sign_ack(key, ORIGIN, 2, peer.frontier.root_hash(), 5)
        ack = {name: getattr(receipt, name) for name in ("size", "root_hash", "applied_at_ms", "signature")}
        peer.say(ack=feed_pb2.Ack(**ack))
        await feed.progress.wait_until(lambda book: book.progress()[0].acknowledged_size == 2)
        peer.say(ack=feed_pb2.Ack(**(ack | changes)))
        assert await refusal_of(peer.call) == refusal
        await feed.receipts.flush()
        assert await feed.store.find_receipt("pod-1", 2, 0) is not None


async def test_stream_of_a_sidecar_that_is_retired_ends_and_is_not_opened_again(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        key = make_sidecar_key("pod-1")
        request = feed_pb2.EnrolRequest(
            sidecar_id="pod-1",
            public_key=key.verifier_key.public_key,
            possession=sign_possession(key, ORIGIN),
        )
        assert not (await feed.stub.Enrol(request)).enrolled
        await feed.desk.approve("pod-1", b"", "administrator")
        assert (await feed.stub.Enrol(request)).seq == 2
        peer = Peer(feed.stub)
        await peer.receive_until(2)
        await feed.desk.retire("pod-1", "administrator")
        refused = (grpc.StatusCode.PERMISSION_DENIED, "SIDECAR_RETIRED")
        assert await refusal_of(peer.call) == refused
        assert await refusal_of(Peer(feed.stub, frontier=peer.frontier).call) == refused
        assert await refusal_of(feed.stub.GetKeys(feed_pb2.GetKeysRequest(sidecar_id="pod-1"))) == refused
        snapshot = feed.stub.GetSnapshot(feed_pb2.GetSnapshotRequest(sidecar_id="pod-1"))
        assert await refusal_of(snapshot) == refused
        assert not (await feed.stub.Enrol(request)).enrolled


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"possession": bytes(64)}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_POSSESSION")),
        ({"public_key": b""}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_POSSESSION")),
        ({"enrolment_token": "a.b.c"}, (grpc.StatusCode.PERMISSION_DENIED, "ENROLMENT_REFUSED")),
        ({"sidecar_id": "pod 1"}, (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
    ],
)
async def test_enrol_wrong_request_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], refusal: tuple[grpc.StatusCode, str]
) -> None:
    async with run_feed(tmp_path) as feed:
        key = make_sidecar_key("pod-1")
        fields: dict[str, Any] = {
            "sidecar_id": "pod-1",
            "public_key": key.verifier_key.public_key,
            "possession": sign_possession(key, ORIGIN),
        }
        assert await refusal_of(feed.stub.Enrol(feed_pb2.EnrolRequest(**(fields | changes)))) == refusal
        assert feed.sequencer.head.tenant.sidecars == ()

"""Snapshots, keys and proofs, over a real socket; and who may call, with real certificates."""

import asyncio
from pathlib import Path

import grpc
import pytest
from consentry.feed.v1 import feed_pb2, feed_pb2_grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consent.event import StateRootEvent, parse_event
from consent.eventlog.acknowledgement import sign_possession
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.eventlog.proof import verify_consistency, verify_inclusion
from consent.key_ring import InvalidKeyRing, open_key_ring
from consent.state_record import StateHasher, parse_cluster, parse_tenant, split_records
from hosting.development_ca import create_development_ca, issue_certificate
from hosting.tls import channel_credentials, server_credentials
from tests.fakes.feed_log import KEYS, ORIGIN, TENANT, TRUST, make_request, token_of
from tests.fakes.trails import make_sidecar_key
from tests.integration.feed.sync_peer import MS_PER_DAY, Peer, RunningFeed, open_channel, refusal_of, run_feed


async def record(feed: RunningFeed, people: int) -> int:
    await asyncio.gather(*(feed.sequencer.submit(make_request(f"person-{n}")) for n in range(people)))
    return feed.sequencer.head.size


async def test_snapshot_is_provable_from_what_was_sent_alone_and_the_stream_goes_on_from_it(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, 20)
        responses = [r async for r in feed.stub.GetSnapshot(feed_pb2.GetSnapshotRequest(sidecar_id="pod-1"))]
        header, chunks = responses[0].header, [response.chunk for response in responses[1:]]

        assert [chunk.number for chunk in chunks] == list(range(header.chunk_count))
        hasher, tokens = StateHasher(), []
        for chunk in chunks:
            for record_bytes in split_records(chunk.records):
                members = parse_cluster(record_bytes).members
                hasher.add(members[0].token, record_bytes)
                tokens += [member.token for member in members]
        assert set(tokens) == {token_of(f"person-{n}") for n in range(20)}
        assert header.subject_count == len(tokens)
        entry = header.state_root_entry
        state_root_hash = hasher.finish(parse_tenant(header.tenant_record))
        assert parse_event(entry.event_bytes) == StateRootEvent(
            origin=ORIGIN, source="feed", size=size, state_root_hash=state_root_hash
        )
        frontier = Frontier(header.size, header.frontier_hashes)
        frontier.append(hash_leaf(leaf_data(entry.type, commit(entry.opening, entry.event_bytes))))
        checkpoint = verify_checkpoint(header.checkpoint, TRUST, None).checkpoint
        assert (checkpoint.size, checkpoint.root_hash) == (size + 1, frontier.root_hash())

        peer = Peer(feed.stub, frontier=frontier)
        await feed.sequencer.submit(make_request("later"))
        await peer.receive_until(size + 3)
        peer.close()


async def test_keys_are_sealed_to_the_sidecar_that_asks_for_the_days_to_come(tmp_path: Path) -> None:
    private_key = X25519PrivateKey.generate()
    request = feed_pb2.GetKeysRequest(
        sidecar_id="pod-1", recipient_public_key=private_key.public_key().public_bytes_raw()
    )
    async with run_feed(tmp_path) as feed:
        sealed = (await feed.stub.GetKeys(request)).sealed_key_ring

        ring = open_key_ring(sealed, private_key, tenant=TENANT, sidecar_id="pod-1")
        assert ring == KEYS.key_ring(feed.clock.now_ms() // MS_PER_DAY)
        assert KEYS.subject_key not in sealed
        with pytest.raises(InvalidKeyRing):
            open_key_ring(sealed, private_key, tenant=TENANT, sidecar_id="pod-2")


async def test_keys_for_something_that_is_no_key_are_refused(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        refusal = await refusal_of(
            feed.stub.GetKeys(feed_pb2.GetKeysRequest(sidecar_id="pod-1", recipient_public_key=b"short"))
        )
        assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_KEY_RING")


async def test_proof_of_an_entry_leads_to_the_root_of_any_size(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        size = await record(feed, 4)
        for tree_size in (2, 5, size):
            request = feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=2, tree_size=tree_size)
            response = await feed.stub.GetEntryProof(request)
            entry = response.entry
            leaf_hash = hash_leaf(leaf_data(entry.type, commit(entry.opening, entry.event_bytes)))
            verify_inclusion(leaf_hash, 1, tree_size, response.inclusion_proof, response.root_hash)
            assert response.checkpoint == feed.sequencer.head.checkpoint_note
            is_newest = response.root_hash == feed.sequencer.head.frontier.root_hash()
            assert is_newest is (tree_size == size)


async def test_proof_that_a_log_has_grown_leads_from_root_to_root(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        await record(feed, 2)
        older = feed.sequencer.head
        await feed.sequencer.submit(make_request("later"))
        newer = feed.sequencer.head
        request = feed_pb2.GetConsistencyProofRequest(sidecar_id="pod-1", old_size=older.size, new_size=newer.size)
        response = await feed.stub.GetConsistencyProof(request)

        verify_consistency(
            older.size,
            older.frontier.root_hash(),
            newer.size,
            newer.frontier.root_hash(),
            response.consistency_proof,
        )


async def test_proof_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    async with run_feed(tmp_path) as feed:
        await record(feed, 2)
        calls = [
            feed.stub.GetEntryProof(feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=0, tree_size=5)),
            feed.stub.GetEntryProof(feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=6, tree_size=5)),
            feed.stub.GetEntryProof(feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=1, tree_size=6)),
            feed.stub.GetEntryProof(feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=1, tree_size=2**64 - 1)),
            feed.stub.GetConsistencyProof(
                feed_pb2.GetConsistencyProofRequest(sidecar_id="pod-1", old_size=3, new_size=2)
            ),
            feed.stub.GetConsistencyProof(
                feed_pb2.GetConsistencyProofRequest(sidecar_id="pod-1", old_size=3, new_size=6)
            ),
        ]
        for call in calls:
            assert await refusal_of(call) == (grpc.StatusCode.NOT_FOUND, "ENTRY_UNKNOWN")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    create_development_ca(directory)
    issue_certificate(directory, "feed", san_ips=["127.0.0.1"])
    issue_certificate(directory, "by-uri", san_uris=["spiffe://example.org/sidecar/pod-1"])
    issue_certificate(directory, "by-dns", san_dns=["pod-1"])
    issue_certificate(directory, "elsewhere", san_uris=["spiffe://example.com/sidecar/pod-1"])
    issue_certificate(directory, "other", san_uris=["spiffe://example.org/sidecar/pod-2"], san_dns=["pod-3"])
    issue_certificate(directory, "nested", san_uris=["spiffe://example.org/team/sidecar/pod-1"])
    issue_certificate(directory, "source", san_uris=["spiffe://example.org/source/pod-1"])
    return directory


def client_credentials(certificates: Path, name: str) -> grpc.ChannelCredentials:
    return channel_credentials(certificates / f"{name}.pem", certificates / f"{name}-key.pem", certificates / "ca.pem")


@pytest.mark.parametrize(
    ("certificate", "is_permitted"),
    [("by-uri", True), ("by-dns", False), ("elsewhere", False), ("other", False), ("nested", False), ("source", False)],
)
async def test_caller_is_the_sidecar_that_its_certificate_names(
    tmp_path: Path, certificates: Path, certificate: str, is_permitted: bool
) -> None:
    ca, cert, key = (certificates / name for name in ("ca.pem", "feed.pem", "feed-key.pem"))
    async with (
        run_feed(tmp_path, credentials=server_credentials(cert, key, ca), trusted_local=True) as feed,
        open_channel(feed.target, client_credentials(certificates, certificate)) as channel,
    ):
        stub = feed_pb2_grpc.FeedServiceStub(channel)
        public_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
        keys = feed_pb2.GetKeysRequest(sidecar_id="pod-1", recipient_public_key=public_key)
        snapshot = feed_pb2.GetSnapshotRequest(sidecar_id="pod-1")
        entry = feed_pb2.GetEntryProofRequest(sidecar_id="pod-1", seq=1, tree_size=1)
        growth = feed_pb2.GetConsistencyProofRequest(sidecar_id="pod-1", old_size=1, new_size=1)
        own_key = make_sidecar_key("pod-1")
        enrolment = feed_pb2.EnrolRequest(
            sidecar_id="pod-1",
            public_key=own_key.verifier_key.public_key,
            possession=sign_possession(own_key, ORIGIN),
        )
        if is_permitted:
            assert not (await stub.Enrol(enrolment)).enrolled
            assert (await stub.GetKeys(keys)).sealed_key_ring
            assert (await stub.GetEntryProof(entry)).entry.event_bytes
            await stub.GetConsistencyProof(growth)
            assert [response async for response in stub.GetSnapshot(snapshot)]
            peer = Peer(stub)
            await peer.receive()
            peer.close()
            return
        calls = (
            stub.GetKeys(keys),
            stub.GetEntryProof(entry),
            stub.GetConsistencyProof(growth),
            stub.Enrol(enrolment),
            stub.RecordJournalHeads(feed_pb2.RecordJournalHeadsRequest(sidecar_id="pod-1")),
        )
        for call in (*calls, stub.GetSnapshot(snapshot), Peer(stub).call):
            assert await refusal_of(call) == (grpc.StatusCode.PERMISSION_DENIED, "SIDECAR_NOT_PERMITTED")
        assert (feed.sequencer.head.size, feed.desk.pending) == (1, ())

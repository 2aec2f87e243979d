"""The decision record for auditors: the files as they lie on the disk, and keys only with a note about who was given them."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from consentry.audit.v1 import journal_pb2, journal_pb2_grpc
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError
from typer.testing import CliRunner

from auditor.journals import KEYS_FILE_NAME, AuditorKey, SidecarJournal
from consent.decision_record import parse_record
from consent.eventlog.keys import KeyKind, generate_signing_key
from hosting.addresses import format_address
from hosting.grpc_errors import REASON_KEY
from hosting.tls import channel_credentials
from journal.access import AccessNote, hash_recipient_key, parse_access
from journal.auditor_key import AuditorPublicKey, format_auditor_key
from journal.directory import list_segments
from journal.errors import InvalidSegmentKey
from journal.format import FrameKind, format_segment_name
from journal.reader import read_frames
from journal.segment_keys import open_segment_key
from sidecar.cli import app
from sidecar.grpc_api.journal_service import CHUNK_BYTES, MAX_KEYS, MAX_READERS
from sidecar.runtime import load_keys
from tests.fakes.certificates import Authority, make_authority
from tests.fakes.system import System, ask, running_system

AUDITOR = "spiffe://shop.example/internal-audit"
AUDIT_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = AUDIT_KEY.public_key().public_bytes_raw()
SEGMENT_BYTES = 4096


@asynccontextmanager
async def audited_system(directory: Path, **changes: Any) -> AsyncIterator[System]:
    journal = {"directory": directory / "sidecar-1" / "journal", "ship": False, "segment_max_bytes": SEGMENT_BYTES}
    sidecar_changes = {"journal": journal, "audit": {"address": f"unix://{directory}/audit.sock"}} | changes
    async with running_system(directory, sidecar_changes=sidecar_changes) as system:
        yield system


@pytest.fixture
async def system(short_directory: Path) -> AsyncIterator[System]:
    async with audited_system(short_directory) as running:
        yield running


@asynccontextmanager
async def auditing(system: System) -> AsyncIterator["journal_pb2_grpc.JournalServiceAsyncStub"]:
    async with grpc.aio.insecure_channel(f"unix://{system.installation.directory}/audit.sock") as channel:
        yield journal_pb2_grpc.JournalServiceStub(channel)


async def decide(system: System, count: int = 20) -> None:
    async with system.stub() as stub:
        for number in range(count):
            await stub.Check(ask(f"person-{number}"))


async def read(stub: Any, segment: Any, offset: int = 0) -> bytes:
    request = journal_pb2.ReadSegmentRequest(chain_id=segment.chain_id, number=segment.number, offset=offset)
    return b"".join([part.content async for part in stub.ReadSegment(request)])


def keys_request(segments: Any, **changes: Any) -> journal_pb2.GetSegmentKeysRequest:
    fields: dict[str, Any] = {
        "recipient_public_key": PUBLIC_KEY,
        "recipient_name": "internal-audit",
        "segments": [journal_pb2.SegmentName(chain_id=segment.chain_id, number=segment.number) for segment in segments],
    }
    return journal_pb2.GetSegmentKeysRequest(**(fields | changes))


async def refusal_of(call: Any) -> tuple[str, str, str]:
    """Status, reason and text with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reasons = [str(value) for key, value in caught.value.trailing_metadata() or () if key == REASON_KEY]
    return caught.value.code().name, "".join(reasons), caught.value.details() or ""


def notes(system: System) -> list[AccessNote]:
    """Every access note of the journal."""
    directory = system.settings.journal.directory
    keys = load_keys(system.settings)
    found = []
    for chain_id, sizes in list_segments(directory).items():
        for number in sorted(sizes):
            frames = read_frames(directory / format_segment_name(chain_id, number), keys)
            found += [parse_access(frame.records[0]) for frame in frames if frame.kind == FrameKind.ACCESS]
    return found


async def test_auditor_reads_every_decision_from_what_the_sidecar_sends(system: System, tmp_path: Path) -> None:
    await decide(system)
    home = tmp_path / "sidecar-1"
    home.mkdir()
    async with auditing(system) as stub:
        listed = await stub.ListSegments(journal_pb2.ListSegmentsRequest())
        assert listed.sidecar_id == "sidecar-1"
        assert listed.shipped_positions == b""
        assert len(listed.segments) > 1
        for segment in listed.segments:
            content = await read(stub, segment)
            assert len(content) >= segment.size_bytes
            (home / format_segment_name(segment.chain_id, segment.number)).write_bytes(content)
        sealed = (await stub.GetSegmentKeys(keys_request(listed.segments))).keys
    by_name = {f"{key.chain_id.hex()}-{key.number}": key.sealed_key.hex() for key in sealed}
    (home / KEYS_FILE_NAME).write_text(json.dumps(by_name), encoding="utf-8")
    journal = SidecarJournal("sidecar-1", home, AuditorKey("internal-audit", AUDIT_KEY))
    (chain_id,) = journal.chains()
    assert len({call.call.call_id for call in journal.calls(chain_id)}) == 20


async def test_keys_are_given_with_a_note_about_who_got_them(system: System) -> None:
    await decide(system)
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
        await stub.GetSegmentKeys(keys_request(listed[:2]))
    (note,) = notes(system)
    assert (note.caller, note.recipient_name, note.segment_count) == ("auditor", "internal-audit", 2)
    assert note.recipient_key_hash == hash_recipient_key(PUBLIC_KEY)
    # The note is read past by whoever looks for decisions only.
    directory = system.settings.journal.directory
    records = [
        parse_record(record)
        for chain_id, sizes in list_segments(directory).items()
        for number in sizes
        for frame in read_frames(directory / format_segment_name(chain_id, number), load_keys(system.settings))
        if frame.kind == FrameKind.RECORDS
        for record in frame.records
    ]
    assert len(records) == 20


async def test_keys_are_not_given_while_the_journal_cannot_be_written(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await decide(system)
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments

        def fail(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "write", fail)
            refused = await refusal_of(stub.GetSegmentKeys(keys_request(listed)))
        assert refused[:2] == ("UNAVAILABLE", "JOURNAL_UNAVAILABLE")
        assert notes(system) == []


async def test_keys_are_not_given_while_the_note_does_not_reach_the_disk(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await decide(system)
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
        system.sidecar.journal.flush()

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", fail)
            refused = await refusal_of(stub.GetSegmentKeys(keys_request(listed)))
        assert refused[:2] == ("UNAVAILABLE", "JOURNAL_UNAVAILABLE")


async def test_keys_open_for_their_recipient_sidecar_and_segment_alone(system: System) -> None:
    await decide(system)
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
        (key,) = (await stub.GetSegmentKeys(keys_request(listed[:1]))).keys
    fields: dict[str, Any] = {
        "recipient_name": "internal-audit",
        "sidecar_id": "sidecar-1",
        "chain_id": key.chain_id,
        "number": key.number,
    }
    assert len(open_segment_key(key.sealed_key, AUDIT_KEY, **fields)) == 32
    for changed in ({"recipient_name": "other"}, {"sidecar_id": "sidecar-2"}, {"number": key.number + 1}):
        with pytest.raises(InvalidSegmentKey):
            open_segment_key(key.sealed_key, AUDIT_KEY, **(fields | changed))


async def test_keys_of_segments_that_are_gone_or_foreign_are_left_out(system: System) -> None:
    await decide(system)
    directory = system.settings.journal.directory
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
        first, second = listed[0], listed[1]
        here = [directory / format_segment_name(segment.chain_id, segment.number) for segment in (first, second)]
        # A segment under the name of another one would be handed out as that one's.
        here[1].write_bytes(here[0].read_bytes())
        gone = journal_pb2.SegmentName(chain_id=bytes(16), number=7)
        given = (await stub.GetSegmentKeys(keys_request([first, first, second, gone]))).keys
    assert [(key.chain_id, key.number) for key in given] == [(first.chain_id, first.number)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"recipient_name": ""}, "recipient_name"),
        ({"recipient_name": "ada@example.com"}, "recipient_name"),
        ({"recipient_public_key": b"short"}, "recipient_public_key"),
        # Of low order: what is sealed to it everybody opens.
        ({"recipient_public_key": bytes(32)}, "recipient_public_key"),
        ({"segments": [journal_pb2.SegmentName(chain_id=b"../../../../etc/", number=2**64 - 1)]}, "number"),
        ({"segments": [journal_pb2.SegmentName(chain_id=b"/etc/passwd", number=0)]}, "chain_id"),
        ({"segments": [journal_pb2.SegmentName()] * (MAX_KEYS + 1)}, "segments"),
    ],
)
async def test_keys_for_what_cannot_be_are_refused_without_a_note(
    system: System, changes: dict[str, Any], text: str
) -> None:
    await decide(system, 1)
    async with auditing(system) as stub:
        listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
        code, _, details = await refusal_of(stub.GetSegmentKeys(keys_request(**{"segments": listed} | changes)))
    assert code == "INVALID_ARGUMENT"
    assert text in details
    assert notes(system) == []


async def test_segment_that_is_being_written_is_read_as_far_as_it_goes_and_on_from_there(
    short_directory: Path,
) -> None:
    journal = {"directory": short_directory / "sidecar-1" / "journal", "ship": False}
    async with audited_system(short_directory, journal=journal) as system:
        await decide(system, 1)
        async with auditing(system) as stub:
            (segment,) = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
            first = await read(stub, segment)
            await decide(system, 2)
            more = await read(stub, segment, len(first))
            directory = system.settings.journal.directory
            path = directory / format_segment_name(segment.chain_id, segment.number)
            assert more
            assert path.read_bytes().startswith(first + more)
            refused = await refusal_of(read(stub, segment, path.stat().st_size + 1_000_000))
    assert refused[0] == "INVALID_ARGUMENT"
    assert "offset" in refused[2]


async def test_segment_grown_in_the_middle_of_a_call_ends_where_it_ended_then(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await decide(system, 1)
    directory = system.settings.journal.directory
    path = directory / format_segment_name(b"\x01" * 16, 0)
    path.write_bytes(b"x" * (4 * 1024 * 1024))
    request = journal_pb2.ReadSegmentRequest(chain_id=b"\x01" * 16)
    async with auditing(system) as stub:
        sizes: list[int] = []
        async for part in stub.ReadSegment(request):
            if not sizes:
                with path.open("ab") as file:
                    file.write(b"y" * 1024)
            sizes.append(len(part.content))
    assert sizes == [CHUNK_BYTES] * 16


@pytest.mark.parametrize(
    ("chain_id", "number", "code"),
    [
        (b"", 0, "INVALID_ARGUMENT"),
        (b"../../../../../../etc/passwd", 0, "INVALID_ARGUMENT"),
        (b"../../../../etc/", 0, "NOT_FOUND"),
        (b"\x00" * 16, 0, "NOT_FOUND"),
        (b"\x00" * 16, 2**64 - 1, "INVALID_ARGUMENT"),
        (b"\x02" * 16, 0, "NOT_FOUND"),
        (b"\x03" * 16, 0, "NOT_FOUND"),
    ],
)
async def test_segment_names_lead_nowhere_but_to_segments(
    system: System, chain_id: bytes, number: int, code: str
) -> None:
    directory = system.settings.journal.directory
    (directory / format_segment_name(b"\x02" * 16, 0)).mkdir()
    os.mkfifo(directory / format_segment_name(b"\x03" * 16, 0))
    request = journal_pb2.ReadSegmentRequest(chain_id=chain_id, number=number)
    async with auditing(system) as stub:
        assert (await refusal_of(stub.ReadSegment(request).read()))[0] == code


async def test_segment_that_is_a_link_is_not_followed(system: System) -> None:
    directory = system.settings.journal.directory
    (directory / format_segment_name(b"\x04" * 16, 0)).symlink_to(system.installation.directory / "cache.key")
    async with auditing(system) as stub:
        request = journal_pb2.ReadSegmentRequest(chain_id=b"\x04" * 16)
        code, reason, text = await refusal_of(stub.ReadSegment(request).read())
    assert (code, reason) == ("NOT_FOUND", "SEGMENT_UNKNOWN")
    assert "cache.key" not in text


async def test_too_many_readers_at_once_are_refused_and_checks_go_on(system: System) -> None:
    directory = system.settings.journal.directory
    (directory / format_segment_name(b"\x01" * 16, 0)).write_bytes(bytes(32 * 1024 * 1024))
    request = journal_pb2.ReadSegmentRequest(chain_id=b"\x01" * 16)
    async with auditing(system) as stub:
        calls = [stub.ReadSegment(request) for _ in range(MAX_READERS)]
        for call in calls:
            await call.read()
        refused = await refusal_of(stub.ListSegments(journal_pb2.ListSegmentsRequest()))
        assert refused[:2] == ("RESOURCE_EXHAUSTED", "TOO_MANY_READERS")
        await decide(system, 3)
        for call in calls:
            call.cancel()
        listed = None
        async with asyncio.timeout(20):
            while listed is None:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    listed = await stub.ListSegments(journal_pb2.ListSegmentsRequest())


@asynccontextmanager
async def tls_stub(
    address: str, authority: Authority, name: str, uri: str
) -> AsyncIterator["journal_pb2_grpc.JournalServiceAsyncStub"]:
    files = authority.issue(name, uri)
    credentials = channel_credentials(files.cert_file, files.key_file, authority.ca_file)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield journal_pb2_grpc.JournalServiceStub(channel)


async def test_auditor_over_tls_is_told_apart_by_the_name_in_the_certificate_and_a_stranger_is_logged(
    short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = make_authority(short_directory / "authority")
    tls = authority.settings(authority.issue_server("sidecar"))
    audit = {"address": "127.0.0.1:0", "tls": tls, "auditors": [AUDITOR]}
    async with audited_system(short_directory, audit=audit) as system:
        address = format_address(system.sidecar.addresses[-1])
        async with tls_stub(address, authority, "auditor", AUDITOR) as stub:
            listed = (await stub.ListSegments(journal_pb2.ListSegmentsRequest())).segments
            await stub.GetSegmentKeys(keys_request(listed))
        caplog.set_level(logging.WARNING)
        async with tls_stub(address, authority, "partner", "spiffe://partner.example/audit") as stub:
            for _ in range(3):
                refused = await refusal_of(stub.ListSegments(journal_pb2.ListSegmentsRequest()))
                assert refused[:2] == ("PERMISSION_DENIED", "METHOD_NOT_PERMITTED")
        assert [note.caller for note in notes(system)] == [AUDITOR]
    lines = [record for record in caplog.records if "no auditor" in record.message]
    assert [record.fields["caller"] for record in lines] == ["spiffe://partner.example/audit"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "audit",
    [
        {"address": "127.0.0.1:0"},
        {"address": "unix:///tmp/a.sock", "auditors": [AUDITOR]},
        {"address": "unix:///tmp/a.sock", "tls": {"cert_file": "a", "key_file": "b", "ca_file": "c"}},
    ],
)
async def test_auditors_listener_without_what_tells_callers_apart_is_refused(
    short_directory: Path, audit: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        async with audited_system(short_directory, audit=audit):
            pass


# --- the command


class Site:
    """A sidecar's settings in a file, and an auditor's public key."""

    def __init__(self, system: System) -> None:
        self.directory = system.installation.directory
        text = yaml.safe_dump(system.settings.model_dump(mode="json", exclude_none=True))
        self.config = self.directory / "sidecar.yaml"
        self.config.write_text(text, encoding="utf-8")
        verifier_key = generate_signing_key("internal-audit", KeyKind.AUDITOR, bytes(32)).verifier_key
        line = format_auditor_key(AuditorPublicKey(PUBLIC_KEY, verifier_key))
        (self.directory / "auditor.pub").write_text(f"{line}\n", encoding="utf-8")

    async def run(self, name: str = "auditor.pub") -> Any:
        words = ("journal-keys", "--auditor", str(self.directory / name), "--out", str(self.out), "-c")
        return await asyncio.to_thread(CliRunner().invoke, app, [*words, str(self.config)])

    @property
    def out(self) -> Path:
        return self.directory / "segment-keys.json"

    def count_decisions(self, system: System) -> int:
        """How many the auditor reads, with the keys of the file beside copied segments."""
        (self.directory / "copy").mkdir()
        source = system.settings.journal.directory
        for path in [*source.glob("*.journal"), self.out]:
            (self.directory / "copy" / path.name).write_bytes(path.read_bytes())
        journal = SidecarJournal("sidecar-1", self.directory / "copy", AuditorKey("internal-audit", AUDIT_KEY))
        return sum(1 for chain_id in journal.chains() for _ in journal.calls(chain_id))


async def test_journal_keys_command_of_a_running_sidecar_is_noted_in_its_journal(short_directory: Path) -> None:
    async with audited_system(short_directory) as system:
        await decide(system)
        site = Site(system)
        result = await site.run()
        assert result.exit_code == 0, result.output
        assert "The journal says" in result.stdout
        assert site.out.name == KEYS_FILE_NAME
        assert site.out.stat().st_mode & 0o777 == 0o600
        (note,) = notes(system)
        assert (note.caller, note.recipient_name) == ("administrator", "internal-audit")
        assert site.count_decisions(system) == 20


async def test_journal_keys_command_of_a_stopped_sidecar_says_that_nothing_was_noted(short_directory: Path) -> None:
    async with audited_system(short_directory) as system:
        await decide(system)
        site = Site(system)
    result = await site.run()
    assert result.exit_code == 0, result.output
    assert "no journal says" in result.stderr
    assert notes(system) == []
    assert site.count_decisions(system) == 20
    (system.settings.journal.directory / format_segment_name(b"\x05" * 16, 0)).write_bytes(b"damaged")
    assert "No key at hand opens 1 of the segments." in (await site.run()).stderr
    (short_directory / "auditor.pub").write_text("nothing", encoding="utf-8")
    assert (await site.run()).exit_code == 2
    assert (await site.run("missing.pub")).exit_code == 2


async def test_journal_keys_command_without_a_socket_to_a_running_sidecar_gives_none(short_directory: Path) -> None:
    async with audited_system(short_directory, admin_address=None) as system:
        await decide(system, 1)
        site = Site(system)
        result = await site.run()
        assert result.exit_code == 3
        assert "admin_address" in result.stderr
        assert not site.out.exists()

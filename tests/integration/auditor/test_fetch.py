"""Fetching over real gRPC: byte for byte, only what is new, and nothing that is here is lost to a kill or to a source that changed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from auditor.config import AuditorSettings
from auditor.fetch import FetchReport, fetch
from auditor.folder import open_folder
from auditor.journals import AuditorKey
from auditor.verify import verify_folder
from hosting.tls import server_credentials
from journal.format import format_segment_name
from tests.fakes.audit_material import AUDITOR
from tests.fakes.audit_servers import JournalServer, LogServer, serving
from tests.fakes.audited_installation import Installation
from tests.fakes.certificates import make_authority
from tests.fakes.journal_material import join_segment, split_segment
from tests.fakes.log_builder import LogBuilder

REPOSITORY = Path(__file__).resolve().parents[3]


class Installed:
    """Sources of an installation, and the folder that they are fetched into."""

    def __init__(self, source: Installation, folder: Path, sockets: Path) -> None:
        self.source = source
        self.folder = folder
        self.sockets = sockets
        self.log = LogServer(source.log)  # type: ignore[abstract]  # fetch asks for nothing else
        self.pods = [JournalServer(name, source.path / "journals" / name) for name in ("pod-1", "pod-2")]

    @asynccontextmanager
    async def running(
        self, tls: dict[str, Any] | None = None, make_credentials: Any = None
    ) -> AsyncIterator[AuditorSettings]:
        self.sockets.mkdir(exist_ok=True)
        async with serving([self.log, *self.pods], self.sockets, make_credentials) as (feed, *pods):
            yield AuditorSettings.model_validate(
                {
                    "trust": {
                        "file": self.source.path / "trust.note",
                        "root_key_file": self.source.path / "root.pub",
                    },
                    "feed": {"address": feed, "tls": tls},
                    "sidecars": [
                        {"sidecar_id": pod.sidecar_id, "address": address, "tls": tls}
                        for pod, address in zip(self.pods, pods, strict=True)
                    ],
                }
            )

    async def fetch(self, settings: AuditorSettings, key: AuditorKey | None = AUDITOR) -> FetchReport:
        return await asyncio.to_thread(fetch, settings, self.folder, key)

    def segment(self, folder: Path, name: str) -> Path:
        return folder / "journals" / "pod-1" / name


@pytest.fixture
def installed(tmp_path: Path, short_directory: Path) -> Installed:
    source = Installation(tmp_path / "source")
    source.write()
    return Installed(source, tmp_path / "audit", short_directory)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def journal_files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_of(folder).items() if name.endswith(".journal")}


async def test_fetch_gives_the_same_files_and_a_clean_audit(installed: Installed) -> None:
    async with installed.running() as settings:
        report = await installed.fetch(settings)
    assert report.failures == []
    assert report.entries == report.log_size == installed.source.log.size
    assert journal_files(installed.folder) == journal_files(installed.source.path)
    assert (installed.folder / "journals/pod-1/shipped.json").read_bytes() == b"{}"
    verified = verify_folder(open_folder(installed.folder, AUDITOR))
    assert verified.findings.is_clean
    assert verified.is_opened
    assert installed.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in installed.folder.rglob("*")} == {0}


async def test_fetch_over_mutual_tls(installed: Installed, tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    server, client = authority.issue_server(), authority.issue("auditor", dns=("auditor.example",))

    def make_credentials() -> grpc.ServerCredentials:
        return server_credentials(server.cert_file, server.key_file, authority.ca_file)

    async with installed.running(dict(authority.settings(client)), make_credentials) as settings:
        report = await installed.fetch(settings)
    assert report.failures == []
    assert journal_files(installed.folder) == journal_files(installed.source.path)


async def test_fetch_again_reads_only_what_is_new(installed: Installed) -> None:
    source = installed.source
    async with installed.running() as settings:
        await installed.fetch(settings)
        installed.pods[0].read.clear()
        first_size = source.log.size
        source.decide(source.current, 3)
        source.head(source.current)
        report = await installed.fetch(settings)
    assert installed.log.asked == [1, first_size + 1]
    assert report.entries == 1
    # Segments that ended are not asked for; the last one of each chain may have grown.
    asked = {(chain, number) for chain, number, _ in installed.pods[0].read}
    assert (source.ended.chain_id, 0) not in asked
    assert (source.current.chain_id, 0) in asked
    assert report.segments == 1
    assert journal_files(installed.folder) == journal_files(source.path)
    assert verify_folder(open_folder(installed.folder, AUDITOR)).findings.is_clean


async def test_fetch_without_a_key_asks_for_none(installed: Installed) -> None:
    async with installed.running() as settings:
        report = await installed.fetch(settings, None)
    assert report.keys == 0
    assert not (installed.folder / "journals/pod-1/segment-keys.json").exists()


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def cut_a_frame(path: Path) -> None:
    header, frames = split_segment(path.read_bytes())
    path.write_bytes(join_segment(header, frames[:-1]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [change_a_byte, cut_a_frame, empty])
async def test_fetch_of_a_segment_that_changed_keeps_both(installed: Installed, change: Callable[[Path], None]) -> None:
    source = installed.source
    name = format_segment_name(source.current.chain_id, 0)
    before = installed.segment(source.path, name).read_bytes()
    async with installed.running() as settings:
        await installed.fetch(settings)
        change(installed.segment(source.path, name))
        report = await installed.fetch(settings)
        again = await installed.fetch(settings)
    assert [found.reason for found in report.findings.listed] == ["SEGMENT_CHANGED"]
    assert installed.segment(installed.folder, name).read_bytes() == before
    changed = installed.segment(installed.folder, f"{name}.changed")
    assert changed.read_bytes() == installed.segment(source.path, name).read_bytes()
    # It stays a finding of the folder.
    assert again.findings.is_clean
    found = verify_folder(open_folder(installed.folder, AUDITOR)).findings.listed[0]
    assert (found.reason, found.place) == ("SEGMENT_CHANGED", f"{name}.changed")


async def test_fetch_of_a_torn_frame_that_a_sidecar_took_back_is_no_change(installed: Installed) -> None:
    """A write that failed may leave a part of a frame, or room that was reserved; the sidecar cuts that off and goes on."""
    source = installed.source
    path = source.current.path
    whole = path.read_bytes()
    async with installed.running() as settings:
        for rest in (b"", split_segment(whole)[1][-1][:40], bytes(5_000)):
            path.write_bytes(whole + rest)
            report = await installed.fetch(settings)
            assert report.findings.is_clean
            assert installed.segment(installed.folder, path.name).read_bytes() == whole + rest


async def test_fetch_of_a_log_that_was_rolled_back_keeps_the_copy(installed: Installed) -> None:
    async with installed.running() as settings:
        await installed.fetch(settings)
        before = (installed.folder / "log.copy").read_bytes()
        installed.log.log = LogBuilder()
        installed.log.log.append(installed.log.log.next_epoch())
        report = await installed.fetch(settings)
    assert [found.reason for found in report.findings.listed] == ["LOG_CHANGED"]
    assert (installed.folder / "log.copy").read_bytes() == before
    reasons = {found.reason for found in verify_folder(open_folder(installed.folder, AUDITOR)).findings.listed}
    assert "LOG_CHANGED" in reasons


async def test_fetch_where_one_source_is_away_reads_the_others(installed: Installed) -> None:
    installed.pods[0].sidecar_id = "pod-7"
    async with installed.running() as settings:
        installed.pods[0].sidecar_id = "pod-8"
        report = await installed.fetch(settings)
    assert len(report.failures) == 1
    assert report.failures[0].startswith("SOURCE_MISBEHAVES: pod-7")
    assert (installed.folder / "journals" / "pod-2").is_dir()
    shutil.rmtree(installed.folder)
    installed.sockets = installed.sockets / "other"
    report = await installed.fetch(settings)
    assert len(report.failures) == 3
    assert all(failure.startswith("SOURCE_UNAVAILABLE") for failure in report.failures)


@pytest.mark.parametrize("where", ["journal", pytest.param("log", marks=pytest.mark.long(seconds=4))])
async def test_fetch_after_a_kill_goes_on(installed: Installed, where: str) -> None:
    stopped: LogServer | JournalServer = installed.log if where == "log" else installed.pods[0]
    stopped.stop_after = 1
    async with installed.running() as settings:
        config = installed.sockets / "auditor.yaml"
        config.write_text(
            f"folder: {installed.folder}\n"
            f"trust: {{file: {installed.source.path}/trust.note, root_key_file: {installed.source.path}/root.pub}}\n"
            f"feed: {{address: '{settings.feed.address if settings.feed else ''}'}}\n"
            "sidecars:\n"
            + "".join(f"  - {{sidecar_id: {pod.sidecar_id}, address: '{pod.address}'}}\n" for pod in settings.sidecars)
        )
        command = [sys.executable, "-m", "auditor", "fetch", "-c", str(config)]
        with subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {"NO_COLOR": "1"}) as process:
            await asyncio.wait_for(stopped.is_stopped.wait(), 60)
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        stopped.stop_after = None
        report = await installed.fetch(settings)
    assert report.failures == []
    assert report.findings.is_clean
    assert journal_files(installed.folder) == journal_files(installed.source.path)
    assert verify_folder(open_folder(installed.folder, AUDITOR)).findings.is_clean

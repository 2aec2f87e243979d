"""Sidecars that must not start, and files that must survive the attempt."""

import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feed.setup import CACHE_KEY_USE
from hosting.key_files import create_key_file
from tests.e2e.deployment import Deployment
from tests.e2e.processes import Program, run_command

NAME = "sidecar-2"
# A sidecar takes seconds to start; what is told apart by a unit test too is seen with the long tests.
LONG = pytest.mark.long(seconds=6)


@pytest.fixture(scope="module")
def stopped(deployment: Deployment) -> Iterator[Program]:
    """A sidecar that has a cache and was stopped; each test leaves it able to start."""
    sidecar = deployment.add_sidecar(NAME)
    sidecar.start()
    deployment.wait_until_ready(NAME, sidecar)
    deployment.wait_until_caught_up(NAME)
    assert sidecar.stop() == 0
    yield sidecar
    # Whatever was tried in between has left the cache as it was: it opens, and holds what it held.
    sidecar.start()
    deployment.wait_until_ready(NAME, sidecar)
    assert "set aside" not in sidecar.text
    assert "rebuilt" not in sidecar.text
    sidecar.stop()


@pytest.fixture
def home(deployment: Deployment, stopped: Program) -> Path:
    return deployment.site / NAME


@pytest.fixture
def cache_stays(home: Path) -> Iterator[None]:
    """Checks that no byte of the cache has changed."""
    before = digest_files(home / "cache")
    assert "cache.db" in before
    yield
    assert digest_files(home / "cache") == before


@pytest.fixture
def key_file(home: Path) -> Iterator[Path]:
    """The cache's key file, put back in the end."""
    path, kept = home / "cache.key", home / "kept.key"
    path.rename(kept)
    yield path
    kept.replace(path)


def digest_files(folder: Path) -> dict[str, str]:
    # Beside the database SQLite keeps a file that processes share while they read, and an empty log of writes.
    files = [path for path in folder.iterdir() if path.name not in ("instance.lock", "cache.db-shm")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.stat().st_size}


def start_in_vain(sidecar: Program) -> str:
    """Start, see it refuse, and return why."""
    assert sidecar.start().wait_for_exit() == 2
    assert "Traceback" not in sidecar.text
    assert " listening " not in sidecar.text
    return sidecar.text


@pytest.mark.usefixtures("cache_stays")
def test_sidecar_with_the_wrong_cache_key_does_not_start(stopped: Program, key_file: Path) -> None:
    create_key_file(key_file, os.urandom(32), use=CACHE_KEY_USE)
    text = start_in_vain(stopped)
    assert "WRONG_CACHE_KEY: none of the key files holds the key that the cache was sealed under" in text


@pytest.mark.usefixtures("cache_stays")
def test_sidecar_without_its_cache_key_does_not_start(home: Path, stopped: Program, key_file: Path) -> None:
    text = start_in_vain(stopped)
    assert f"MISSING_CACHE_KEY: there is a cache in {home}/cache, and its key is missing" in text
    assert f"{key_file}: no such file" in text


@LONG
@pytest.mark.usefixtures("cache_stays")
@pytest.mark.parametrize(
    ("content", "mode", "part"),
    [
        (b"not a key", 0o600, "not a key file"),
        (b"consentry-key v1 log-signing\nAAAA\n", 0o600, "holds a key for log-signing, a key for cache-kek is needed"),
        (None, 0o644, "open to its group or to others (mode 0644); make it 0600 or 0400"),
    ],
    ids=["malformed", "of-another-use", "open-to-others"],
)
def test_sidecar_with_an_unusable_key_file_does_not_start(
    home: Path, stopped: Program, key_file: Path, content: bytes | None, mode: int, part: str
) -> None:
    key_file.write_bytes((home / "kept.key").read_bytes() if content is None else content)
    key_file.chmod(mode)
    assert f"KEY_FILE_INVALID: {key_file}: {part}" in start_in_vain(stopped)


def test_sidecar_with_the_cache_of_another_does_not_start(deployment: Deployment, home: Path) -> None:
    other = deployment.add_sidecar("sidecar-3")
    folder = deployment.site / "sidecar-3"
    shutil.copytree(home / "cache", folder / "cache")
    shutil.copyfile(home / "cache.key", folder / "cache.key")
    before = digest_files(folder / "cache")
    assert "FOREIGN_CACHE" in start_in_vain(other)
    assert digest_files(folder / "cache") == before


def test_second_sidecar_on_a_cache_in_use_does_not_start(deployment: Deployment, log_stays: Callable[[], None]) -> None:
    second = deployment.sidecar_program("second", deployment.sidecar_settings)
    text = start_in_vain(second)
    where = f"{deployment.site}/sidecar/cache: in use by process {deployment.sidecar.pid}"
    assert f"INSTANCE_LOCKED: {where}" in text
    with deployment.client() as client:
        assert client.status().sync_state == "IN_SYNC"


def test_sidecar_on_a_socket_in_use_does_not_start(deployment: Deployment, log_stays: Callable[[], None]) -> None:
    listeners = [{"address": deployment.address("sidecar"), "callers": [{"name": "app"}]}]
    text = start_in_vain(deployment.add_sidecar("sidecar-4", {"listeners": listeners}))
    path = deployment.address("sidecar").removeprefix("unix://")
    assert f"SOCKET_IN_USE: {path}: in use by process {deployment.sidecar.pid}" in text
    with deployment.client() as client:
        assert client.status().sidecar_id == "sidecar-1"


@LONG
def test_sidecar_on_a_socket_of_a_foreign_server_does_not_start(deployment: Deployment) -> None:
    path = deployment.address("foreign").removeprefix("unix://")
    listeners = [{"address": f"unix://{path}", "callers": [{"name": "app"}]}]
    sidecar = deployment.add_sidecar("sidecar-5", {"listeners": listeners})
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(path)
        foreign.listen()
        assert f"SOCKET_IN_USE: {path}: another server listens here" in start_in_vain(sidecar)
        assert Path(path).is_socket()


@LONG
def test_sidecar_where_a_file_has_the_name_of_its_socket_does_not_start(deployment: Deployment) -> None:
    path = Path(deployment.address("file").removeprefix("unix://"))
    path.write_text("precious", encoding="utf-8")
    listeners = [{"address": f"unix://{path}", "callers": [{"name": "app"}]}]
    text = start_in_vain(deployment.add_sidecar("sidecar-6", {"listeners": listeners}))
    assert f"SOCKET_PATH_INVALID: {path}: something that is not a socket is there" in text
    assert path.read_text(encoding="utf-8") == "precious"


@LONG
@pytest.mark.parametrize(
    ("part", "message"),
    [("trust.note", "trust.note: INVALID_SIGNATURE"), ("root.pub", "root.pub: MALFORMED_KEY")],
)
def test_sidecar_with_a_trust_file_that_was_changed_does_not_start(
    deployment: Deployment, tmp_path: Path, part: str, message: str
) -> None:
    changed = tmp_path / part
    content = (deployment.site / "trust" / part).read_bytes()
    changed.write_bytes(content.replace(b'"demo"', b'"deno"') if part == "trust.note" else content[:-9])
    setting = "trust.file" if part == "trust.note" else "trust.root_key_file"
    sidecar = deployment.add_sidecar(f"sidecar-with-{part[:4]}", {setting: str(changed)})
    text = start_in_vain(sidecar)
    assert f"UNUSABLE_START_FILE: {tmp_path}/{message}" in text


def test_command_status_of_no_sidecar_says_so(deployment: Deployment, home: Path) -> None:
    done = run_command("consentry-sidecar", "status", "-c", home / "sidecar.yaml", environ=deployment.environ)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"no sidecar answers at {deployment.address(f'{NAME}-admin')}" in done.stderr

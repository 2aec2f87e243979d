"""AWS KMS and Vault transit as keepers of the key-encryption key, against moto's server and a real OpenBao."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hosting.clock import SystemClock
from sidecar.config import SidecarSettings
from sidecar.errors import KeyServiceRefused, KeyServiceUnavailable, WrongCacheKey
from sidecar.key_providers.loading import load_key_service
from sidecar.key_providers.settings import AwsKmsSettings, VaultTransitSettings
from sidecar.ports import KeyProvider
from sidecar.runtime import _start_patiently, running_sidecar
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.installation import TestInstallation, install
from tests.fakes.key_services import KmsServer, VaultServer
from tests.fakes.log_builder import LogBuilder

DATA_KEY = bytes(range(32))
PATIENT_SECONDS = 30.0
HASTY_SECONDS = 0.2
"""For what must fail; where something must succeed, a busy machine gets all the time it needs."""


@dataclass(frozen=True)
class Kept:
    """A key service, and how a test takes it away.

    Attributes:
        settings: For keys of these names, the newest first, and `timeout_seconds`.
        create_key: Makes a key, returns its name.
        away: While in it, nothing answers.
    """

    settings: Callable[..., AwsKmsSettings | VaultTransitSettings]
    create_key: Callable[[], str]
    away: Callable[[], "ExitStack"]

    def provider(
        self, *key_names: str, sidecar_id: str = "sidecar-1", timeout_seconds: float = PATIENT_SECONDS
    ) -> KeyProvider:
        settings = self.settings(*key_names, timeout_seconds=timeout_seconds)
        return load_key_service(settings, sidecar_id, SystemClock())


@pytest.fixture(scope="module")
def kms() -> Iterator[Kept]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "of-the-tests")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = KmsServer()
        server.start()

        def settings(*key_arns: str, timeout_seconds: float = PATIENT_SECONDS) -> AwsKmsSettings:
            return AwsKmsSettings(key_arns=key_arns, endpoint_url=server.url, timeout_seconds=timeout_seconds)

        def away() -> ExitStack:
            server.stop()
            stack = ExitStack()
            stack.callback(server.start)
            return stack

        yield Kept(settings, server.create_key, away)
        server.stop()


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with VaultServer(tmp_path_factory.mktemp("vault")).running() as server:
        names = iter(f"key-{number}" for number in range(100))

        def settings(*key_names: str, timeout_seconds: float = PATIENT_SECONDS) -> VaultTransitSettings:
            return VaultTransitSettings(
                address=server.url, key_names=key_names, token_file=server.token_file, timeout_seconds=timeout_seconds
            )

        def away() -> ExitStack:
            # It takes connections and answers nothing.
            server.pause()
            stack = ExitStack()
            stack.callback(server.resume)
            return stack

        yield Kept(settings, lambda: server.create_key(next(names)), away)


@pytest.fixture(params=["kms", "vault"])
def kept(request: pytest.FixtureRequest) -> Kept:
    service: Kept = request.getfixturevalue(request.param)
    return service


def test_key_wrapped_by_one_process_opens_in_another_of_the_same_sidecar_only(kept: Kept) -> None:
    key = kept.create_key()
    wrapped = kept.provider(key).wrap(DATA_KEY, "cache")
    assert kept.provider(key).unwrap(wrapped, "cache") == DATA_KEY
    with pytest.raises(WrongCacheKey):
        kept.provider(key).unwrap(wrapped, "journal")
    # moto answers what AWS answers to a wrong context.
    with pytest.raises(WrongCacheKey):
        kept.provider(key, sidecar_id="sidecar-2").unwrap(wrapped, "cache")


def test_sealed_key_that_was_changed_is_wrong_key(kept: Kept) -> None:
    key = kept.create_key()
    wrapped = kept.provider(key).wrap(DATA_KEY, "cache")
    # The last byte of the sealed key, before the nonce, the data key and its tag.
    at = len(wrapped) - 12 - 32 - 16 - 1
    changed = wrapped[:at] + bytes((wrapped[at] ^ 1,)) + wrapped[at + 1 :]
    with pytest.raises(WrongCacheKey):
        kept.provider(key).unwrap(changed, "cache")


def test_key_of_the_service_is_rotated_by_naming_a_newer_one_first(kept: Kept) -> None:
    older, newer = kept.create_key(), kept.create_key()
    wrapped = kept.provider(older).wrap(DATA_KEY, "cache")
    both = kept.provider(newer, older)
    both.refresh()
    assert both.unwrap(wrapped, "cache") == DATA_KEY
    assert not both.is_current(wrapped)
    assert kept.provider(newer).unwrap(both.wrap(DATA_KEY, "cache"), "cache") == DATA_KEY
    with pytest.raises(WrongCacheKey, match="settings do not name"):
        kept.provider(newer).unwrap(wrapped, "cache")


def test_service_that_is_away_is_named_and_nothing_is_made_in_its_place(kept: Kept) -> None:
    key = kept.create_key()
    wrapped = kept.provider(key).wrap(DATA_KEY, "cache")
    keys = kept.provider(key, timeout_seconds=HASTY_SECONDS)
    with kept.away():
        for ask in (keys.refresh, lambda: keys.unwrap(wrapped, "cache"), lambda: keys.wrap(DATA_KEY, "cache")):
            with pytest.raises(KeyServiceUnavailable, match="does not answer"):
                ask()
        assert not keys.is_current(wrapped)
    assert kept.provider(key).unwrap(wrapped, "cache") == DATA_KEY


def test_kms_key_that_does_not_exist_is_refused(kms: Kept) -> None:
    arn = kms.create_key().rpartition("/")[0] + "/00000000-0000-0000-0000-000000000000"
    with pytest.raises(KeyServiceRefused, match="NotFoundException"):
        kms.provider(arn).refresh()


def test_vault_that_refuses_is_told_apart_from_one_that_is_away(vault: Kept, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    settings = vault.settings(vault.create_key()).model_copy(update={"token_file": token_file})
    keys = load_key_service(settings, "sidecar-1", SystemClock())
    with pytest.raises(KeyServiceRefused, match="no such file"):
        keys.refresh()
    token_file.write_text("not-a-token-of-it")
    with pytest.raises(KeyServiceRefused, match="mode"):
        keys.refresh()
    token_file.chmod(0o600)
    with pytest.raises(KeyServiceRefused, match="Forbidden"):
        keys.refresh()
    elsewhere = vault.settings("key-1").model_copy(update={"mount": "no-engine-here"})
    with pytest.raises(KeyServiceRefused, match="refuses to encrypt"):
        load_key_service(elsewhere, "sidecar-1", SystemClock()).refresh()


async def test_cache_runs_on_while_the_service_is_away_and_starts_only_with_it(kept: Kept, tmp_path: Path) -> None:
    key, log = kept.create_key(), LogBuilder()
    async with CachePlace(tmp_path) as place:
        place.keys = kept.provider(key)
        cache = await place.open()
        with kept.away():
            await cache.apply(log.batch(log.directive("ada")))
            await cache.merge()
            await cache.rewrap_key()
            await cache.apply(log.batch(log.directive("bob")))
            assert_holds(cache, log)
            await cache.close()
            files, mark = place.files(), place.mark_path.read_bytes()
            place.keys = kept.provider(key, timeout_seconds=HASTY_SECONDS)
            with pytest.raises(KeyServiceUnavailable):
                await place.open()
            assert (place.files(), place.mark_path.read_bytes()) == (files, mark)
        place.keys = kept.provider(key)
        assert_holds(await place.open(), log)
        assert place.set_aside() == []


def settings_with(named: AwsKmsSettings | VaultTransitSettings, installation: TestInstallation) -> SidecarSettings:
    field = "aws_kms" if isinstance(named, AwsKmsSettings) else "vault_transit"
    directory = installation.directory
    place = {"directory": directory / "cache", "high_water_file": directory / "mark" / "high-water"}
    return installation.sidecar_settings(cache=place | {field: named.model_dump()})


async def test_sidecar_starts_when_the_service_comes_back(
    kept: Kept, short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, installation = kept.create_key(), install(short_directory)
    # An answer that comes too late is asked for again.
    settings = settings_with(kept.settings(key, timeout_seconds=0.5), installation)
    async with AsyncExitStack() as stack:
        with kept.away():
            starting = asyncio.create_task(_start_patiently(stack, settings, asyncio.Event()))
            async with asyncio.timeout(20):
                while "KEY_SERVICE_UNAVAILABLE" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert list((settings.cache.directory).glob("*.db*")) == []
        async with asyncio.timeout(60):
            running = await starting
        assert running is not None
        assert running.cache.generation == 1
    # What it left behind opens with the same settings.
    async with running_sidecar(settings_with(kept.settings(key), installation), boot_id="test") as again:
        assert again.cache.private_key == running.cache.private_key


async def test_sidecar_that_waits_for_the_service_can_be_stopped(kms: Kept, short_directory: Path) -> None:
    stop = asyncio.Event()
    settings = settings_with(kms.settings(kms.create_key()), install(short_directory))
    with kms.away():
        async with AsyncExitStack() as stack, asyncio.timeout(20):
            starting = asyncio.create_task(_start_patiently(stack, settings, stop))
            await asyncio.sleep(0)
            stop.set()
            assert await starting is None

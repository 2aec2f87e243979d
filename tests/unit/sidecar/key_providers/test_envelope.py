"""Key-encryption keys that a key service keeps sealed: when it is asked, and what happens while it is away."""

import logging
from collections.abc import Callable

import pytest

from sidecar.cache.key_wrapping import Kek
from sidecar.errors import KeyServiceError, KeyServiceRefused, KeyServiceUnavailable, WrongCacheKey
from sidecar.key_providers.envelope import KEK_AGE_MS, EnvelopeKeyProvider
from tests.fakes.clock import FakeClock

DATA_KEY = bytes(range(32))


class Service:
    """A key service that seals for real, counts what it is asked, and fails when told."""

    def __init__(self, *key_names: str) -> None:
        self.key_names = key_names or ("first",)
        self.keys = {name: Kek(name.encode().ljust(32, b"\0")) for name in ("first", "second")}
        self.failure: KeyServiceError | None = None
        self.calls: list[str] = []
        self.change: Callable[[bytes], bytes] = bytes

    def seal(self, key_name: str, kek: bytes) -> bytes:
        self._count("seal")
        return self.keys[key_name].wrap(kek, "kek")

    def open(self, key_name: str, sealed_kek: bytes) -> bytes:
        self._count("open")
        return self.change(bytes(self.keys[key_name].unwrap(sealed_kek, "kek")))

    def _count(self, call: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.calls.append(call)


def test_wrapped_key_is_opened_by_another_process_with_one_call() -> None:
    service, clock = Service(), FakeClock()
    keys = EnvelopeKeyProvider(service, clock)
    wrapped = [keys.wrap(DATA_KEY, "cache") for _ in range(5)]
    assert service.calls == ["seal"]
    other = EnvelopeKeyProvider(service, clock)
    assert [other.unwrap(one, "cache") for one in wrapped] == [DATA_KEY] * 5
    assert service.calls == ["seal", "open"]
    assert DATA_KEY not in b"".join(wrapped)


def test_service_away_once_the_key_is_at_hand_is_not_noticed() -> None:
    service = Service()
    keys = EnvelopeKeyProvider(service, FakeClock())
    keys.refresh()
    service.failure = KeyServiceUnavailable("away")
    wrapped = keys.wrap(DATA_KEY, "cache")
    assert keys.unwrap(wrapped, "cache") == DATA_KEY
    keys.refresh()
    assert keys.is_current(wrapped)


@pytest.mark.parametrize("failure", [KeyServiceUnavailable("away"), KeyServiceRefused("no")])
def test_service_away_before_any_key_is_at_hand_fails_with_its_name(failure: KeyServiceError) -> None:
    service = Service()
    wrapped = EnvelopeKeyProvider(service, FakeClock()).wrap(DATA_KEY, "cache")
    service.failure = failure
    keys = EnvelopeKeyProvider(service, FakeClock())
    for ask in (keys.refresh, lambda: keys.wrap(DATA_KEY, "cache"), lambda: keys.unwrap(wrapped, "cache")):
        with pytest.raises(type(failure)):
            ask()
    assert not keys.is_current(wrapped)
    service.failure = None
    assert keys.unwrap(wrapped, "cache") == DATA_KEY


def test_key_is_replaced_when_it_is_old_and_kept_while_no_newer_one_can_be_had(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, clock = Service(), FakeClock()
    keys = EnvelopeKeyProvider(service, clock)
    wrapped = keys.wrap(DATA_KEY, "cache")
    clock.advance(KEK_AGE_MS - 1)
    keys.refresh()
    assert keys.is_current(wrapped)
    clock.advance(1)
    service.failure = KeyServiceUnavailable("away")
    for _ in range(3):
        keys.refresh()
    assert keys.is_current(wrapped)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    service.failure = None
    keys.refresh()
    assert not keys.is_current(wrapped)
    assert keys.is_current(keys.wrap(DATA_KEY, "cache"))
    assert keys.unwrap(wrapped, "cache") == DATA_KEY
    assert "open" not in service.calls


def test_rotation_of_the_services_key_older_one_opens_and_newest_seals() -> None:
    clock = FakeClock()
    wrapped = EnvelopeKeyProvider(Service("first"), clock).wrap(DATA_KEY, "cache")
    both = EnvelopeKeyProvider(Service("second", "first"), clock)
    both.refresh()
    assert both.unwrap(wrapped, "cache") == DATA_KEY
    assert not both.is_current(wrapped)
    rewrapped = both.wrap(DATA_KEY, "cache")
    assert EnvelopeKeyProvider(Service("second"), clock).unwrap(rewrapped, "cache") == DATA_KEY


def test_key_that_the_settings_do_not_name_is_never_asked_for() -> None:
    wrapped = EnvelopeKeyProvider(Service("first"), FakeClock()).wrap(DATA_KEY, "cache")
    service = Service("second")
    with pytest.raises(WrongCacheKey, match="settings do not name"):
        EnvelopeKeyProvider(service, FakeClock()).unwrap(wrapped, "cache")
    assert service.calls == []


def test_unwrap_any_changed_byte_or_length_or_purpose_is_wrong_key() -> None:
    service = Service()
    wrapped = EnvelopeKeyProvider(service, FakeClock()).wrap(DATA_KEY, "cache")
    changed = [wrapped[:at] + bytes((wrapped[at] ^ 1,)) + wrapped[at + 1 :] for at in range(len(wrapped))]
    changed += [wrapped[:length] for length in range(len(wrapped))] + [wrapped + b"\0"]
    for wrong in changed:
        with pytest.raises(WrongCacheKey):
            EnvelopeKeyProvider(service, FakeClock()).unwrap(wrong, "cache")
    with pytest.raises(WrongCacheKey):
        EnvelopeKeyProvider(service, FakeClock()).unwrap(wrapped, "journal")


def test_service_that_opens_something_else_is_wrong_key() -> None:
    service = Service()
    wrapped = EnvelopeKeyProvider(service, FakeClock()).wrap(DATA_KEY, "cache")
    for change in (lambda kek: kek[:16], lambda _: b"", lambda kek: kek + kek, lambda _: bytes(32)):
        service.change = change
        with pytest.raises(WrongCacheKey):
            EnvelopeKeyProvider(service, FakeClock()).unwrap(wrapped, "cache")

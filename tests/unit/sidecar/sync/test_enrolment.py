"""How a sidecar asks to be enrolled: with what it has, no more often than it must, and never in the way of entries."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from consent.eventlog.acknowledgement import verify_possession
from consent.tenant_state import EnrolledSidecar, TenantState
from sidecar.errors import FeedRefused, FeedUnavailable, SidecarError
from sidecar.ports import EMPTY_HEAD, LogHead
from sidecar.sync.enrolment import ASK_AGAIN_MS, Enrolment
from tests.fakes.clock import FakeClock

ORIGIN = "log.example.com/acme"


@dataclass
class Held:
    """A cache that holds a key and a head."""

    head: LogHead = EMPTY_HEAD
    signing_seed: bytes = bytes(range(32))


@dataclass
class AskedFeed:
    """Notes the tokens that come, and answers as it is told."""

    answer: bool | SidecarError = True
    tokens: list[str] = field(default_factory=list)

    async def enrol(self, public_key: bytes, possession: bytes, token: str) -> bool:
        verify_possession("pod-1", public_key, possession, ORIGIN)
        self.tokens.append(token)
        if isinstance(self.answer, SidecarError):
            raise self.answer
        return self.answer


def make(cache: Held, token_file: Path | None = None, clock: FakeClock | None = None) -> Enrolment:
    return Enrolment(cache, "pod-1", ORIGIN, token_file, clock or FakeClock())  # type: ignore[arg-type]


def enrolled_head(key: bytes) -> LogHead:
    return LogHead(EMPTY_HEAD.frontier, TenantState(sidecars=(EnrolledSidecar("pod-1", key, 1),)))


async def ask(enrolment: Enrolment, feed: Any, *, is_new_connection: bool = False) -> None:
    await enrolment.ask(feed, is_new_connection=is_new_connection)


async def test_ask_sends_the_token_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    token_file, feed, clock = tmp_path / "token", AskedFeed(answer=False), FakeClock()
    enrolment = make(Held(), token_file, clock)
    await ask(enrolment, feed)
    token_file.write_text("consentry-enrolment-v1.a.b\n")
    clock.advance(ASK_AGAIN_MS)
    await ask(enrolment, feed)
    token_file.write_bytes(b"\xff")
    await ask(enrolment, feed, is_new_connection=True)
    assert feed.tokens == ["", "consentry-enrolment-v1.a.b", ""]


async def test_ask_waits_in_between_on_one_connection() -> None:
    feed, clock = AskedFeed(answer=False), FakeClock()
    enrolment = make(Held(), clock=clock)
    await ask(enrolment, feed, is_new_connection=True)
    await ask(enrolment, feed)
    clock.advance(ASK_AGAIN_MS - 1)
    await ask(enrolment, feed)
    assert len(feed.tokens) == 1
    clock.advance(1)
    await ask(enrolment, feed)
    assert len(feed.tokens) == 2


async def test_ask_what_the_log_enrols_asks_no_more_until_it_is_retired() -> None:
    feed = AskedFeed()
    key = make(Held()).key.verifier_key.public_key
    enrolment = make(Held(enrolled_head(key)))
    await ask(enrolment, feed, is_new_connection=True)
    assert (feed.tokens, enrolment.is_enrolled) == ([], True)
    enrolment.note_retired()
    assert not enrolment.is_enrolled
    await ask(enrolment, feed)
    assert (len(feed.tokens), enrolment.is_enrolled) == (1, True)


async def test_ask_another_key_of_the_same_name_is_not_this_one() -> None:
    feed, enrolment = AskedFeed(), make(Held(enrolled_head(bytes(32))))
    await ask(enrolment, feed, is_new_connection=True)
    assert (len(feed.tokens), enrolment.is_enrolled) == (1, False)


async def test_ask_refusal_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await ask(make(Held()), AskedFeed(answer=FeedRefused("PERMISSION_DENIED: ENROLMENT_REFUSED: used up")))
    assert "ENROLMENT_REFUSED" in caplog.text


async def test_ask_feed_that_is_away_is_an_interruption_of_the_sync() -> None:
    with pytest.raises(FeedUnavailable):
        await ask(make(Held()), AskedFeed(answer=FeedUnavailable("away")))

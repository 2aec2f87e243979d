"""No token of anybody in clear in any file of a sidecar: with its tenant's key, tokens are as good as identifiers."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.event import LinkEvent
from tests.fakes.installation import ORIGIN
from tests.fakes.system import ask, reason_of, running_system

PEOPLE = ("ada", "bob", "cyd", "dan")


def spell(token: bytes) -> Iterator[bytes]:
    """The token, and any run of 8 bytes of it: in memory and in segments it is kept in parts."""
    for start in range(0, len(token) - 7, 2):
        yield token[start : start + 8]
    yield from (token.hex().encode(), token.hex().upper().encode())
    for bytes_before in range(3):
        encoded = base64.b64encode(bytes(bytes_before) + token)
        inner = encoded[4:20]
        yield from (inner, inner.translate(bytes.maketrans(b"+/", b"-_")))


async def test_no_token_is_in_any_file_or_log_line_of_the_sidecar(
    short_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with running_system(short_directory) as system:
        tokens = [system.tokeniser.token("user", name) for name in PEOPLE]
        link = LinkEvent(origin=ORIGIN, left=tokens[1], right=tokens[2], proof=3, occurred_at_ms=1)
        seq = await system.log(*(system.opt_out(name) for name in PEOPLE[:2]), link)
        (logged,) = await system.feed.log.read_entries(seq, 1)
        async with system.stub() as stub:
            for name in PEOPLE:
                reason_of(await stub.Check(ask(name)))
        home = system.settings.cache.directory.parent
        during = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        await system.sidecar.cache.merge()
        await system.log(system.opt_out("dan"))
        during += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    contents = [*during, *(path.read_bytes() for path in home.rglob("*") if path.is_file()), caplog.text.encode()]
    wanted = [spelled for token in tokens for spelled in spell(token)]
    assert sum(map(len, contents)) > 100_000
    assert [spelled for spelled in wanted for content in contents if spelled in content] == []
    # The search would see one: an entry names linked tokens.
    assert any(spelled in logged.event_bytes for spelled in spell(tokens[1]))

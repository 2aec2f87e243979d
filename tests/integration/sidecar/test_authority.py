"""A feed with every key of the log, against a sidecar that has the true trust file."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from consentry.decision.v1 import decision_pb2

from consent.event import DirectiveEvent
from consent.eventlog.keys import KeyKind, format_verifier_key, generate_signing_key, sign_note
from consent.eventlog.trust import SourceRights, TrustedKey, seal_trust
from consent.policy import format_policy
from consent.vocabulary.subject import Tokeniser
from feed.config import FeedSettings
from feed.errors import TrustMismatch
from feed.ports import Submission
from feed.runtime import running_feed
from feed.signing.key_store import load_keys
from hosting.errors import UnusableStartFile
from hosting.trust_files import load_trust
from sidecar.ports import SyncState
from sidecar.runtime import running_sidecar
from tests.fakes.histories import POLICY
from tests.fakes.installation import ORIGIN, TestInstallation, install
from tests.fakes.signers import Signers
from tests.fakes.system import System, ask, policy_event, running_system

ROGUE = Signers(ORIGIN)
ROGUE.sources = {"web": generate_signing_key("source.example/web", KeyKind.SOURCE, bytes([66] * 32))}


def grant(system: System, value: str = "ada", **changes: object) -> DirectiveEvent:
    fields: dict[str, object] = {"kind": 1, "source": "web", "proof": 2, "notice_version": 1} | changes
    return system.opt_out(value, "root", **fields)


def rogue_settings(installation: TestInstallation) -> FeedSettings:
    """Of a feed whose operator believes a source key of his own, and so logs what it has signed."""
    directory = installation.directory
    true = load_trust(directory / "trust.note", directory / "root.pub")
    keys = tuple(
        TrustedKey(key.verifier_key, rights=SourceRights(name, max_proof=3, max_assurance=2))
        for name, key in ROGUE.sources.items()
    )
    root_key = generate_signing_key("rogue", KeyKind.LOG, bytes([67] * 32))
    (directory / "rogue.note").write_bytes(seal_trust(replace(true, source_keys=keys), root_key))
    (directory / "rogue.pub").write_text(f"{format_verifier_key(root_key.verifier_key)}\n", encoding="utf-8")
    trust = {"file": directory / "rogue.note", "root_key_file": directory / "rogue.pub"}
    return installation.feed_settings(trust=trust, sources=[], import_signing_key_file=None)


async def reason_for(system: System, value: str = "ada") -> str:
    async with system.stub() as stub:
        response = await stub.Check(ask(value, "root", jurisdiction="EU"))
        return decision_pb2.Reason.Name(response.reason).removeprefix("REASON_")


async def test_sidecar_grant_that_its_source_signed_comes_into_force(short_directory: Path) -> None:
    async with running_system(short_directory) as system:
        assert await reason_for(system) == "NO_CONSENT_SUBJECT_UNKNOWN"
        await system.log(grant(system))
        assert await reason_for(system) == "GRANTED"


async def test_sidecar_takes_no_grant_from_a_feed_that_has_only_the_keys_of_the_log(short_directory: Path) -> None:
    installation = install(short_directory)
    settings = installation.sidecar_settings()
    tokeniser = Tokeniser([load_keys(short_directory / "keys", ORIGIN).subject_key])
    async with running_feed(rogue_settings(installation)) as feed:
        await feed.log.submit(installation.signers.submit([policy_event(POLICY)]))
        async with running_sidecar(settings, boot_id="test") as sidecar:
            system = System(installation, feed, sidecar, settings, tokeniser)
            await system.catch_up()
            forged = grant(system)
            accepted = await feed.log.submit(Submission([forged], attestations=[ROGUE.sign(forged)]))
            async with asyncio.timeout(20):
                while sidecar.follower.state is not SyncState.REFUSED:
                    await asyncio.sleep(0.005)
            assert sidecar.follower.last_error_reason == "ENTRY_REJECTED"
            assert sidecar.cache.head.size < accepted.seq
            assert await reason_for(system) == "NO_CONSENT_SUBJECT_UNKNOWN"


async def test_feed_set_up_for_more_than_its_trust_file_says_does_not_start(short_directory: Path) -> None:
    installation = install(short_directory)
    source = {
        "name": "shop",
        "address": installation.socket("shop"),
        "signing_key_file": short_directory / "source-web.key",
    }
    with pytest.raises(TrustMismatch, match=r"^source shop: .* speaks for another source"):
        async with running_feed(installation.feed_settings(sources=[source])):
            pass
    assert not (short_directory / "log").exists()


@pytest.mark.parametrize("signers", [(0,), (0, 0)], ids=["one", "one twice"])
async def test_sidecar_bootstrap_policy_of_one_approver_stops_the_start(
    short_directory: Path, signers: tuple[int, ...]
) -> None:
    installation = install(short_directory)
    keys = [installation.signers.approvers[number] for number in signers]
    path = short_directory / "bootstrap.note"
    path.write_bytes(sign_note(f"{format_policy(POLICY).decode()}\n", *keys))
    with pytest.raises(UnusableStartFile, match="signed by 1 of the 2 approvers"):
        async with running_sidecar(installation.sidecar_settings(bootstrap_policy_file=path), boot_id="test"):
            pass


async def test_sidecar_bootstrap_policy_of_two_approvers_is_taken(short_directory: Path) -> None:
    installation = install(short_directory)
    settings = installation.sidecar_settings(bootstrap_policy_file=installation.sign_policy(POLICY))
    async with running_sidecar(settings, boot_id="test") as sidecar:
        assert sidecar.cache.head.size == 0

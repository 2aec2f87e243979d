"""No identifier in any file, log or span: whatever was done with it, and whatever went wrong on the way."""

import uuid
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2
from consentry_client import Client, IntakeClient, IntakeError, Proof, email, phone, user

from tests.e2e.deployment import CALL_SECONDS, EVIDENCE, Deployment
from tests.e2e.processes import wait_until
from tests.e2e.refusals import refusal_of
from tests.e2e.search import IdentifierSearch
from tests.e2e.spans import received_ids


class People:
    """Identifiers of all kinds that no other test uses."""

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:12]
        self.address = email(f" Zoë.{mark}+News@Bücher.Example ")
        self.number = phone(f"+44 20 7946 {int(mark[:4], 16) % 10000:04d}")
        self.account = user(f"Member Nº {mark}")
        self.other = email(f"other-{mark}@example.org")
        self.malformed = email(f"malformed-{mark}")
        self.imported = [email(f"imported-{number}-{mark}@example.com") for number in range(3)]

    @property
    def values(self) -> list[str]:
        named = (self.address, self.number, self.account, self.other, self.malformed, *self.imported)
        return [identifier.value for identifier in named]


@pytest.fixture
def people() -> People:
    return People()


def hand_in(intake: IntakeClient, people: People) -> None:
    """What is accepted, and what is refused."""
    intake.opt_out(people.address, "newsletter")
    intake.grant(people.number, "newsletter", proof=Proof.AUTHENTICATED, notice_version=1, evidence=EVIDENCE)
    intake.link(people.account, people.address, Proof.AUTHENTICATED, evidence=EVIDENCE)
    for person, purpose in ((people.malformed, "newsletter"), (people.other, "no-purpose")):
        with pytest.raises(IntakeError) as refused:
            intake.opt_out(person, purpose)
        assert person.value not in str(refused.value)
    # Whoever makes keys of identifiers must not have them in our files for it.
    intake.opt_out(people.other, "product_tips", idempotency_key=f"unsubscribe:{people.other.value}")
    with pytest.raises(IntakeError) as reused:
        intake.opt_out(people.account, "product_tips", idempotency_key=f"unsubscribe:{people.other.value}")
    assert reused.value.reason == "IDEMPOTENCY_KEY_REUSED"


def ask(client: Client, people: People) -> str:
    """Every kind of question; returns the id of the last answer."""
    everybody = [people.address, people.number, people.account, people.other, people.malformed, *people.imported]
    for person in everybody:
        client.check(person, "newsletter")
        client.check(person, "no-purpose")
        client.check(person, "newsletter", timeout_seconds=1e-9)
    client.check(everybody[:4], ["newsletter", "product_tips"])
    client.check_many(everybody, "analytics")
    assert list(client.filter_allowed(everybody, key=lambda person: person, purpose="product_tips"))
    return str(client.check(people.other, "newsletter").decision_id)


def ask_in_broken_messages(deployment: Deployment, people: People) -> None:
    """Messages that are undecodable, too large, or with an identifier where none belongs."""
    name = people.address.value
    too_many = [event_pb2.Identifier(namespace="email", value=name)] * 33
    misplaced = decision_pb2.CheckRequest(
        subject=decision_pb2.Subject(identifiers=[event_pb2.Identifier(namespace=name, value=name, token=b"short")]),
        purposes=["newsletter"],
    )
    with grpc.insecure_channel(deployment.address("sidecar-admin")) as channel:
        stub = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
        raw: Callable[..., bytes] = channel.unary_unary("/consentry.decision.v1.ConsentDecisionService/Check")
        for call in (
            lambda: raw(name.encode() * 3, timeout=CALL_SECONDS),
            lambda: stub.Check(
                decision_pb2.CheckRequest(subject=decision_pb2.Subject(identifiers=too_many)), timeout=CALL_SECONDS
            ),
        ):
            _, text = refusal_of(call)
            assert name not in text
        stub.Check(misplaced, timeout=CALL_SECONDS)
        unknown: Callable[..., bytes] = channel.unary_unary(
            f"/consentry.decision.v1.ConsentDecisionService/{people.other.value}"
        )
        refusal_of(lambda: unknown(b"", timeout=CALL_SECONDS))


def import_people(deployment: Deployment, people: People, folder: Path) -> None:
    """Rows that are recorded, and one that is not; the file itself lies outside of what is searched, the verdicts inside."""
    rows = [f"{person.value},newsletter,opt_out" for person in people.imported]
    file = folder / "people.csv"
    lines = ["email,purpose,action", *rows, f"{people.malformed.value},newsletter,opt_out"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = deployment.run_feed("import", file, "--verdicts", deployment.folder / "verdicts.csv")
    assert done.returncode == 1
    assert not list(IdentifierSearch(people.values).find((done.stdout + done.stderr).encode(), "output"))


def test_identifiers_are_in_no_file_log_or_span(
    deployment: Deployment, client: Client, people: People, tmp_path: Path
) -> None:
    with deployment.intake("intake-accounts") as intake:
        hand_in(intake, people)
    import_people(deployment, people, tmp_path)
    deployment.wait_until_caught_up()
    ask_in_broken_messages(deployment, people)
    last_id = ask(client, people)
    wait_until(lambda: last_id in received_ids(deployment.spans_path), "the spans have come")
    search = IdentifierSearch(people.values)
    finding = search.search_folder(deployment.folder)
    assert finding.hits == ()
    # It was all there to be found: the programs' logs, the log's and the cache's files, the journal, the spans.
    searched = {path.name for path in deployment.folder.rglob("*") if path.is_file()}
    assert {"feed.log", "sidecar.log", "cache.db", "verdicts.csv", "received-spans.jsonl"} <= searched
    assert any(name.endswith(".journal") for name in searched)
    assert len({hit.number for hit in search.find((tmp_path / "people.csv").read_bytes(), "imported")}) == 4

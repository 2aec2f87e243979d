"""What happens to a deployment while its programs are killed: steps that are acknowledged, and what must hold ever after."""

import csv
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from consentry_client import ConsistencyToken, Decision, Identifier, Proof, user

from tests.e2e.audit import read_verified_log
from tests.e2e.deployment import EVIDENCE, Deployment
from tests.e2e.people import SITUATION, make_person
from tests.e2e.processes import START_SECONDS, wait_until

IMPORTED_ROWS = 500
QUESTIONS = 200
_HEADER = ("email", "purpose", "action")


@dataclass(frozen=True, slots=True)
class Denial:
    """Somebody's no that the feed has acknowledged.

    Attributes:
        person: Who.
        purpose: What to ask for.
        reason: Why it must be denied.
        seq: The entry that must decide, 0 where the acknowledgement named none.
    """

    person: Identifier
    purpose: str
    reason: str
    seq: int = 0


class Story:
    """Its methods whose names are in `STEPS` are its steps, to be told in that order.

    Args:
        deployment: Feed, sidecar and receiver run.
        policy_file: Published by the first step.
    """

    STEPS = ("publish", "consent", "opt_out", "opt_out_of_parent", "link", "import_file", "ask")

    def __init__(self, deployment: Deployment, policy_file: Path) -> None:
        self._deployment = deployment
        self._policy_file = policy_file
        self._resources = ExitStack()
        self._client = self._resources.enter_context(deployment.client())
        self._web, self._accounts = (
            self._resources.enter_context(deployment.patient_intake(name)) for name in ("intake-web", "intake-accounts")
        )
        self.ada, self.adas_account, self.grace = (
            make_person(),
            user(f"member-{make_person().value[7:39]}"),
            make_person(),
        )
        self.denials: list[Denial] = []
        self.acknowledged = 0
        self.decision_ids: set[str] = set()

    def publish(self) -> None:
        """A policy; where the feed dies meanwhile nobody knows whether it came through, so it is looked up and sent again."""
        try:
            self._deployment.publish(self._policy_file)
        except grpc.RpcError:
            wait_until(self._deployment.is_feed_answering, "the feed answers again", START_SECONDS)
            if self._deployment.feed_status().policy_version == 0:
                self._deployment.publish(self._policy_file)
        self.acknowledged += 1

    def consent(self) -> None:
        """Three people's, by their accounts."""
        for person in (self.ada, self.adas_account, self.grace):
            self._accounts.grant(person, "newsletter", proof=Proof.AUTHENTICATED, notice_version=1, evidence=EVIDENCE)
            self.acknowledged += 1

    def opt_out(self) -> None:
        """Ada's."""
        seq = self._web.opt_out(self.ada, "newsletter").token.seq
        self._deny(Denial(self.ada, "newsletter", "OPT_OUT", seq))

    def opt_out_of_parent(self) -> None:
        """Grace's."""
        seq = self._web.opt_out(self.grace, "marketing").token.seq
        self._deny(Denial(self.grace, "newsletter", "OPT_OUT_PARENT", seq))
        self.denials.append(Denial(self.grace, "product_tips", "OPT_OUT_PARENT", seq))

    def link(self) -> None:
        """Ada's account with her address; her no decides for it too."""
        self._accounts.link(self.adas_account, self.ada, Proof.AUTHENTICATED, evidence=EVIDENCE)
        (of_ada,) = (denial for denial in self.denials if denial.person == self.ada)
        self._deny(Denial(self.adas_account, "newsletter", "OPT_OUT", of_ada.seq))

    def import_file(self) -> None:
        """A list of people who unsubscribed; it is run again until it came through, as its help says."""
        people = [make_person() for _ in range(IMPORTED_ROWS)]
        file = self._deployment.folder.with_name(f"{self._deployment.folder.name}.csv")
        with file.open("w", encoding="utf-8", newline="") as table:
            csv.writer(table).writerows([_HEADER, *((person.value, "newsletter", "opt_out") for person in people)])
        try:
            while self._deployment.run_feed("import", file).returncode == 3:
                wait_until(self._deployment.is_feed_answering, "the feed answers again", START_SECONDS)
        finally:
            file.unlink()
        for person in people:
            self._deny(Denial(person, "newsletter", "OPT_OUT"))

    def ask(self) -> None:
        """Many questions, most of them about people who have said no; the sidecar may be away.

        The first comes once the sidecar holds what the feed has acknowledged: until then it may answer from what it held before,
        within the staleness limit, to whoever does not ask with a token.
        """
        self._deployment.wait_until_caught_up()
        for number in range(QUESTIONS):
            denial = self.denials[number % len(self.denials)]
            assert not self.answer(denial.person, denial.purpose), "allowed in spite of an acknowledged no"
            self.answer(make_person(), "newsletter")

    def answer(self, person: Identifier, purpose: str, token: ConsistencyToken | None = None) -> Decision:
        """Ask, and remember every answer that came from the sidecar."""
        wait_seconds = 10.0 if token is not None else 0.0
        decision = self._client.check(person, purpose, context=SITUATION, min_token=token, wait_seconds=wait_seconds)
        if decision.decision_id is not None:
            self.decision_ids.add(str(decision.decision_id))
        return decision

    def verify(self) -> None:
        """Check that everything acknowledged so far is in the log, once, and in force at the sidecar."""
        log = read_verified_log(self._deployment)
        assert log.requests == self.acknowledged
        wait_until(self._holds_the_log, "the sidecar holds the very log that the feed shows")
        self.verify_denials()

    def _holds_the_log(self) -> bool:
        # Between two looks a receipt may come into the log.
        status, log = self._deployment.wait_until_caught_up(), read_verified_log(self._deployment)
        return (status.log_size, status.root_hash) == (len(log.events), log.root_hash)

    def verify_denials(self) -> None:
        """Check that the sidecar denies whatever it must, for the right reason and because of the right entry."""
        wait_until(lambda: not self.answer(make_person(), "newsletter").failed, "the sidecar is reached again")
        for denial in self.denials:
            decision = self.answer(denial.person, denial.purpose)
            assert (str(decision.effect), str(decision.reason)) == ("DENY", denial.reason), decision
            assert denial.seq in (0, decision.deciding_seq), decision

    def _deny(self, denial: Denial) -> None:
        self.denials.append(denial)
        self.acknowledged += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

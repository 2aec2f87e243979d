"""One recorded call against the log: the same question to the same state must get the same answer."""

from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from auditor.replay.fold import LogFold
from auditor.replay.pseudonyms import PseudonymTables, Tokens
from consent.decide import Decision, Freshness, Request, decide
from consent.decision_record import NO_AGE, AskedQuestion, CallRecord, Item, Situation, parse_question
from consent.policy import Policy
from consent.vocabulary.directive import Facts
from consent.vocabulary.reason import Effect, Reason

UNKNOWN_NAME: Final = "(unknown)"
"""What a sidecar records in place of a name that its policy does not know."""

_MS_PER_DAY: Final = 86_400_000
_ABOUT_THE_REQUEST: Final = frozenset(
    {
        Reason.INVALID_REQUEST,
        Reason.PURPOSE_UNKNOWN,
        Reason.CALLER_NOT_PERMITTED_FOR_PURPOSE,
        Reason.CACHE_INTEGRITY,
    }
)
"""Rules 1 to 4 look at nobody's record."""
_ABOUT_A_PERSON_WITHOUT_SNAPSHOT: Final = frozenset({Reason.PROCESSING_RESTRICTED, Reason.PROHIBITED})
_MOST_FRUITLESS_SEARCHES: Final = 16


class Asked(NamedTuple):
    """A question, with what a request is made of worked out once: questions come again and again.

    Attributes:
        question: As recorded.
        facts: That the caller stated.
        data_categories: That would be used.
    """

    question: AskedQuestion
    facts: Facts
    data_categories: frozenset[str]


@lru_cache(maxsize=4096)
def read_question(block: bytes) -> Asked:
    """Read a question; raises MalformedRecord."""
    question = parse_question(block)
    return Asked(question, Facts(question.age_band, question.jurisdictions), frozenset(question.data_categories))


class Outcome(StrEnum):
    """What became of one recorded decision."""

    SAME = "same"
    DIFFERS = "differs"
    #: The person, or what decided, was erased since: what is left cannot give the answer of then.
    ERASED = "erased"
    NOT_REPLAYABLE = "not_replayable"


class Obstacle(StrEnum):
    """Why a decision cannot be replayed."""

    BOOTSTRAP_POLICY = "BOOTSTRAP_POLICY"
    DAY_WITHOUT_KEY = "DAY_WITHOUT_KEY"
    NO_PSEUDONYMS = "NO_PSEUDONYMS"
    ERASED_IN_A_LATER_EPOCH = "ERASED_IN_A_LATER_EPOCH"
    BEYOND_THE_LOG = "BEYOND_THE_LOG"
    SIZE_WENT_BACK = "SIZE_WENT_BACK"


class Verdict(NamedTuple):
    """What became of one recorded decision.

    Attributes:
        outcome: What.
        decision: As computed anew; None where it was not.
        obstacle: Why not, for `NOT_REPLAYABLE`.
        used_other_days_key: The pseudonyms were made with another day's key.
    """

    outcome: Outcome
    decision: Decision | None = None
    obstacle: Obstacle | None = None
    used_other_days_key: bool = False


_NO_KEY_FOR_THE_DAY: Final = Verdict(Outcome.NOT_REPLAYABLE, obstacle=Obstacle.DAY_WITHOUT_KEY)


class Held(NamedTuple):
    """What a call is decided on.

    Attributes:
        policy: In force, None for none.
        freshness: As recorded.
    """

    policy: Policy | None
    freshness: Freshness


class Judge:
    """Decides anew what was recorded.

    Args:
        fold: The log; stands at the size of each call that is judged.
        tables: Lead from pseudonyms to tokens.
    """

    def __init__(self, fold: LogFold, tables: PseudonymTables) -> None:
        self._fold = fold
        self._tables = tables
        self._other_keys: dict[tuple[bytes, int], bytes] = {}
        self._fruitless: dict[bytes, int] = {}

    def judge(self, chain_id: bytes, call: CallRecord, situation: Situation, policy: Policy | None) -> list[Verdict]:
        """Judge every item of a call.

        Args:
            chain_id: Where it was recorded.
            call: The record.
            situation: Its situation.
            policy: In force then, as the log or the bootstrap file says.
        """
        age_ms = None if call.age_ms == NO_AGE else call.age_ms
        held = Held(policy, Freshness(situation.log_size, age_ms, situation.is_intact))
        request = make_request(read_question(call.question), call.now_ms)
        day = call.now_ms // _MS_PER_DAY
        return [self._judge_item(chain_id, day, request, item, held) for item in call.items]

    def _judge_item(self, chain_id: bytes, day: int, request: Request, item: Item, held: Held) -> Verdict:
        if not item.pseudonyms:
            return self._judge_nobody(request, item, held)
        key = self._tables.key_of(day)
        tokens: Tokens = (None,) * len(item.pseudonyms)
        if key is not None:
            tokens = self._tables.find(item.pseudonyms, key, self._fold.tokens)
        other = self._other_keys.get((chain_id, day))
        if other is not None and not any(tokens):
            tokens = self._tables.find(item.pseudonyms, other, self._fold.tokens)
            if any(tokens):
                return self._judge_tokens(request, item, held, tokens, day)._replace(used_other_days_key=True)
        verdict = self._judge_tokens(request, item, held, tokens, day)
        if verdict.outcome is Outcome.SAME or any(tokens):
            return verdict
        return self._judge_by_another_key(chain_id, day, request, item, held) or verdict

    def _judge_by_another_key(
        self, chain_id: bytes, day: int, request: Request, item: Item, held: Held
    ) -> Verdict | None:
        """What an item is under another day's key, if it is anybody's there.

        A chain that has brought many differences that no key explains is not searched further: each search reads all tokens for each key.
        """
        if self._fruitless.get(chain_id, 0) >= _MOST_FRUITLESS_SEARCHES:
            return None
        key = self._tables.search(item.pseudonyms, day, self._fold.tokens)
        if key is None:
            self._fruitless[chain_id] = self._fruitless.get(chain_id, 0) + 1
            return None
        self._other_keys[chain_id, day] = key
        tokens = self._tables.find(item.pseudonyms, key, self._fold.tokens)
        return self._judge_tokens(request, item, held, tokens, day)._replace(used_other_days_key=True)

    def _judge_nobody(self, request: Request, item: Item, held: Held) -> Verdict:
        """An item without pseudonyms: no token could be made, or there was no audit key."""
        decision = _decide(request, item, held, self._fold, ())
        is_same = _is_same(item, decision)
        if decision.reason in _ABOUT_THE_REQUEST:
            return Verdict(Outcome.SAME if is_same else Outcome.DIFFERS, decision)
        if held.freshness.age_ms is not None:
            return Verdict(Outcome.NOT_REPLAYABLE, obstacle=Obstacle.NO_PSEUDONYMS)
        if is_same:
            return Verdict(Outcome.SAME, decision)
        # A ready token of a restricted person, asked about while there was no key at all, leaves no pseudonym.
        if item.effect is Effect.DENY and item.reason in _ABOUT_A_PERSON_WITHOUT_SNAPSHOT:
            return Verdict(Outcome.NOT_REPLAYABLE, obstacle=Obstacle.NO_PSEUDONYMS)
        return Verdict(Outcome.DIFFERS, decision)

    def _judge_tokens(self, request: Request, item: Item, held: Held, tokens: Tokens, day: int) -> Verdict:
        decision = _decide(request, item, held, self._fold, tokens)
        if _is_same(item, decision):
            is_checked = any(tokens) or self._tables.knows_day(day) or decision.reason in _ABOUT_THE_REQUEST
            # On a day without a key everybody is a stranger, so that the same answer shows nothing.
            return Verdict(Outcome.SAME, decision) if is_checked else _NO_KEY_FOR_THE_DAY
        if decision.reason in _ABOUT_THE_REQUEST:
            return Verdict(Outcome.DIFFERS, decision)
        fold = self._fold
        if any(token is not None and fold.is_erased_later(token) for token in tokens):
            return Verdict(Outcome.ERASED, decision)
        # Under the token of a later epoch nobody of this one can be recognised; what decided can.
        if fold.has_erasures_in_later_epochs() and fold.is_entry_erased_later(item.deciding_seq):
            return Verdict(Outcome.ERASED, decision)
        if None in tokens and not self._tables.knows_day(day):
            return _NO_KEY_FOR_THE_DAY
        if None in tokens and fold.has_erasures_in_later_epochs():
            return Verdict(Outcome.NOT_REPLAYABLE, decision, Obstacle.ERASED_IN_A_LATER_EPOCH)
        return Verdict(Outcome.DIFFERS, decision)


def make_request(asked: Asked, now_ms: int) -> Request:
    """The request that a record is about; whether it was well-formed, each item says."""
    question = asked.question
    return Request(
        purposes=question.purposes,
        now_ms=now_ms,
        is_caller_permitted=question.is_caller_permitted,
        facts=asked.facts,
        sec_gpc=question.sec_gpc,
        recipient=question.recipient,
        data_categories=asked.data_categories,
        min_seq=question.min_seq,
    )


def is_permission_plausible(question: AskedQuestion, policy: Policy | None) -> bool:
    """Whether a caller that was let through is one that the policy lets through.

    A listener's own settings may let through less, and names that the policy does not know are not recorded.
    """
    if policy is None or not question.is_caller_permitted or UNKNOWN_NAME in question.purposes:
        return True
    return policy.is_caller_permitted(question.caller, question.purposes)


def _decide(request: Request, item: Item, held: Held, fold: LogFold, tokens: Tokens) -> Decision:
    """What a sidecar would answer (`sidecar.check`): what is malformed is refused before it matters whether there is a policy."""
    if not item.is_well_formed or not request.purposes:
        return Decision(Effect.DENY, Reason.INVALID_REQUEST)
    if held.policy is None:
        return Decision(Effect.DENY, Reason.NO_SNAPSHOT)
    return decide(request, [fold.view(token) for token in tokens], held.policy, held.freshness)


def _is_same(item: Item, decision: Decision) -> bool:
    return (
        item.effect is decision.effect
        and item.reason is decision.reason
        and item.deciding_seq == decision.deciding_seq
        and item.valid_until_ms == decision.valid_until_ms
    )

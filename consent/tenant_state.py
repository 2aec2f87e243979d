"""What the log says about the tenant as a whole: the policy in force, what of the earlier ones still matters, its keys and its sidecars."""

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import NamedTuple

from consent.errors import ConsentError
from consent.event import EnrolEvent, Event, KeyEpochEvent, PolicyEvent, RetireEvent
from consent.policy import Policy, check_replacement, parse_policy


class EventOutOfOrder(ConsentError):
    """A POLICY, KEY_EPOCH or RETIRE event does not follow what is in force. Unexpected: the feed checks it before it logs."""

    reason = "EVENT_OUT_OF_ORDER"


class EnrolledSidecar(NamedTuple):
    """A sidecar whose acknowledgements count.

    Attributes:
        sidecar_id: Its name.
        public_key: Its Ed25519 key, 32 bytes.
        enrolled_seq: Seq of the ENROL that says so.
    """

    sidecar_id: str
    public_key: bytes
    enrolled_seq: int


@dataclass(frozen=True, slots=True)
class TenantState:
    """What the fold keeps of POLICY, KEY_EPOCH, ENROL and RETIRE events.

    Attributes:
        document: Canonical document of the policy in force; empty before the first.
        version_seqs: (version, seq of the event that published it), in order.
        drop_seqs: Seqs of the events whose policy dropped a parent edge.
        key_commitments: `consent.key_ring.commit_key` of each epoch's subject key, so that a sidecar cannot be given another, under which
            nobody would be found.
        sidecars: Those enrolled and not retired, by name.
    """

    document: bytes = b""
    version_seqs: tuple[tuple[int, int], ...] = ()
    drop_seqs: tuple[int, ...] = ()
    key_commitments: tuple[bytes, ...] = ()
    sidecars: tuple[EnrolledSidecar, ...] = ()

    @property
    def policy_version(self) -> int:
        """The version in force, 0 before the first."""
        return self.version_seqs[-1][0] if self.version_seqs else 0

    def find_sidecar(self, sidecar_id: str) -> EnrolledSidecar | None:
        """The enrolment in force of a sidecar; None where it is not enrolled, or retired."""
        at = bisect_left(self.sidecars, sidecar_id, key=_name_of)
        is_there = at < len(self.sidecars) and self.sidecars[at].sidecar_id == sidecar_id
        return self.sidecars[at] if is_there else None

    def load_policy(self) -> Policy | None:
        """The policy in force, ready for decisions; None before the first."""
        return parse_policy(self.document).with_version_seqs(dict(self.version_seqs)) if self.document else None


EMPTY_TENANT = TenantState()


def fold_tenant_event(state: TenantState, event: Event, seq: int) -> TenantState:
    """The state after one more event; events that are not about the tenant change nothing.

    Raises:
        EventOutOfOrder: The event does not follow what is in force, or its document is of another version.
        PolicyError: The document is not valid, or may not take the place of the one before.
    """
    match event:
        case PolicyEvent():
            return _fold_policy(state, event, seq)
        case KeyEpochEvent():
            if event.epoch != len(state.key_commitments):
                raise EventOutOfOrder(f"key epoch {event.epoch} does not follow epoch {len(state.key_commitments) - 1}")
            return replace(state, key_commitments=(*state.key_commitments, event.key_commitment))
        case EnrolEvent():
            return _replace_sidecar(state, event.sidecar_id, EnrolledSidecar(event.sidecar_id, event.public_key, seq))
        case RetireEvent():
            if state.find_sidecar(event.sidecar_id) is None:
                raise EventOutOfOrder("a sidecar that is not enrolled cannot be retired")
            return _replace_sidecar(state, event.sidecar_id)
        case _:
            return state


def _name_of(sidecar: EnrolledSidecar) -> str:
    return sidecar.sidecar_id


def _replace_sidecar(state: TenantState, sidecar_id: str, *enrolled: EnrolledSidecar) -> TenantState:
    others = (sidecar for sidecar in state.sidecars if sidecar.sidecar_id != sidecar_id)
    return replace(state, sidecars=tuple(sorted((*others, *enrolled), key=_name_of)))


def _fold_policy(state: TenantState, event: PolicyEvent, seq: int) -> TenantState:
    policy = parse_policy(event.document)
    if event.replaces_version != state.policy_version or event.version != policy.version:
        raise EventOutOfOrder(f"policy version {event.version} does not replace version {state.policy_version}")
    before = state.load_policy()
    drop_seqs = state.drop_seqs
    if before is not None:
        check_replacement(before, policy)
        if _drops_an_edge(before, policy):
            drop_seqs = (*drop_seqs, seq)
    versions = (*state.version_seqs, (event.version, seq))
    return replace(state, document=event.document, version_seqs=versions, drop_seqs=drop_seqs)


def _drops_an_edge(before: Policy, after: Policy) -> bool:
    return any(
        set(purpose.parents) - set(after.purposes[name].parents)
        for name, purpose in before.purposes.items()
        if name in after.purposes
    )

"""A new key epoch: the same people, the same say, under the tokens of the next key.

KEY_EPOCH e, from 1 on, maps every token of the state. Whoever holds the key of the epoch does so without any identifier, and comes to the
state that the log's later STATE_ROOTs commit to.
"""

from collections.abc import Mapping
from dataclasses import replace

from consent.event import (
    DirectiveEvent,
    ErasureEvent,
    Event,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    RestrictionEvent,
    UnlinkEvent,
)
from consent.state import Cluster, Link, Member
from consent.state_record import format_cluster, parse_cluster
from consent.tenant_state import TenantState
from consent.vocabulary.subject import TOKEN_BYTES, Rekeyer

_ONE_MEMBER = (1).to_bytes(2, "big")
_FIRST_TOKEN = slice(len(_ONE_MEMBER), len(_ONE_MEMBER) + TOKEN_BYTES)


def current_epoch(tenant: TenantState) -> int:
    """The key epoch that a log is in; 0 before its first KEY_EPOCH too."""
    return max(0, len(tenant.key_commitments) - 1)


def rekey_cluster(cluster: Cluster, rekeyer: Rekeyer) -> Cluster:
    """The same cluster in the next epoch. Nothing but its tokens, and the order that they give, changes."""
    members = (_rekey_member(member, rekeyer) for member in cluster.members)
    return Cluster(tuple(sorted(members, key=lambda member: member.token)))


def rekey_clusters(clusters: Mapping[bytes, Cluster], rekeyer: Rekeyer) -> dict[bytes, Cluster]:
    """The same state in the next epoch.

    Args:
        clusters: The cluster of every token.
        rekeyer: Of the next epoch's key.
    """
    distinct = {cluster.members[0].token: cluster for cluster in clusters.values()}
    rekeyed = (rekey_cluster(cluster, rekeyer) for cluster in distinct.values())
    return {member.token: cluster for cluster in rekeyed for member in cluster.members}


def rekey_record(record: bytes, rekeyer: Rekeyer) -> tuple[bytes, tuple[bytes, ...]]:
    """The canonical record of a cluster in the next epoch, and the tokens in it, in their order.

    Raises:
        MalformedState: As `parse_cluster`, where the record is of more than one member.
    """
    if record.startswith(_ONE_MEMBER):
        # Nearly everybody's: without a link, the only token in it is the one that stands behind the count.
        token = rekeyer.rekey(record[_FIRST_TOKEN])
        return _ONE_MEMBER + token + record[_FIRST_TOKEN.stop :], (token,)
    cluster = rekey_cluster(parse_cluster(record), rekeyer)
    return format_cluster(cluster), tuple(member.token for member in cluster.members)


def rekey_event(event: Event, rekeyer: Rekeyer) -> Event:
    """The same event in the next epoch; one without tokens stays as it is."""
    match event:
        case DirectiveEvent() | FactEvent() | RestrictionEvent() | OverrideEvent():
            return replace(event, key_epoch=event.key_epoch + 1, token=rekeyer.rekey(event.token))
        case LinkEvent() | UnlinkEvent():
            left, right = rekeyer.rekey(event.left), rekeyer.rekey(event.right)
            return replace(event, key_epoch=event.key_epoch + 1, left=left, right=right)
        case ErasureEvent():
            tokens = tuple(sorted(map(rekeyer.rekey, event.tokens)))
            return replace(event, key_epoch=event.key_epoch + 1, tokens=tokens)
        case _:
            return event


def _rekey_member(member: Member, rekeyer: Rekeyer) -> Member:
    links = tuple(sorted(Link(rekeyer.rekey(link.token), link.proof) for link in member.links))
    return replace(member, token=rekeyer.rekey(member.token), links=links)

"""The folded state while a batch is put together: what the events make of it, and which rows that changes."""

from collections.abc import Iterable, Mapping

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
from consent.state import Changes, Cluster
from consent.state_record import format_cluster, parse_cluster
from feed.errors import CorruptLog
from feed.log_store.port import ClusterChanges
from feed.log_store.state_sum import add_records, subtract_records


def tokens_of(event: Event) -> tuple[bytes, ...]:
    """The tokens whose clusters `consent.state.fold_event` asks for."""
    match event:
        case DirectiveEvent() | FactEvent() | RestrictionEvent() | OverrideEvent():
            return (event.token,)
        case LinkEvent() | UnlinkEvent():
            return (event.left, event.right)
        case ErasureEvent():
            return event.tokens
        case _:
            return ()


class StateChanges:
    """Collects changed clusters; what it was given stays as it is until the batch is committed.

    Args:
        records: Canonical record of the cluster of each token that the batch names and the store knows.
    """

    def __init__(self, records: Mapping[bytes, bytes]) -> None:
        self._records = records
        self._before: dict[bytes, Cluster] = {}
        self._record_of: dict[bytes, bytes] = {}
        self._now: dict[bytes, Cluster] = {}

    def find(self, token: bytes) -> Cluster | None:
        """The cluster of a token as the batch has made it so far."""
        cluster = self._now.get(token) or self._before.get(token)
        if cluster is None and token in self._records:
            cluster = self._load(token)
        return cluster

    def apply(self, changes: Changes) -> None:
        """Put new clusters in the place of those before."""
        self._now.update(changes)

    def finish(self, state_sum: bytes) -> tuple[ClusterChanges, bytes]:
        """The rows to write, and the state's sum after them."""
        before = _by_first_token(self._before[token] for token in self._now if token in self._before)
        after = _by_first_token(self._now.values())
        records = {first_token: format_cluster(cluster) for first_token, cluster in after.items()}
        changed = {
            first_token: record for first_token, record in records.items() if self._record_of.get(first_token) != record
        }
        gone = [self._record_of[first_token] for first_token in before if first_token not in after]
        replaced = [self._record_of[first_token] for first_token in changed if first_token in before]
        state_sum = subtract_records(add_records(state_sum, changed.values()), gone + replaced)
        members_before, members_after = _further_members(before), _further_members(after)
        rows = ClusterChanges(
            records=changed,
            removed=[first_token for first_token in before if first_token not in after],
            members={
                token: first_token
                for token, first_token in members_after.items()
                if members_before.get(token) != first_token
            },
            removed_members=[token for token in members_before if token not in members_after],
        )
        return rows, state_sum

    def _load(self, token: bytes) -> Cluster:
        record = self._records[token]
        cluster = parse_cluster(record)
        tokens = [member.token for member in cluster.members]
        if token not in tokens or any(known in self._before for known in tokens):
            raise CorruptLog("a token leads to a cluster that is not its own")
        self._record_of[tokens[0]] = record
        self._before.update(dict.fromkeys(tokens, cluster))
        return cluster


def _by_first_token(clusters: Iterable[Cluster]) -> dict[bytes, Cluster]:
    return {cluster.members[0].token: cluster for cluster in clusters}


def _further_members(clusters: Mapping[bytes, Cluster]) -> dict[bytes, bytes]:
    return {member.token: first_token for first_token, cluster in clusters.items() for member in cluster.members[1:]}

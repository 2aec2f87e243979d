"""Canonical records of the folded state, and the hash that commits to all of them.

One record per cluster, in the order of its first member's token; one record for the tenant. The state root is the RFC 6962 tree over
4,096 buckets (clusters by the first 12 bits of their first token) and, last, the tenant's record: changing a cluster changes one bucket.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from consent import encoding as wire
from consent.errors import MalformedState
from consent.eventlog.merkle import Frontier, hash_leaf
from consent.state import Cluster, Link, Member, Override
from consent.tenant_state import TenantState
from consent.vocabulary.directive import Directive, Facts

BUCKETS = 4096
_EMPTY_BUCKET_HASH = bytes(32)

_FACTS = wire.record(Facts, (("age_band", wire.U8), ("jurisdictions", wire.sequence(wire.STRING))))
_DIRECTIVE = wire.record(
    Directive,
    (
        ("seq", wire.U64),
        ("occurred_at_ms", wire.TIME),
        ("floor_seq", wire.U64),
        ("kind", wire.U8),
        ("proof", wire.U8),
        ("assurance", wire.U8),
        ("subtree", wire.FLAG),
        ("explicit", wire.FLAG),
        ("granted_by", wire.U8),
        ("notice_version", wire.U64),
        ("purpose", wire.STRING),
        ("recipient", wire.STRING),
        ("expires_at_ms", wire.optional(wire.TIME)),
    ),
)
_MEMBER = wire.record(
    Member,
    (
        ("token", wire.TOKEN),
        ("restricted_seq", wire.U64),
        ("stated", _FACTS),
        ("hinted", _FACTS),
        ("overrides", wire.sequence(wire.record(Override, (("purpose", wire.STRING), ("objection_seq", wire.U64))))),
        ("links", wire.sequence(wire.record(Link, (("token", wire.TOKEN), ("proof", wire.U8))))),
        ("directives", wire.long_sequence(_DIRECTIVE)),
    ),
)
_CLUSTER = wire.record(Cluster, (("members", wire.sequence(_MEMBER)),))
#: Behind the 16-bit count of members.
_TOKEN_BYTES = 16
_FIRST_TOKEN = slice(2, 2 + _TOKEN_BYTES)
_TENANT = wire.record(
    TenantState,
    (
        ("document", wire.BLOB),
        ("version_seqs", wire.sequence(wire.pair(wire.U64, wire.U64))),
        ("drop_seqs", wire.sequence(wire.U64)),
        ("key_commitments", wire.sequence(wire.HASH)),
    ),
)


def format_cluster(cluster: Cluster) -> bytes:
    """The canonical bytes of a cluster."""
    return _CLUSTER.write(cluster)


def parse_cluster(record: bytes) -> Cluster:
    """Read them back.

    Raises:
        MalformedState: Not canonical, no members, members out of order, or links that do not join members both ways.
    """
    cluster: Cluster = _read(_CLUSTER, record)
    tokens = [member.token for member in cluster.members]
    if not tokens or any(left >= right for left, right in pairwise(tokens)):
        raise MalformedState("a cluster's members are missing or out of order")
    links = {(member.token, link.token): link.proof for member in cluster.members for link in member.links}
    if any(links.get((there, here)) != proof for (here, there), proof in links.items()):
        raise MalformedState("a cluster's links do not join its members both ways")
    return cluster


def first_token_of(record: bytes) -> bytes:
    """The token (16 bytes) of a record's first member, without reading the rest.

    Raises:
        MalformedState: The record is too short to hold one.
    """
    first_token = record[_FIRST_TOKEN]
    if len(first_token) != _TOKEN_BYTES:
        raise MalformedState("state record: cut short")
    return first_token


def format_tenant(tenant: TenantState) -> bytes:
    """The canonical bytes of what the log says about the tenant."""
    return _TENANT.write(tenant)


def parse_tenant(record: bytes) -> TenantState:
    """Read them back; raises MalformedState."""
    tenant: TenantState = _read(_TENANT, record)
    return tenant


def _read(field: wire.Field, record: bytes) -> Any:
    try:
        return wire.read_whole(field, record)
    except wire.Truncated as error:
        raise MalformedState(f"state record: {error}") from None


class StateHasher:
    """Computes a state root from cluster records that come in the order of their first token."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._bucket = 0
        self._bucket_digest = hashlib.sha256()
        self._is_bucket_empty = True
        self._last_token = b""

    def add(self, first_token: bytes, record: bytes) -> None:
        """Take the next record.

        Raises:
            MalformedState: Not in ascending order.
        """
        if first_token <= self._last_token:
            raise MalformedState("state records are out of order")
        self._last_token = first_token
        bucket = int.from_bytes(first_token[:2], "big") >> 4
        self._close_buckets(bucket)
        self._bucket_digest.update(hashlib.sha256(record).digest())
        self._is_bucket_empty = False

    def finish(self, tenant: TenantState) -> bytes:
        """The 32-byte state root, after the last record."""
        self._close_buckets(BUCKETS)
        self._frontier.append(hash_leaf(format_tenant(tenant)))
        return self._frontier.root_hash()

    def _close_buckets(self, until: int) -> None:
        while self._bucket < until:
            bucket_hash = _EMPTY_BUCKET_HASH if self._is_bucket_empty else self._bucket_digest.digest()
            self._frontier.append(hash_leaf(bucket_hash))
            self._bucket += 1
            if not self._is_bucket_empty:
                self._bucket_digest, self._is_bucket_empty = hashlib.sha256(), True


def split_records(chunk: bytes) -> Iterator[bytes]:
    """The records of a snapshot chunk or cache segment: each behind its 32-bit length.

    Raises:
        MalformedState: A record is cut short.
    """
    at = 0
    while at < len(chunk):
        try:
            record, at = wire.BLOB.read(chunk, at)
        except (wire.Truncated, struct.error):
            raise MalformedState("a run of state records is cut short") from None
        yield record


def join_records(records: Iterable[bytes]) -> bytes:
    """The opposite of `split_records`."""
    return b"".join(map(wire.BLOB.write, records))

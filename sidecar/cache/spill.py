"""What does not fit a row: subjects with several directives, expiry, links, facts, overrides, restriction or floor.

A spill record is one of two: `1`, u8 count, count payloads of ten bytes (one member, plain directives only); or `0`, the canonical cluster
(`consent.state_record`) behind its length, to which the rows of all its members point.
"""

from consent import encoding as wire
from consent.key_epoch import rekey_record
from consent.state import Cluster, Member
from consent.state_record import format_cluster, parse_cluster
from consent.vocabulary.subject import Rekeyer
from sidecar.cache.rows import PAYLOAD, PAYLOAD_BYTES, Shapes

_CLUSTER = 0
_RUN = 1
_MAX_RUN = 255
_BLOB_HEAD_BYTES = 4


def pack_cluster(cluster: Cluster, shapes: Shapes) -> tuple[bytes, bytes]:
    """Make the payload of a row or, where it does not fit one, a spill record.

    Returns:
        (payload, b"") or (b"", spill record).
    """
    payloads = _pack_plain(cluster, shapes)
    if payloads is None:
        return b"", bytes((_CLUSTER,)) + wire.BLOB.write(format_cluster(cluster))
    if len(payloads) == 1:
        return payloads[0], b""
    return b"", bytes((_RUN, len(payloads))) + b"".join(payloads)


def _pack_plain(cluster: Cluster, shapes: Shapes) -> list[bytes] | None:
    if len(cluster.members) != 1:
        return None
    member = cluster.members[0]
    if member != Member(member.token, member.directives) or len(member.directives) > _MAX_RUN:
        return None
    payloads = [shapes.pack(directive) for directive in member.directives]
    return None if None in payloads else [payload for payload in payloads if payload is not None]


def spill_record(spill: memoryview, offset: int) -> bytes:
    """The whole record at an offset."""
    if spill[offset] == _RUN:
        end = offset + 2 + spill[offset + 1] * PAYLOAD_BYTES
    else:
        length = int.from_bytes(spill[offset + 1 : offset + 1 + _BLOB_HEAD_BYTES], "big")
        end = offset + 1 + _BLOB_HEAD_BYTES + length
    return bytes(spill[offset:end])


def rekey_spill_record(record: bytes, rekeyer: Rekeyer) -> bytes:
    """The same record in the next key epoch: only a cluster's has tokens in it."""
    if record[0] == _RUN:
        return record
    rekeyed, _ = rekey_record(record[1 + _BLOB_HEAD_BYTES :], rekeyer)
    return bytes((_CLUSTER,)) + wire.BLOB.write(rekeyed)


def unpack_spill(record: bytes, token: bytes, shapes: Shapes) -> Cluster | None:
    """The cluster that a record holds; None if `token` is no member of it (a row matched by 112 bits only)."""
    if record[0] == _RUN:
        directives = tuple(shapes.unpack(*payload) for payload in PAYLOAD.iter_unpack(record[2:]))
        return Cluster((Member(token, directives),))
    cluster = parse_cluster(record[1 + _BLOB_HEAD_BYTES :])
    return cluster if any(member.token == token for member in cluster.members) else None

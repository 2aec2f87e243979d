"""Where canonical records (`consent.state_record`) keep what the table wants, learned from records made to tell.

The encoding belongs to `consent`. Offsets written down here would be wrong the day it changes, and rows with them; so they are looked up
in a probe, and the manifest binds a fingerprint of the encoding: a file that was written with another one is rebuilt, not misread.
"""

from hashlib import sha256

from consent.state import Cluster, Link, Member, Override
from consent.state_record import format_cluster, format_tenant
from consent.tenant_state import TenantState
from consent.vocabulary.directive import Directive, Facts

_TOKEN_PROBE = bytes(range(0x81, 0x91))
_SEQ_PROBE = 0x2122232425262728
_TIME_PROBE = 0x3132333435363738


def _fingerprint() -> bytes:
    other = bytes(range(0x91, 0xA1))
    directive = Directive(1, "p", 2, 3, 4, 5, 6, True, 7, "r", True, 8, 9)
    facts = Facts(1, ("EU",))
    full = Member(_TOKEN_PROBE, (directive,), 1, facts, facts, (Override("p", 1),), (Link(other, 2),))
    tenant = TenantState(b"document", ((1, 2),), (3,), (bytes(32),))
    cluster = Cluster((full, Member(other, links=(Link(_TOKEN_PROBE, 2),))))
    return sha256(format_cluster(cluster) + format_tenant(tenant)).digest()


_PLAIN = format_cluster(Cluster((Member(_TOKEN_PROBE, (Directive(_SEQ_PROBE, "", 0, _TIME_PROBE, 0, 0),)),)))
_TOKEN_AT = _PLAIN.index(_TOKEN_PROBE)
_SEQ_LOW_AT = _PLAIN.index(_SEQ_PROBE.to_bytes(8, "big")) + 4
_TIME_LOW_AT = _PLAIN.index(_TIME_PROBE.to_bytes(8, "big")) + 4

LAYOUT_HASH = _fingerprint()
"""32 bytes that change with the encoding of clusters or of the tenant's state."""

FIRST_TOKEN = slice(_TOKEN_AT, _TOKEN_AT + 16)
"""The token of a cluster's first member, in any record."""

SEQ_LOW = slice(_SEQ_LOW_AT, _SEQ_LOW_AT + 4)
"""The lower half of the seq, in the record of one member with one directive and nothing else."""

TIME_LOW = slice(_TIME_LOW_AT, _TIME_LOW_AT + 4)
"""The lower half of occurred_at_ms, in the same."""


def shape_of(record: bytes) -> bytes:
    """All of a record but its first token and the bytes at `SEQ_LOW` and `TIME_LOW`.

    Of two records that share it, both are of one member with one directive and nothing else, or neither is: the counts that say so stand
    before the seq. Then they differ in the token and in the lower halves of seq and time only.
    """
    return b"".join(
        (
            record[: FIRST_TOKEN.start],
            record[FIRST_TOKEN.stop : SEQ_LOW.start],
            record[SEQ_LOW.stop : TIME_LOW.start],
            record[TIME_LOW.stop :],
        )
    )

"""Whose cache a file is, and the additional data that ties every sealed value to its place."""

from dataclasses import dataclass

from consent import encoding as wire

MANIFEST_AAD = b"consentry/cache/v1/manifest"
"""The manifest is opened first and tells identity and generation itself, so nothing else can be bound to it."""


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """Whose cache it is.

    Attributes:
        sidecar_id: The sidecar's name at the feed.
        tenant: The tenant that it is bound to.
        origin: Name of the log that it follows.
    """

    sidecar_id: str
    tenant: str
    origin: str

    def format(self) -> bytes:
        """Canonical bytes."""
        return b"".join(map(wire.STRING.write, (self.sidecar_id, self.tenant, self.origin)))


class Binding:
    """Makes the additional authenticated data of one generation: a value opens only at the place it was sealed for.

    Args:
        identity: Whose cache.
        generation: Number of the generation.
    """

    def __init__(self, identity: CacheIdentity, generation: int) -> None:
        self.identity = identity
        self.generation = generation
        self._prefix = b"consentry/cache/v1/value" + identity.format() + wire.U64.write(generation)

    def place(self, table: str, first: int = 0, last: int = 0) -> bytes:
        """The additional data of a row.

        Args:
            table: Its table, or its name in table `meta`.
            first: Of a segment its number, of a delta its first seq.
            last: Of a segment how many there are, of a delta its last seq.
        """
        return self._prefix + wire.STRING.write(table) + wire.U64.write(first) + wire.U64.write(last)

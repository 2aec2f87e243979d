"""Samples drawn from a whole population in one pass, by a seed that anybody can draw them with again.

Each item's rank is SHA-256 over seed, name of the population and name of the item; the items with the lowest ranks are the sample.
So nobody who does not choose the seed chooses the sample, memory does not grow, and the order of reading does not matter.
"""

import heapq
from hashlib import sha256
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Sample(Generic[Item]):
    """A sample of one population.

    Args:
        population: Its name.
        seed: The recorded seed.
        wanted: How many items to draw.

    Attributes:
        size: Items in the population so far.
    """

    def __init__(self, population: str, seed: str, wanted: int) -> None:
        self.size = 0
        self._prefix = f"{seed}\n{population}\n"
        self._wanted = wanted
        # Largest rank first: heapq keeps the smallest in front.
        self._drawn: list[tuple[int, str, Item]] = []

    def add(self, name: str, item: Item) -> None:
        """One more item of the population; names must differ."""
        self.size += 1
        rank = -int.from_bytes(sha256(f"{self._prefix}{name}".encode()).digest(), "big")
        if len(self._drawn) < self._wanted:
            heapq.heappush(self._drawn, (rank, name, item))
        elif self._drawn and rank > self._drawn[0][0]:
            heapq.heapreplace(self._drawn, (rank, name, item))

    def drawn(self) -> list[Item]:
        """The sample, by rank."""
        return [item for _, _, item in sorted(self._drawn, key=lambda drawn: (-drawn[0], drawn[1]))]

    def describe(self) -> str:
        """For a caption: how many of how many."""
        return f"{len(self._drawn)} of {self.size}"

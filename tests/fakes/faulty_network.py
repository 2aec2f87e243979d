"""A network between two programs that delays, cuts, swallows, truncates and flips what it carries."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

_CHUNK_BYTES = 4096


class Fault(StrEnum):
    """What the network does to everything that passes from now on."""

    NONE = "none"
    DELAY = "delay"
    CUT = "cut"
    HALF_OPEN = "half-open"
    TRUNCATE = "truncate"
    FLIP = "flip"


class FaultyNetwork:
    """Carries bytes from one port of this host to another.

    Args:
        target_port: Where the other program listens.
        chance: Decides where a fault strikes.
    """

    def __init__(self, target_port: int, chance: random.Random) -> None:
        self._target_port = target_port
        self.port = 0
        self._chance = chance
        self._fault = Fault.NONE
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._stranded: set[asyncio.StreamWriter] = set()

    def turn(self, fault: Fault) -> None:
        """Let a fault strike; what was cut stays cut, and a new connection is as good as the fault lets it."""
        self._fault = fault
        if fault is Fault.CUT:
            self.drop_connections()

    def drop_connections(self) -> None:
        """End every connection at once, as a reset does."""
        for pair in tuple(self._connections):
            for writer in pair:
                writer.transport.abort()

    def strand_connections(self) -> None:
        """Swallow for ever what comes over the connections there are, and tell nobody; new ones are good."""
        self._stranded.update(writer for pair in self._connections for writer in pair)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._connections.add(pair)
        try:
            with suppress(OSError):
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._connections.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if writer in self._stranded:
                continue
            match self._fault:
                case Fault.HALF_OPEN:
                    continue
                case Fault.DELAY:
                    await asyncio.sleep(self._chance.random() * 0.02)
                case Fault.TRUNCATE:
                    writer.write(chunk[: self._chance.randrange(len(chunk))])
                    await writer.drain()
                    raise ConnectionResetError("cut in the middle")
                case Fault.FLIP:
                    at = self._chance.randrange(len(chunk))
                    flipped = chunk[at] ^ (1 << self._chance.randrange(8))
                    chunk = chunk[:at] + bytes((flipped,)) + chunk[at + 1 :]
                case _:
                    pass
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError("one side has ended")


@asynccontextmanager
async def faulty_network(target_port: int, chance: random.Random) -> AsyncIterator[FaultyNetwork]:
    """Listen on a port of the kernel's choice and carry everything to another."""
    network = FaultyNetwork(target_port, chance)
    server = await asyncio.start_server(network.carry, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    async with server:
        yield network
        network.turn(Fault.NONE)
        server.close()
        network.drop_connections()

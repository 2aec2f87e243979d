"""A cache whose process is killed at any moment holds everything that it said it holds, and nothing else."""

import random
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.cache_process import grow
from tests.fakes.log_builder import LogBuilder

KILLS = 10


def fill_and_kill(root: Path, batches: int) -> int:
    """Let a process fill the cache, kill it after so many batches, in the midst of the next; the size it last named."""
    command = [sys.executable, "-m", "tests.fakes.cache_process", str(root)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(batches)]
        process.kill()
        lines += process.stdout.read().splitlines()
    assert all(lines[:batches]), "the process ended by itself"
    return int(lines[-1])


async def test_cache_killed_again_and_again_holds_every_acknowledged_batch(tmp_path: Path) -> None:
    chance, log, generations = random.Random(20_26), LogBuilder(), set()
    async with CachePlace(tmp_path) as place:
        for _ in range(KILLS):
            acknowledged = fill_and_kill(tmp_path, chance.randint(1, 30))
            cache = await place.open()
            assert cache.head.size - acknowledged in (0, 3)
            grow(log, cache.head.size)
            assert_holds(cache, log)
            generations.add(cache.generation)
            await cache.close()
        assert place.set_aside() == []
    assert len(generations) > 1

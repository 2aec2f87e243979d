"""A running sidecar whose mounted key file is replaced: it goes on answering, and the next start needs the new key alone."""

import asyncio
import os
from pathlib import Path

from hosting.key_files import create_key_file
from sidecar.cache.key_file import KEY_USE, FileKeyProvider
from sidecar.runtime import running_sidecar
from tests.fakes.system import ask, reason_of, running_system


async def test_key_file_replaced_under_load_is_taken_up_without_a_restart(short_directory: Path) -> None:
    key_file = short_directory / "cache.key"
    home = short_directory / "sidecar-1"
    cache = {"directory": home / "cache", "key_files": [key_file], "high_water_file": home / "mark"}
    changes = {"cache": cache | {"key_check_seconds": 0.05}}
    async with running_system(short_directory, sidecar_changes=changes) as system:
        await system.log(system.opt_out("ada", "left"))
        key_file.unlink()
        create_key_file(key_file, os.urandom(32), use=KEY_USE)
        new_only = FileKeyProvider([key_file])
        held = system.sidecar.cache
        async with asyncio.timeout(20), system.stub() as stub:
            while not new_only.is_current(held._durable._generation.wrapped_key):
                assert reason_of(await stub.Check(ask("ada"))) == "OPT_OUT"
                await system.log(system.opt_out("bob", "left"))
        size = held.head.size
    async with running_sidecar(system.settings, boot_id="test") as again:
        assert again.cache.head.size >= size
        assert again.cache.private_key == held.private_key
    assert list((home / "cache").glob("*corrupt*")) == []

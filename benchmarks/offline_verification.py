"""How long `consentry-feed verify-log` takes for a log of a million entries."""

import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.log_material import cached_log
from consent.eventlog.keys import KeyKind, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from feed.signing.key_store import KEK_FILE, KEY_FILES
from hosting.key_files import create_key_file
from tests.e2e.processes import clean_environment, run_command
from tests.fakes.feed_log import KEYS, ORIGIN, TRUST, seed

ENTRIES = 1_000_000
BUDGET_SECONDS = 30.0


def measure() -> dict[str, Any]:
    """Verify once, start of the processes included.

    Returns:
        Seconds by the clock; seconds of processor time, all processes together.
    """
    log = cached_log(ENTRIES).absolute()
    with tempfile.TemporaryDirectory(prefix="csty-verify-") as folder:
        trust, keys = _write_trust(Path(folder))
        # Every core that there is, also where this process keeps to one.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = run_command(
            "consentry-feed", "verify-log", "--log", log, "--keys", keys, "--trust", trust, "--json",
            environ=clean_environment(), timeout_seconds=600,
        )  # fmt: skip
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return {
        "entries": json.loads(done.stdout)["entries"],
        "seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def _write_trust(folder: Path) -> tuple[Path, Path]:
    root_key = generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, seed("root"))
    (folder / "trust.note").write_bytes(seal_trust(TRUST, root_key))
    (folder / "root.pub").write_text(format_verifier_key(root_key.verifier_key), encoding="utf-8")
    create_key_file(folder / KEK_FILE, KEYS.kek, use=KEY_FILES[KEK_FILE])
    return folder / "trust.note", folder

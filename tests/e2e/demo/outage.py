"""Steps 10 to 13: the centre goes away, the copy grows old, the sidecar starts anew, the centre comes back."""

import statistics
import time

from tests.e2e.demo.stage import ADA, KATHERINE, Stage, Step, describe, expect
from tests.e2e.processes import wait_until

ANSWERING_SECONDS = 2.0
LIMIT_SECONDS = 5.0
# Checkpoints come every half second with times in whole seconds, and a busy machine asks late.
EARLIEST_SECONDS, LATEST_SECONDS = LIMIT_SECONDS - 2.0, LIMIT_SECONDS + 5.0
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def lose_the_feed(stage: Stage) -> Step:
    """Step 10."""
    stage.deployment.feed.kill()
    stage.killed_at = time.monotonic()
    elapsed_ms: list[float] = []
    while time.monotonic() - stage.killed_at < ANSWERING_SECONDS:
        started = time.perf_counter()
        decision = stage.ask(KATHERINE, "newsletter")
        elapsed_ms.append((time.perf_counter() - started) * 1000)
        expect(decision.allowed, f"answer {len(elapsed_ms)} was {describe(decision)}")
    state = stage.client.status().sync_state
    expect(state == "DISCONNECTED", f"the sidecar calls itself {state}")
    middle = statistics.median(elapsed_ms)
    stage.figures["Median answer while the feed is down"] = f"{middle:.2f} ms"
    return Step(
        [
            (
                f"After kill -9 of the feed: {len(elapsed_ms):,} answers in {ANSWERING_SECONDS:g} s, all ALLOW,"
                f" half of them within {middle:.2f} ms; sync state {state}"
            )
        ]
    )


def grow_stale(stage: Stage) -> Step:
    """Step 11."""

    def is_denied() -> bool:
        return not stage.ask(KATHERINE, "newsletter")

    wait_until(is_denied, "the newsletter is denied because the copy is too old", LATEST_SECONDS)
    elapsed = time.monotonic() - stage.killed_at
    shown = stage.show(KATHERINE, "newsletter", "DENY CACHE_TOO_STALE")
    expect(EARLIEST_SECONDS <= elapsed <= LATEST_SECONDS, f"denied {elapsed:.1f} s after the kill")
    stage.figures["Staleness limit of the newsletter"] = f"{LIMIT_SECONDS:g} s, denied after {elapsed:.1f} s"
    other = stage.show(KATHERINE, "delivery_updates", "ALLOW GRANTED_STALE")
    return Step(
        [
            f"{shown}, {elapsed:.1f} s after the kill: its limit is {LIMIT_SECONDS:g} s since the last signed checkpoint",
            f"{other}, since its limit is a day",
        ]
    )


def restart_the_sidecar(stage: Stage) -> Step:
    """Step 12."""
    sidecar, before = stage.deployment.sidecar, stage.client.status()
    answers = stage.ask_everything_again()
    sidecar.kill()
    started = time.monotonic()
    sidecar.start().wait_for_line(" listening ")
    stage.deployment.wait_until_ready()
    elapsed = time.monotonic() - started
    after = stage.client.status()
    same = ("log_size", "root_hash", "policy_version", "subjects")
    different = [name for name in same if getattr(before, name) != getattr(after, name)]
    expect(not different, f"not as before the kill: {', '.join(different)}")
    again = stage.ask_everything_again()
    changed = [
        f"{answers[question]} became {answer}" for question, answer in again.items() if answer != answers[question]
    ]
    expect(not changed, f"other answers than before the kill: {'; '.join(changed)}")
    kinds = sorted(set(again.values()))
    return Step(
        [
            (
                f"kill -9 of the sidecar, new start without the feed: ready after {elapsed:.1f} s; cache decrypted,"
                f" {after.log_size} entries, {after.subjects} subjects, root {after.root_hash.hex()[:16]}… as before"
            ),
            f"{len(again)} questions asked before and after the kill, the same answers: {', '.join(kinds)}",
        ]
    )


def bring_the_feed_back(stage: Stage) -> Step:
    """Step 13."""
    there, opted_out = stage.deployment, stage.first_opt_out
    assert opted_out is not None
    held = stage.client.status().log_size
    started = time.monotonic()
    there.feed.start().wait_for_line(" listening ")
    again = stage.web.opt_out(ADA, "newsletter", idempotency_key=opted_out.idempotency_key)
    expect(again.replayed and again.token == opted_out.token, "the accepted opt-out was not known any more")
    status = there.wait_until_caught_up()
    elapsed = time.monotonic() - started
    expect(status.log_size >= held, f"the feed came back with {status.log_size} of {held} entries")
    decision = stage.ask(KATHERINE, "newsletter", traceparent=f"00-{TRACE_ID}-{SPAN_ID}-01")
    expect(describe(decision) == "ALLOW GRANTED", f"Katherine, newsletter: {describe(decision)}")
    stage.traced = str(decision.decision_id), TRACE_ID, SPAN_ID
    return Step(
        [
            f"Feed started anew with all of its {status.log_size} entries; caught up after {elapsed:.1f} s",
            f"Ada's opt-out, sent again with its key, is known as entry {again.token.seq} and not recorded twice",
            f"Katherine, newsletter: {describe(decision)}",
            stage.show(ADA, "newsletter", "DENY OPT_OUT"),
        ]
    )

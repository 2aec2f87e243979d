"""The only door, for sidecars' keys: an enrolment shows that the key is the sidecar's own."""

from dataclasses import replace

import pytest

from consent.event import EnrolEvent, RetireEvent
from consent.eventlog.acknowledgement import sign_possession
from sidecar.errors import EntryRejected
from sidecar.ports import EMPTY_HEAD, VerifiedBatch
from sidecar.sync.trusted_log import Moment, TrustedLog
from tests.fakes.signing_feed import ORIGIN, START_MS, TRUST, SigningFeed
from tests.fakes.trails import make_sidecar_key


def receive(feed: SigningFeed) -> VerifiedBatch:
    batch = TrustedLog(TRUST, EMPTY_HEAD).receive_entries(feed.entries(), Moment(START_MS + 500, 1, "boot-1"))
    assert batch is not None
    return batch


def test_entries_enrolment_without_the_key_is_refused() -> None:
    key = make_sidecar_key("pod-1")
    good = EnrolEvent(
        origin=ORIGIN,
        sidecar_id="pod-1",
        public_key=key.verifier_key.public_key,
        enrolled_at_ms=1,
        possession=sign_possession(key, ORIGIN),
    )
    batch = receive(SigningFeed([good]))
    assert [sidecar.sidecar_id for sidecar in batch.head.tenant.sidecars] == ["pod-1"]
    for bad in (replace(good, possession=bytes(64)), replace(good, sidecar_id="pod-2"), replace(good, sidecar_id="")):
        with pytest.raises(EntryRejected, match="INVALID_POSSESSION"):
            receive(SigningFeed([bad]))


def test_entries_retirement_of_a_sidecar_that_is_not_enrolled_is_refused() -> None:
    with pytest.raises(EntryRejected, match="EVENT_OUT_OF_ORDER"):
        receive(SigningFeed([RetireEvent(origin=ORIGIN, sidecar_id="pod-1", retired_at_ms=1)]))

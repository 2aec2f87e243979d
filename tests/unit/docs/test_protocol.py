"""docs/protocol.md against the code: what is written there is what other implementations are built on."""

import re

from consent.event import LAYOUTS
from consent.key_ring import KeyRing, format_key_ring
from consent.state_record import BUCKETS
from feed.grpc_api import frames
from feed.signing import key_store
from sidecar.sync import feed_client, trusted_log
from tests.unit.docs.known_answers import DAY_KEY, SUBJECT_KEYS, known_answers, sealed_ring_length
from tests.unit.docs.pages import read_page, table_rows
from tests.unit.docs.protocol_tables import code_rows, event_rows, field_kinds

PAGE = read_page("docs/protocol.md")


def test_events_table_is_that_of_the_code() -> None:
    assert table_rows(PAGE, "Events") == event_rows()


def test_events_table_a_field_more_would_show() -> None:
    documented = {row[1]: row[2].count(", ") + 1 for row in table_rows(PAGE, "Events")}
    assert all(documented[event_class.TYPE.name] == len(layout) for event_class, layout in LAYOUTS.items())


def test_codes_table_is_that_of_the_code() -> None:
    assert table_rows(PAGE, "Codes") == code_rows()


def test_fields_table_explains_every_kind_of_field() -> None:
    explained = {name for row in table_rows(PAGE, "Fields") for name in re.findall(r"`([^`]+)`", row[0])}
    raw_kinds = {kind for kind in field_kinds() if kind.startswith("raw")}
    assert field_kinds() - raw_kinds <= explained
    assert {"rawN", "optional X", "list of X"} <= explained


def test_known_answers_are_those_of_the_code() -> None:
    printed = {row[0]: row[1].strip("`") for row in table_rows(PAGE, "Known answers")}
    assert printed == known_answers()


def test_key_ring_seal_adds_what_the_page_says() -> None:
    ring = KeyRing(SUBJECT_KEYS, ((1, DAY_KEY),))
    assert sealed_ring_length(ring) == 32 + len(format_key_ring(ring)) + 16


def test_limits_table_is_that_of_the_code() -> None:
    printed = {row[0]: int(row[1].split()[0].replace(",", "")) for row in table_rows(PAGE, "Limits")}
    assert printed == {
        "entries of a frame that the feed sends": frames.MAX_FRAME_ENTRIES,
        "bytes of such a frame": frames.MAX_FRAME_BYTES,
        "entries of a frame that a sidecar takes": trusted_log.MAX_ENTRIES_PER_FRAME,
        "entries without a checkpoint": trusted_log.MAX_PENDING_ENTRIES,
        "bytes of a message to a sidecar": feed_client.MAX_MESSAGE_BYTES,
        "seconds of silence until a sidecar connects anew": int(feed_client.SILENCE_SECONDS),
        "milliseconds that a checkpoint may be ahead of the sidecar's clock": trusted_log.CLOCK_SKEW_MS,
        "buckets of the state root": BUCKETS,
        "days of audit keys before today in a key ring": key_store.AUDIT_DAYS_BEFORE,
        "days of audit keys after today": key_store.AUDIT_DAYS_AHEAD,
    }

"""The sidecar's metrics by name. No label's value is an identifier, a pseudonym, a caller or anything that a caller may choose."""

from hosting.metrics import Family, Kind, list_families
from hosting.metrics.process import FAMILIES as COMMON_FAMILIES

DECISIONS = Family(
    "consentry_decisions_total",
    Kind.COUNTER,
    "Decisions answered; purpose is the one asked about, (several), or (unknown) where the policy does not have it.",
    ("effect", "reason", "purpose"),
)
CHECK_DURATION = Family(
    "consentry_check_duration_seconds",
    Kind.HISTOGRAM,
    "From a call's arrival in its handler to its answer, the record included; exemplars lead to its span. Refused calls are not in it.",
    ("method",),
)
REFUSED_CALLS = Family(
    "consentry_refused_calls_total",
    Kind.COUNTER,
    "Calls that got an error and no answer, by its stable name.",
    ("reason",),
)
READY = Family("consentry_ready", Kind.GAUGE, "1 while the sidecar is ready, as /readyz says.")
STALENESS = Family(
    "consentry_staleness_seconds", Kind.GAUGE, "Age of the newest verified checkpoint; nothing before the first."
)
STALENESS_LIMIT = Family(
    "consentry_staleness_limit_seconds",
    Kind.GAUGE,
    "Age beyond which no purpose of the policy is answered from the cache any more, and the sidecar is not ready.",
)
LOG_SIZE = Family("consentry_log_size_entries", Kind.GAUGE, "Entries of the log that are in force here.")
FRAME_AGE = Family(
    "consentry_feed_frame_age_seconds",
    Kind.GAUGE,
    "Since something that verified last came from the feed; nothing before the first.",
)
SYNC_STATE = Family("consentry_sync_state", Kind.GAUGE, "1 for the state in which following the feed is.", ("state",))
SYNC_ERRORS = Family(
    "consentry_sync_errors_total", Kind.COUNTER, "Times that following the feed was interrupted, by cause.", ("reason",)
)
APPLY_DURATION = Family(
    "consentry_apply_duration_seconds",
    Kind.HISTOGRAM,
    "From a verified batch to its being durable and in force.",
)
APPLIED_ENTRIES = Family("consentry_applied_entries_total", Kind.COUNTER, "Entries put in force, without snapshots.")
UNCONFIRMED_RECEIPTS = Family(
    "consentry_unconfirmed_receipts", Kind.GAUGE, "Signed acknowledgements that the log does not hold yet."
)
CACHE_RECORDS = Family("consentry_cache_records", Kind.GAUGE, "Tokens held.")
CACHE_BYTES = Family("consentry_cache_bytes", Kind.GAUGE, "Size of the cache's files.")
CACHE_GENERATION = Family("consentry_cache_generation", Kind.GAUGE, "Grows with each merge or snapshot.")
CACHE_INTACT = Family("consentry_cache_intact", Kind.GAUGE, "1 while everything read from the cache was authentic.")
JOURNAL_WRITABLE = Family("consentry_journal_writable", Kind.GAUGE, "1 unless the last write to the journal failed.")
JOURNAL_MODE = Family("consentry_journal_mode", Kind.GAUGE, "1 for the journal's mode.", ("mode",))
JOURNAL_RECORDED = Family(
    "consentry_journal_recorded_decisions_total", Kind.COUNTER, "Decisions kept in the journal since the start."
)
JOURNAL_UNRECORDED = Family(
    "consentry_journal_unrecorded_decisions_total",
    Kind.COUNTER,
    "Decisions that left without a record, which only on_unavailable: allow_and_count permits.",
)
JOURNAL_BACKLOG_RECORDS = Family(
    "consentry_journal_backlog_records", Kind.GAUGE, "Decisions that are recorded and not shipped yet."
)
JOURNAL_BACKLOG_BYTES = Family(
    "consentry_journal_backlog_bytes", Kind.GAUGE, "Bytes of the journal that are not shipped yet."
)
JOURNAL_BACKLOG_AGE = Family(
    "consentry_journal_backlog_age_seconds",
    Kind.GAUGE,
    "Age of the oldest decision of this process that is not shipped yet, to about a second; 0 where there is none.",
)
JOURNAL_HEADS_UNLOGGED = Family(
    "consentry_journal_heads_unlogged", Kind.GAUGE, "Signed segment heads that the feed has not logged yet."
)
SHIPPER_SPANS = Family(
    "consentry_shipper_spans_total", Kind.COUNTER, "Spans that the receiver took, since the shipper's start."
)
SHIPPER_RETRIES = Family(
    "consentry_shipper_retries_total",
    Kind.COUNTER,
    "Exports that failed and are made again, since the shipper's start.",
)
SHIPPER_FAILING = Family(
    "consentry_shipper_failing_seconds",
    Kind.GAUGE,
    "For how long the receiver has taken nothing; 0 while it takes spans.",
)
KEY_CHECK_AGE = Family(
    "consentry_key_check_age_seconds", Kind.GAUGE, "Since the key-encryption key was last looked for with success."
)
AUDIT_KEY_RESERVE = Family(
    "consentry_audit_key_reserve_days", Kind.GAUGE, "Days after today for which audit keys are in hand."
)
FAMILIES = (*list_families(vars()), *COMMON_FAMILIES)

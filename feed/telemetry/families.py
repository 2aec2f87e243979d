"""The feed's metrics by name. A label names a sidecar, a reason, a type or a listener, and never a person or what a source sent."""

from hosting.metrics import Family, Kind, list_families
from hosting.metrics.process import FAMILIES as COMMON_FAMILIES

READY = Family("consentry_feed_ready", Kind.GAUGE, "1 while the feed is ready, as /readyz says.")
LOG_SIZE = Family("consentry_feed_log_size_entries", Kind.GAUGE, "Entries committed.")
CHECKPOINT_AGE = Family("consentry_feed_checkpoint_age_seconds", Kind.GAUGE, "Since the newest checkpoint was signed.")
INTAKE_STOPPED = Family(
    "consentry_feed_intake_stopped",
    Kind.GAUGE,
    "1 while nothing is logged because a sidecar holds more than the log (LOG_BEHIND_SIDECAR).",
)
SUBMISSIONS = Family(
    "consentry_feed_submissions_total",
    Kind.COUNTER,
    "Requests to the log: accepted, rejected (logged as such), replayed (known by their key) or refused (an error).",
    ("outcome",),
)
ACCEPT_DURATION = Family(
    "consentry_feed_accept_duration_seconds",
    Kind.HISTOGRAM,
    "From a request to the log until it is on the disk; exemplars lead to the caller's span. Refused ones are not in it.",
)
BATCH_ENTRIES = Family("consentry_feed_batch_entries", Kind.HISTOGRAM, "Entries that were committed together.")
ENTRIES = Family(
    "consentry_feed_entries_total", Kind.COUNTER, "Entries committed since the start, by type of event.", ("type",)
)
REFUSED_CALLS = Family(
    "consentry_feed_refused_calls_total",
    Kind.COUNTER,
    "Calls on any listener that got an error, by its stable name.",
    ("reason",),
)
CONNECTED_SIDECARS = Family("consentry_feed_connected_sidecars", Kind.GAUGE, "Sidecars with an open stream.")
ENROLLED_SIDECARS = Family("consentry_feed_enrolled_sidecars", Kind.GAUGE, "Sidecars that the log says are enrolled.")
FLEET_LAG = Family(
    "consentry_feed_fleet_lag_entries",
    Kind.GAUGE,
    "Entries up to the newest that changes answers which the enrolled sidecar furthest behind has not acknowledged.",
)
SMALLEST_SIZE = Family(
    "consentry_feed_smallest_acknowledged_entries",
    Kind.GAUGE,
    "Size that every enrolled sidecar says it has in force; receipts in the log prove it. Nothing where none is enrolled.",
)
SIDECAR_CONNECTED = Family(
    "consentry_feed_sidecar_connected", Kind.GAUGE, "1 while an enrolled sidecar has a stream open.", ("sidecar",)
)
SIDECAR_LAG = Family(
    "consentry_feed_sidecar_lag_entries",
    Kind.GAUGE,
    "The same for each enrolled sidecar.",
    ("sidecar",),
)
SIDECAR_HEAD_AGE = Family(
    "consentry_feed_sidecar_journal_head_age_seconds",
    Kind.GAUGE,
    "Since the feed logged the last signed journal head of an enrolled sidecar.",
    ("sidecar",),
)
RECEIPTS_PENDING = Family(
    "consentry_feed_receipts_pending", Kind.GAUGE, "Signed acknowledgements that wait to be logged."
)
BACKUP_AGE = Family(
    "consentry_feed_backup_age_seconds",
    Kind.GAUGE,
    "Since this process finished writing a backup; nothing before the first. Offline backups are not seen.",
)
WITNESS_AGE = Family(
    "consentry_feed_witness_age_seconds",
    Kind.GAUGE,
    "Since a witness last cosigned a checkpoint; nothing before the first or without witnesses.",
)
WITNESSES_FAILING = Family(
    "consentry_feed_witnesses_failing", Kind.GAUGE, "Witnesses that did not cosign when they were last asked."
)

FAMILIES = (*list_families(vars()), *COMMON_FAMILIES)

"""Questions as protobuf messages.

Nothing that a caller can pass makes this fail: what cannot be sent goes out as what the sidecar answers with
INVALID_REQUEST.
"""

from collections.abc import Iterator, Sequence

from consentry.decision.v1 import decision_pb2
from consentry.event.v1 import event_pb2

from consentry_client.consistency import ConsistencyToken
from consentry_client.context import Context
from consentry_client.subject import Identifier

# A gRPC server takes 4 MiB by default; a batch stays clear of it however long its identifiers are.
BATCH_BYTES_MAX = 3 * 1024 * 1024
SERVER_WAIT_SECONDS_MAX = 10.0
_UINT32_MAX = 2**32 - 1
_FRAME_BYTES = 12

Subjects = Sequence[tuple[Identifier, ...]]


def encode_identifier(identifier: Identifier) -> event_pb2.Identifier:
    """Returns an identifier as a message; a value that is no Unicode text goes out empty and is answered as invalid.

    Replacing its broken parts instead could turn it into somebody else's identifier.
    """
    if identifier.token:
        return event_pb2.Identifier(token=identifier.token, key_epoch=identifier.key_epoch)
    return event_pb2.Identifier(namespace=identifier.namespace, value=_value_on_wire(identifier.value))


def encode_context(context: Context | None) -> decision_pb2.Context | None:
    """Returns a context as a message, or None for none; broken Unicode becomes `?`, which matches nothing."""
    if context is None:
        return None
    return decision_pb2.Context(
        jurisdictions=[_replace_surrogates(text) for text in context.jurisdictions],
        age_band=event_pb2.AgeBand.Value(f"AGE_BAND_{context.age_band.name}"),
        sec_gpc=context.sec_gpc,
        recipient=_replace_surrogates(context.recipient),
        data_categories=[_replace_surrogates(text) for text in context.data_categories],
    )


def encode_consistency(min_token: ConsistencyToken | None, wait_seconds: float) -> decision_pb2.Consistency | None:
    """Returns the demand for an entry as a message, or None where none is made."""
    if min_token is None:
        return None
    return decision_pb2.Consistency(
        min=event_pb2.ConsistencyToken(origin=min_token.origin, seq=min_token.seq),
        wait_ms=min(_UINT32_MAX, round(min(wait_seconds, 1e6) * 1000)) if wait_seconds > 0 else 0,
    )


def encode_purposes(purposes: Sequence[str]) -> list[str]:
    """Returns purposes as they travel."""
    return [_replace_surrogates(purpose) for purpose in purposes]


def encode_group(subjects: Subjects, purposes: Sequence[str], context: Context | None) -> decision_pb2.BatchGroup:
    """Returns subjects as one group: in the compact form where each has one identifier and all one namespace."""
    group = decision_pb2.BatchGroup(purposes=encode_purposes(purposes), context=encode_context(context))
    namespace = _shared_namespace(subjects)
    if namespace:
        group.namespace = namespace
        group.values.extend([_value_on_wire(identifiers[0].value) for identifiers in subjects])
    else:
        group.subjects.extend([encode_subject(identifiers) for identifiers in subjects])
    return group


def encode_subject(identifiers: tuple[Identifier, ...]) -> decision_pb2.Subject:
    """Returns a subject as a message; one too large to be sent goes out empty and is answered as invalid."""
    if _weigh(identifiers) > BATCH_BYTES_MAX:
        return decision_pb2.Subject()
    return decision_pb2.Subject(identifiers=[encode_identifier(identifier) for identifier in identifiers])


def cut_batches(subjects: Subjects, items_max: int, bytes_max: int = BATCH_BYTES_MAX) -> Iterator[range]:
    """Yields the runs of subjects that fit one message, in order and without a gap."""
    start, size_bytes = 0, 0
    for index, identifiers in enumerate(subjects):
        item_bytes = min(_weigh(identifiers), bytes_max)
        if index > start and (index - start >= items_max or size_bytes + item_bytes > bytes_max):
            yield range(start, index)
            start, size_bytes = index, 0
        size_bytes += item_bytes
    if start < len(subjects):
        yield range(start, len(subjects))


def _shared_namespace(subjects: Subjects) -> str:
    if not subjects or not subjects[0]:
        return ""
    namespace = subjects[0][0].namespace
    if all(len(one) == 1 and one[0].namespace == namespace and not one[0].token for one in subjects):
        return namespace
    return ""


def _weigh(identifiers: tuple[Identifier, ...]) -> int:
    """Returns an upper bound of a subject's bytes in a message."""
    return _FRAME_BYTES + sum(
        len(one.namespace) + len(one.value) * (1 if one.value.isascii() else 4) + len(one.token) + _FRAME_BYTES
        for one in identifiers
    )


def _value_on_wire(value: str) -> str:
    if value.isascii():
        return value if len(value) <= BATCH_BYTES_MAX else ""
    sound = _replace_surrogates(value)
    return value if sound == value and 4 * len(value) <= BATCH_BYTES_MAX else ""


def _replace_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")

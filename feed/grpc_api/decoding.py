"""Messages of the wire into protobuf messages; one that cannot be decoded is refused by the name of its field."""

from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from feed.errors import InvalidRequest

M = TypeVar("M", bound=Message)

_LENGTH_DELIMITED = 2


def decode_message(message_class: type[M], message_bytes: bytes, max_bytes: int) -> M:
    """Decode a message.

    Raises:
        InvalidRequest: It is longer than `max_bytes`, or not a message of this class.
    """
    if len(message_bytes) > max_bytes:
        raise InvalidRequest(f"{message_class.DESCRIPTOR.name} has more than {max_bytes} bytes")
    try:
        return message_class.FromString(message_bytes)
    except DecodeError:
        descriptor = cast(Descriptor, message_class.DESCRIPTOR)
    raise InvalidRequest(_find_fault(descriptor, message_bytes))


def has_unknown_fields(*messages: Message) -> bool:
    """Whether any of the messages, each looked at without those inside it, holds a field that this version does not know."""
    return any(len(UnknownFieldSet(message)) > 0 for message in messages)


def _find_fault(descriptor: Descriptor, message_bytes: bytes, path: str = "") -> str:
    name = path.removesuffix(".") or descriptor.name
    try:
        # A message without fields of its own shows every field as it came.
        fields = UnknownFieldSet(Empty.FromString(message_bytes))
    except DecodeError:
        return f"{name} cannot be decoded"
    for raw in (fields[index] for index in range(len(fields))):
        field = descriptor.fields_by_number.get(raw.field_number)
        if field is None or raw.wire_type != _LENGTH_DELIMITED:
            continue
        if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(raw.data):
            return f"{path}{field.name} is not UTF-8"
        if field.message_type is not None and not _is_decodable(field.message_type, raw.data):
            return _find_fault(field.message_type, raw.data, f"{path}{field.name}.")
    return f"{name} cannot be decoded"


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_decodable(descriptor: Descriptor, message_bytes: bytes) -> bool:
    try:
        GetMessageClass(descriptor).FromString(message_bytes)
    except DecodeError:
        return False
    return True

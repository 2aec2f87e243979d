"""The reference of attributes: one list, in the code and in the documents."""

from pathlib import Path

from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv.attributes import service_attributes

from hosting.telemetry import attributes

PAGE = Path(__file__).resolve().parents[4] / "docs" / "decision-record.md"


def test_attribute_table_in_the_documents_is_that_of_the_code() -> None:
    assert attributes.format_attribute_table() in PAGE.read_text(encoding="utf-8")


def test_attributes_are_named_once() -> None:
    names = [row.name for row in attributes.ATTRIBUTES]
    assert len(names) == len(set(names))
    constants = {value for name, value in vars(attributes).items() if name.isupper() and isinstance(value, str)}
    spans_and_events = {value for name, value in vars(attributes).items() if name.startswith("SPAN_")}
    spans_and_events.add(attributes.EVENT_DECISION)
    assert constants - spans_and_events == set(names)


def test_names_of_semantic_conventions_are_theirs() -> None:
    assert attributes.RPC_SYSTEM_NAME == rpc_attributes.RPC_SYSTEM_NAME
    assert attributes.RPC_METHOD == rpc_attributes.RPC_METHOD
    assert attributes.RPC_RESPONSE_STATUS_CODE == rpc_attributes.RPC_RESPONSE_STATUS_CODE
    assert attributes.SERVICE_NAME == service_attributes.SERVICE_NAME
    assert attributes.SERVICE_VERSION == service_attributes.SERVICE_VERSION
    assert attributes.SERVICE_INSTANCE_ID == service_attributes.SERVICE_INSTANCE_ID

import ssl

import pytest

from hosting.errors import AddressError, HostingError, SettingsError, stable_reason


def all_subclasses(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(found for child in root.__subclasses__() for found in all_subclasses(child))]


def test_every_error_reason_is_declared_and_unique() -> None:
    reasons = [stable_reason(cls("text")) for cls in all_subclasses(HostingError)]

    assert None not in reasons
    assert len(set(reasons)) == len(reasons)


def test_stable_reason_foreign_error_with_reason_attribute_is_none() -> None:
    with pytest.raises(UnicodeDecodeError) as undecodable:
        b"\xff".decode("utf-8")
    handshake = ssl.SSLError(1, "failed")
    handshake.reason = "CERTIFICATE_VERIFY_FAILED"

    assert stable_reason(undecodable.value) is None
    assert stable_reason(handshake) is None
    assert stable_reason(ValueError("text")) is None


def test_stable_reason_instance_override_of_declared_reason_is_taken() -> None:
    class PartError(Exception):
        reason = "PART_FAILED"

    error = PartError()
    error.reason = "PART_BROKEN"
    malformed = PartError()
    malformed.reason = "what somebody typed"

    assert stable_reason(error) == "PART_BROKEN"
    assert stable_reason(malformed) is None


def test_settings_error_several_problems_lists_each() -> None:
    error = SettingsError("a: first", "b: second")

    assert error.problems == ("a: first", "b: second")
    assert str(error) == "2 problems in the configuration:\n  - a: first\n  - b: second"
    assert str(SettingsError("a: first")) == "a: first"


def test_address_error_is_a_value_error_for_validators() -> None:
    assert issubclass(AddressError, ValueError)

"""Identifiers: what they accept, and that nothing shows their value."""

import pickle
from typing import Any

import pytest
from consentry_client import Identifier, device, email, phone, user
from consentry_client.subject import as_identifiers, as_texts

SECRET = "ada.lovelace@example.com"


@pytest.mark.parametrize(
    "identifier",
    [email(SECRET), phone(SECRET), user(SECRET), device(SECRET), Identifier("loyalty", SECRET)],
    ids=["email", "phone", "user", "device", "own"],
)
@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, lambda one: f"{[one]}"], ids=["repr", "str", "format", "list"]
)
def test_identifier_shown_hides_value(identifier: Identifier, show: Any) -> None:
    assert SECRET not in show(identifier)
    assert "hidden" in show(identifier)


def test_identifier_with_swapped_arguments_hides_both() -> None:
    assert "ada-lovelace" not in repr(Identifier("ada-lovelace", "user"))


def test_identifier_of_token_hides_token() -> None:
    token = bytes(range(16))
    shown = repr(Identifier.of_token(token))
    assert shown == "Identifier(token=<hidden>)"


@pytest.mark.parametrize("namespace", ["", "Email", "e mail", "é", "a" * 33, "1a", "_a", "-a", "a\n", SECRET])
def test_identifier_with_bad_namespace_is_refused_without_it(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace of an identifier must be") as caught:
        Identifier(namespace, SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("namespace", ["a", "a" * 32, "a1_-"])
def test_identifier_with_namespace_that_the_feed_takes_is_made(namespace: str) -> None:
    assert Identifier(namespace, SECRET).namespace == namespace


@pytest.mark.parametrize("length", [0, 15, 17])
def test_identifier_with_token_of_other_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Identifier.of_token(bytes(length))


@pytest.mark.parametrize("value", [None, 17, SECRET.encode()])
def test_identifier_with_value_of_other_type_raises_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="must be text, not") as caught:
        Identifier("user", value)
    assert "17" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_identifier_pickled_is_equal() -> None:
    assert pickle.loads(pickle.dumps(email(SECRET))) == email(SECRET)


@pytest.mark.parametrize("subject", [SECRET, SECRET.encode(), None, 17, [SECRET], (email(SECRET), SECRET)])
def test_as_identifiers_of_something_else_raises_type_error_without_it(subject: Any) -> None:
    with pytest.raises(TypeError) as caught:
        as_identifiers(subject)
    assert SECRET not in str(caught.value)


def test_as_identifiers_of_several_keeps_order() -> None:
    assert as_identifiers(iter([email("a@example.com"), user("1")])) == (email("a@example.com"), user("1"))


def test_as_identifiers_of_none_at_all_is_empty() -> None:
    assert as_identifiers([]) == ()


def test_as_texts_of_plain_text_is_one() -> None:
    assert as_texts("purpose", "marketing") == ("marketing",)


@pytest.mark.parametrize("value", [None, b"marketing", 3, ["marketing", 3]])
def test_as_texts_of_something_else_names_the_field(value: Any) -> None:
    with pytest.raises(TypeError, match="purpose must"):
        as_texts("purpose", value)

import pytest

from feed.errors import UnreadableImport
from feed.intake.imports.shapes import ShapeName, recognise_shape


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_shape_plain_is_recognised_whatever_separates(delimiter: str) -> None:
    shape = recognise_shape(delimiter.join(["email", "purpose", "action", "occurred_at"]).encode() + b"\n")
    assert (shape.name, shape.delimiter, shape.width) == (ShapeName.PLAIN, delimiter, 4)
    assert shape.columns == {"email": 0, "purpose": 1, "action": 2, "occurred_at": 3}


@pytest.mark.parametrize(
    "header",
    [
        "phone;purpose;action",
        "user;purpose;action",
        "device;purpose;action",
        "action;purpose;namespace;identifier",
        " Email ; PURPOSE ;Action",
        "\ufeffemail;purpose;action\r\n",
        '"email";"purpose";"action"',
    ],
)
def test_shape_plain_is_recognised_in_other_words(header: str) -> None:
    assert recognise_shape(header.encode()).name is ShapeName.PLAIN


def test_shape_mailchimp_is_recognised_although_column_names_repeat() -> None:
    header = "\ufeffEmail Address,Vorname,UNSUB_TIME,UNSUB_REASON,UNSUB_REASON,LEID,EUID\n"
    shape = recognise_shape(header.encode())
    assert (shape.name, shape.columns, shape.width) == (ShapeName.MAILCHIMP, {"email": 0, "occurred_at": 2}, 7)


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("address,tags,created_at\n", "a Mailgun export"),
        ('[{"created": 1, "email": "a@example.com"}]', "a SendGrid export"),
        ('["a@example.com"]', "a SendGrid export"),
        ('{"EmailAddress": "a@example.com", "Reason": "BOUNCE"}\n', "an Amazon SES export"),
        ('{"email": "a@example.com"}\n', "a JSON file"),
        ("a@example.com,BOUNCE\n", "an Amazon SES export"),
        ("id,to,from,reason,source,scope,status,created_at,expires_at\n", "a Telnyx export"),
        ("identifier,timestamp,Sales,Marketing\n", "a Transcend export"),
        ("Email Address,First Name,LEID,EUID\n", "no column UNSUB_TIME"),
        ("Email Address,UNSUB_TIME,UNSUB_TIME,LEID\n", "two columns UNSUB_TIME"),
    ],
)
def test_shape_that_cannot_be_imported_is_named(head: str, text: str) -> None:
    with pytest.raises(UnreadableImport, match=text) as caught:
        recognise_shape(head.encode())
    assert "a@example.com" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("", "no header"),
        ("\n\n", "no header"),
        ("\ufeff", "no header"),
        ("a|b|c\n", "1 columns .* none is known"),
        ("email;purpose\n", "2 columns .* email, purpose are known"),
        ("purpose;action\n", "one column must hold the identifier, and there is none"),
        ("email;phone;purpose;action\n", "one column must hold the identifier, and there are 2"),
        ("email;namespace;identifier;purpose;action\n", "there are 2"),
        ("namespace;purpose;action\n", "go together"),
        ("email;purpose;action;occured_at\n", "column 4 is not known, did you mean occurred_at"),
        ("email;purpose;action;anna@example.com\n", "column 4 is not known; "),
        ("email;purpose;action;email\n", "two columns email"),
        ('"email;purpose;action\n', "unknown shape"),
        ("anna@example.com;marketing;opt_out\n", "3 columns .* none is known"),
    ],
)
def test_shape_unknown_is_refused_with_the_line_and_what_is_missing(head: str, text: str) -> None:
    with pytest.raises(UnreadableImport, match=f"^line 1: .*{text}") as caught:
        recognise_shape(head.encode())
    assert "anna" not in str(caught.value)


def test_shape_of_a_file_that_is_not_utf_8_names_the_line() -> None:
    with pytest.raises(UnreadableImport, match="line 1 is not UTF-8"):
        recognise_shape("email;purpose;action".encode("utf-16"))

"""From the W3C vocabulary to a policy file."""

import io
from pathlib import Path

import pytest

from consent.policy import (
    CyclicPolicy,
    DuplicatePurpose,
    InvalidValue,
    LegalBasis,
    MalformedDocument,
    Policy,
    PolicyError,
    UnknownKey,
    load_policy_file,
)
from feed.policies.dpv import convert_dpv

ROOT = "https://w3id.org/dpv#"
HEADER = "term,type,iri,label,definition,dpvtype,subclassof,hasbroader,scopenote,created,modified,vocab,namespace"


def make_row(
    term: str, broader: str = "Purpose", *, kind: str = "class", is_purpose: bool = True, label: str = ""
) -> str:
    parents = ";".join(name if "://" in name else ROOT + name for name in broader.split(";") if name)
    dpvtype = f"{ROOT}Purpose" if is_purpose else ""
    return f'{term},{kind},{ROOT}{term},{label or term},"About {term}, plainly",{dpvtype},,{parents},,2020-01-01,,dpv,x'


def convert(*rows: str, header: str = HEADER) -> str:
    return convert_dpv(io.StringIO("\r\n".join((header, *rows)) + "\r\n", newline=""), "t.csv")


def load(*rows: str) -> Policy:
    return load_policy_file(convert(*rows), "out.yaml")


def test_convert_dpv_reads_terms_parents_and_texts() -> None:
    policy = load(make_row("Marketing", label="Mar  keting"), make_row("Care"), make_row("Ads", "Marketing;Care"))
    ads = policy.purposes["Ads"]
    assert (ads.parents, ads.dpv, ads.legal_basis) == (("Marketing", "Care"), f"{ROOT}Ads", LegalBasis.CONSENT)
    assert (ads.texts["en"].title, ads.texts["en"].description) == ("Ads", "About Ads, plainly")
    assert policy.purposes["Marketing"].parents == ()
    assert policy.purposes["Marketing"].texts["en"].title == "Mar keting"
    assert "health" in policy.special_categories


def test_convert_dpv_leaves_out_root_other_classes_and_properties() -> None:
    text = convert(
        make_row("Purpose", "", is_purpose=False),
        make_row("Sector", "", is_purpose=False),
        make_row("hasPurpose", "", kind="property"),
        make_row("Marketing"),
    )
    assert set(load_policy_file(text, "out.yaml").purposes) == {"Marketing"}
    assert "# Left out, because they are classes and not purposes to ask for: Purpose, Sector." in text


def test_convert_dpv_parent_outside_the_table_is_kept_retired() -> None:
    text = convert(make_row("Rights", "LegalObligation"))
    policy = load_policy_file(text, "out.yaml")
    assert policy.find_purpose("LegalObligation") is None
    assert policy.ancestors("Rights") == {"LegalObligation"}
    assert policy.purposes["LegalObligation"].dpv == f"{ROOT}LegalObligation"
    assert "define them: LegalObligation." in text


def test_convert_dpv_columns_in_another_order_and_with_mark_are_read() -> None:
    text = convert_dpv(
        io.StringIO(
            f"\ufeffdpvtype,hasbroader,term,type,iri,label,definition\n{ROOT}Purpose,,No,class,{ROOT}No,Yes,off\n"
        ),
        "t.csv",
    )
    policy = load_policy_file(text, "out.yaml")
    assert policy.purposes["No"].texts["en"].title == "Yes"


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([make_row("A", "B"), make_row("B", "A")], CyclicPolicy, "t.csv:2: "),
        ([make_row("B"), make_row("A", "A")], CyclicPolicy, "t.csv:3: "),
        (
            [make_row("A"), make_row("B"), make_row("A")],
            DuplicatePurpose,
            "t.csv:4: the term 'A' already stands on line 2",
        ),
        ([make_row("A"), "B,class"], MalformedDocument, "t.csv:3: the row has 2 cells, the header 13"),
        ([make_row("A"), 'B,class,"'], MalformedDocument, "t.csv:3: not readable as CSV"),
        ([make_row("A") + ",more"], MalformedDocument, "t.csv:2: the row has 14 cells"),
        ([], MalformedDocument, "t.csv:1: the table defines no purpose"),
        ([make_row("Sector", is_purpose=False)], MalformedDocument, "t.csv:1: the table defines no purpose"),
        ([make_row("A", label="x" * 300)], InvalidValue, "t.csv:2: purposes.A.texts.en.title"),
        ([make_row("A\x07")], InvalidValue, "t.csv:2: "),
        ([make_row("A", "http://")], InvalidValue, "t.csv:"),
    ],
)
def test_convert_dpv_bad_row_is_refused_with_its_line(rows: list[str], error: type[PolicyError], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        convert(*rows)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("header", "error", "message"),
    [
        ("", MalformedDocument, "the header lacks the column 'term'"),
        ("term;type;iri", MalformedDocument, "the header lacks the column 'term'"),
        (HEADER.replace("hasbroader", "broader"), MalformedDocument, "the header lacks the column 'hasbroader'"),
        (HEADER + ",hasbroder", UnknownKey, "unknown column 'hasbroder'; did you mean 'hasbroader'?"),
        (HEADER + ",term", MalformedDocument, "the header names a column twice"),
    ],
)
def test_convert_dpv_bad_header_is_refused(header: str, error: type[PolicyError], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        convert(make_row("A"), header=header)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"t.csv:1: {message}")


def test_convert_dpv_not_utf8_is_refused() -> None:
    table = io.TextIOWrapper(io.BytesIO(HEADER.encode() + b"\r\n\xff"), encoding="utf-8", newline="")
    with pytest.raises(MalformedDocument) as caught:
        convert_dpv(table, "t.csv")
    assert "not UTF-8" in str(caught.value)


def test_convert_dpv_whole_vocabulary_becomes_a_policy(shared_directory: Path) -> None:
    with (shared_directory / "data/dpv/purposes.csv").open(encoding="utf-8", newline="") as table:
        policy = load_policy_file(convert_dpv(table, "purposes.csv"), "out.yaml")
    active = {name for name, purpose in policy.purposes.items() if not purpose.retired}
    # 123 classes without the root and Sector, which are no purposes.
    assert len(active) == 121
    assert set(policy.purposes) - active == {"LegalObligation"}
    assert sum(len(purpose.parents) == 2 for purpose in policy.purposes.values()) == 11
    assert policy.ancestors("TargetedAdvertising") == {
        "PersonalisedAdvertising",
        "Advertising",
        "Personalisation",
        "Marketing",
    }
    assert {purpose.legal_basis for purpose in policy.purposes.values()} == {LegalBasis.CONSENT}

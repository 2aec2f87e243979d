"""What may follow what."""

from typing import Any

import pytest

from consent.policy import ForbiddenReplacement, check_replacement
from tests.unit.consent.policy.policies import make_policy

OLD: dict[str, dict[str, Any]] = {
    "top": {},
    "second": {},
    "low": {"parents": ["top"], "former_parents": [{"name": "second", "dropped_in_version": 3}]},
    "duty": {"legal_basis": "legal_obligation"},
    "exempt": {"legal_basis": "li", "art18_exempt": True},
}


def replace(**purposes: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    merged = OLD | purposes
    return {name: body for name, body in merged.items() if body is not None}


def former(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "dropped_in_version": version}


@pytest.mark.parametrize(
    "purposes",
    [
        OLD,
        replace(new={"parents": ["low"], "legal_basis": "vital"}),
        replace(top={"retired": True}),
        replace(top={"legal_basis": "contract", "min_proof": 2, "concrete": True}),
        replace(duty={"legal_basis": "vital"}),
        replace(duty={"legal_basis": "consent"}),
        replace(exempt={"legal_basis": "li"}),
        replace(low={"former_parents": [former("second", 3), former("top", 5)]}),
        replace(low={"parents": ["top", "second"]}),
        replace(low={"parents": ["top"], "former_parents": [former("second", 4)]}),
    ],
)
def test_check_replacement_harmless_or_relaxing_change_passes(purposes: dict[str, Any]) -> None:
    check_replacement(make_policy(OLD, version=4), make_policy(purposes, version=5))


@pytest.mark.parametrize(
    ("purposes", "place"),
    [
        (replace(top=None, low={"former_parents": [former("second", 3)]}), "purposes: the purpose 'top' is gone"),
        (replace(duty=None), "purposes: the purpose 'duty' is gone"),
        (replace(top={"legal_basis": "legal_obligation"}), "purposes.top.legal_basis"),
        (replace(top={"legal_basis": "vital"}), "purposes.top.legal_basis"),
        (replace(top={"art18_exempt": True}), "purposes.top.art18_exempt"),
        (replace(low={"former_parents": [former("second", 3)]}), "purposes.low.parents: the parent 'top'"),
        (replace(low={"former_parents": [former("second", 3), former("top", 4)]}), "purposes.low.parents"),
        (replace(low={"parents": ["top"]}), "purposes.low.former_parents: the former parent 'second'"),
        (replace(low={"parents": ["top"], "former_parents": [former("second", 2)]}), "purposes.low.former_parents"),
    ],
)
def test_check_replacement_that_undoes_what_people_said_is_refused(purposes: dict[str, Any], place: str) -> None:
    with pytest.raises(ForbiddenReplacement) as caught:
        check_replacement(make_policy(OLD, version=4), make_policy(purposes, version=5))
    assert str(caught.value).startswith(place)
    assert caught.value.reason == "POLICY_FORBIDDEN_REPLACEMENT"


@pytest.mark.parametrize("version", [1, 3, 4, 6])
def test_check_replacement_of_another_than_the_next_version_is_refused(version: int) -> None:
    with pytest.raises(ForbiddenReplacement) as caught:
        check_replacement(make_policy(version=4), make_policy(version=version))
    assert str(caught.value) == f"version: is {version}, must be 5: version 4 is in force"


def test_check_replacement_first_policy_is_version_one() -> None:
    check_replacement(None, make_policy(version=1))
    with pytest.raises(ForbiddenReplacement):
        check_replacement(None, make_policy(version=2))


def test_check_replacement_text_names_the_edge_to_keep() -> None:
    with pytest.raises(ForbiddenReplacement) as caught:
        check_replacement(
            make_policy({"top": {}, "low": {"parents": ["top"]}}), make_policy({"top": {}, "low": {}}, version=2)
        )
    assert "add {name: top, dropped_in_version: 2} to former_parents" in str(caught.value)

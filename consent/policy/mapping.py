"""From plain data (mappings, lists, texts, numbers) to a policy, and back.

Files, canonical documents and test vectors share this one shape; docs/policy.md lists its keys.
"""

import itertools
from dataclasses import MISSING, fields
from typing import Any

from consent.policy.checks import MAX_REGIMES
from consent.policy.errors import DocumentPath, DuplicateKey, PolicyError, PolicyTooLarge
from consent.policy.fields import Fields, read_word
from consent.policy.model import Policy
from consent.policy.purpose import FormerParent, LegalBasis, Purpose, PurposeText
from consent.policy.regime import REGIME_WORDS, Regime
from consent.policy.wording import quote

_PURPOSE_KEYS = tuple(field.name for field in fields(Purpose) if field.name != "name")
_PURPOSE_NUMBERS = ("min_proof", "regrant_proof", "min_notice", "stale_grace_seconds")
_PURPOSE_FLAGS = ("direct_marketing", "gpc", "art18_exempt", "concrete", "minors", "retired")
_PURPOSE_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(Purpose) if field.default is not MISSING
}
_POLICY_NUMBERS: dict[str, int] = {
    field.name: field.default
    for field in fields(Policy)
    if field.name.endswith("_seconds") and field.default is not MISSING
}
_POLICY_KEYS = (
    *("version", "replaces_version", *_POLICY_NUMBERS, "special_categories", "purposes", "regimes", "callers"),
    "journal_modes_permitted",
)

_Regimes = dict[tuple[str, str], Regime]
_RegimeSources = dict[tuple[str, str], DocumentPath]


def policy_from_mapping(mapping: object) -> Policy:
    """Reads a policy from plain data.

    `version` is 1 and `replaces_version` one less than it where they are not given; `purpose` and `jurisdiction` of a
    regime may each be a list, which stands for one entry for each of its items.

    Args:
        mapping: The keys of docs/policy.md.

    Raises:
        PolicyError: As the subclass says; `path` names the place.
    """
    document = Fields(mapping, (), _POLICY_KEYS)
    document.require("purposes")
    version = document.whole_number("version", 1)
    purposes = {name: _read_purpose(name, raw, path) for name, raw, path in document.mapping("purposes").entries()}
    regimes, sources = _read_regimes(document)
    callers = document.mapping("callers")
    numbers = {key: document.whole_number(key, default) for key, default in _POLICY_NUMBERS.items()}
    try:
        return Policy(
            version=version,
            replaces_version=document.whole_number("replaces_version", version - 1),
            purposes=purposes,
            special_categories=frozenset(document.names("special_categories")),
            regimes=regimes,
            callers={caller: frozenset(callers.names(caller)) for caller in callers.key_names()},
            journal_modes_permitted=frozenset(document.names("journal_modes_permitted")),
            **numbers,
        )
    except PolicyError as error:
        raise _point_at_source(error, sources) from None


def policy_to_mapping(policy: Policy) -> dict[str, object]:
    """The inverse of `policy_from_mapping`: lists sorted, defaults left out, entries of regimes one by one."""
    mapping: dict[str, object] = {"version": policy.version, "replaces_version": policy.replaces_version}
    mapping |= {key: getattr(policy, key) for key, usual in _POLICY_NUMBERS.items() if getattr(policy, key) != usual}
    mapping["purposes"] = {name: _write_purpose(purpose) for name, purpose in sorted(policy.purposes.items())}
    optional: dict[str, object] = {
        "special_categories": sorted(policy.special_categories),
        "regimes": [
            {"purpose": purpose, "jurisdiction": jurisdiction, "regime": regime.word}
            for (purpose, jurisdiction), regime in sorted(policy.regimes.items())
        ],
        "callers": {caller: sorted(allowed) for caller, allowed in sorted(policy.callers.items())},
        "journal_modes_permitted": sorted(policy.journal_modes_permitted),
    }
    return mapping | {key: value for key, value in optional.items() if value}


def _read_purpose(name: str, raw: object, path: DocumentPath) -> Purpose:
    body = Fields(raw, path, _PURPOSE_KEYS)
    scalars: dict[str, Any] = {key: body.whole_number(key, _PURPOSE_DEFAULTS[key]) for key in _PURPOSE_NUMBERS}
    scalars |= {key: body.flag(key, _PURPOSE_DEFAULTS[key]) for key in _PURPOSE_FLAGS}
    return Purpose(
        name=name,
        parents=body.names("parents"),
        former_parents=tuple(
            _read_former_parent(item, (*body.place("former_parents"), index))
            for index, item in enumerate(body.items("former_parents"))
        ),
        legal_basis=body.choice("legal_basis", LegalBasis.CONSENT),
        data_categories=frozenset(body.names("data_categories")),
        dpv=body.text("dpv"),
        texts={language: _read_purpose_text(item, place) for language, item, place in body.mapping("texts").entries()},
        **scalars,
    )


def _read_former_parent(raw: object, path: DocumentPath) -> FormerParent:
    entry = Fields(raw, path, ("name", "dropped_in_version"))
    for key in ("name", "dropped_in_version"):
        entry.require(key)
    return FormerParent(name=entry.text("name"), dropped_in_version=entry.whole_number("dropped_in_version", 0))


def _read_purpose_text(raw: object, path: DocumentPath) -> PurposeText:
    entry = Fields(raw, path, ("title", "description"))
    entry.require("title")
    return PurposeText(title=entry.text("title"), description=entry.text("description"))


def _read_regimes(document: Fields) -> tuple[_Regimes, _RegimeSources]:
    regimes: _Regimes = {}
    sources: _RegimeSources = {}
    for index, raw in enumerate(document.items("regimes")):
        path = (*document.place("regimes"), index)
        entry = Fields(raw, path, ("purpose", "jurisdiction", "regime"))
        for key in ("purpose", "jurisdiction", "regime"):
            entry.require(key)
        regime = read_word(entry.text("regime"), REGIME_WORDS, entry.place("regime"))
        jurisdictions = entry.name_or_names("jurisdiction")
        named = entry.name_or_names("purpose")
        if len(regimes) + len(named) * len(jurisdictions) > MAX_REGIMES:
            raise PolicyTooLarge(f"there are more than {MAX_REGIMES} regimes", path=path)
        for pair in itertools.product(named, jurisdictions):
            if pair in regimes:
                raise DuplicateKey(f"a second entry for {quote(pair[0])} in {quote(pair[1])}", path=path)
            regimes[pair] = regime
            sources[pair] = path
    return regimes, sources


def _point_at_source(error: PolicyError, sources: _RegimeSources) -> PolicyError:
    # Checks of a policy name a regime by its pair; the author wrote it as an item of a list.
    match error.path:
        case ("regimes", str(purpose), str(jurisdiction)) if (purpose, jurisdiction) in sources:
            return error.move(sources[purpose, jurisdiction])
    return error


def _write_purpose(purpose: Purpose) -> dict[str, object]:
    body: dict[str, object] = {
        "parents": list(purpose.parents),
        "former_parents": [
            {"name": former.name, "dropped_in_version": former.dropped_in_version} for former in purpose.former_parents
        ],
        "data_categories": sorted(purpose.data_categories),
    }
    body = {key: value for key, value in body.items() if value}
    for key in ("legal_basis", *_PURPOSE_FLAGS, *_PURPOSE_NUMBERS, "dpv"):
        if getattr(purpose, key) != _PURPOSE_DEFAULTS[key]:
            body[key] = getattr(purpose, key)
    if purpose.texts:
        body["texts"] = {language: _write_purpose_text(text) for language, text in sorted(purpose.texts.items())}
    return body


def _write_purpose_text(text: PurposeText) -> dict[str, object]:
    written: dict[str, object] = {"title": text.title}
    return written | ({"description": text.description} if text.description else {})

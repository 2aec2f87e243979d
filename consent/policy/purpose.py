"""A purpose: one thing that data may be used for, and what it takes to be allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class LegalBasis(StrEnum):
    """On what the processing rests (GDPR Art. 6(1)); the values are the words in files."""

    CONSENT = "consent"
    LEGITIMATE_INTEREST = "li"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL = "vital"


MANDATORY_BASES = frozenset({LegalBasis.LEGAL_OBLIGATION, LegalBasis.VITAL})
"""Bases under which nobody's denial is asked (rule 7)."""


@dataclass(frozen=True, slots=True)
class FormerParent:
    """An edge that a later policy dropped; denials recorded before still flow along it.

    Attributes:
        name: The former parent.
        dropped_in_version: Version of the first policy without the edge.
    """

    name: str
    dropped_in_version: int


@dataclass(frozen=True, slots=True)
class PurposeText:
    """What a person reads about a purpose in one language.

    Attributes:
        title: One line.
        description: A sentence or two; may have line breaks.
    """

    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Purpose:
    """One purpose.

    The defaults are part of the canonical document (a field that has its default is left out of it): changing one would
    change what documents already in a log mean.

    Attributes:
        name: Unique in the policy; NFC, 1 to 128 characters.
        parents: Broader purposes; a denial of one covers this purpose too.
        former_parents: Parents that it had in earlier versions.
        legal_basis: On what the processing rests.
        direct_marketing: An objection to it is absolute (GDPR Art. 21(3)).
        gpc: Sale, sharing or cross-context advertising, which Global Privacy Control refuses.
        art18_exempt: Goes on while processing is restricted (GDPR Art. 18(2)).
        min_proof: Lowest proof of a usable grant, 1 to 3.
        regrant_proof: Lowest proof of a grant that lifts a denial, 2 or 3.
        min_notice: Lowest version of the notice that a usable grant was given on.
        stale_grace_seconds: Age of the newest checkpoint above which the answer is DENY.
        concrete: Used by itself, so that denials of its descendants do not touch it.
        minors: Meant for minors: an unspecified age counts as a child's.
        data_categories: Categories of data that it uses.
        retired: Kept for the denials recorded at it; asking for it is asking for an unknown purpose.
        dpv: IRI of the purpose in the W3C Data Privacy Vocabulary, or "".
        texts: Texts by language tag (`en`, `de`, `pt-BR`).
    """

    name: str
    parents: tuple[str, ...] = ()
    former_parents: tuple[FormerParent, ...] = ()
    legal_basis: LegalBasis = LegalBasis.CONSENT
    direct_marketing: bool = False
    gpc: bool = False
    art18_exempt: bool = False
    min_proof: int = 1
    regrant_proof: int = 2
    min_notice: int = 1
    stale_grace_seconds: int = 600
    concrete: bool = False
    minors: bool = False
    data_categories: frozenset[str] = frozenset()
    retired: bool = False
    dpv: str = ""
    texts: Mapping[str, PurposeText] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", MappingProxyType(dict(self.texts)))

    @property
    def is_mandatory(self) -> bool:
        """Whether it goes on whatever people say."""
        return self.legal_basis in MANDATORY_BASES

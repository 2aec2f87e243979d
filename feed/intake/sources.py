"""Sources: who may say what. Weak proof is enough to restrict, so a denial needs neither proof nor assurance."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from consent.eventlog.keys import SigningKey
from consent.vocabulary.directive import Proof
from feed.errors import SourceNotPermitted
from feed.intake.requests import Subject

EVERYTHING = "*"
"""In a set of namespaces or purposes: every one. A directive about all purposes needs it too."""


@dataclass(frozen=True, slots=True)
class Source:
    """A system or listener that requests come in by.

    Attributes:
        name: Every event carries it.
        namespaces: Of the identifiers that it may speak of, or `*` among them.
        purposes: That it may speak of, each by its own name, or `*` among them.
        max_proof: Highest proof that it may assert.
        max_assurance: Highest assurance that it may assert of a grant.
        methods: Names of the RPCs that it may call.
        may_use_tokens: It may name subjects by ready tokens.
        is_import: What it says was not said to it: everything is flagged as imported, has proof 0, and grants only where
            nothing is recorded of the subject.
        signing_key: Vouches for what relaxes; a source without one can only restrict.
    """

    name: str
    namespaces: AbstractSet[str]
    purposes: AbstractSet[str]
    max_proof: int
    max_assurance: int
    methods: AbstractSet[str]
    may_use_tokens: bool = False
    is_import: bool = False
    signing_key: SigningKey | None = field(default=None, repr=False)

    @property
    def proof_limit(self) -> int:
        """The highest proof that an event of this source can carry."""
        return Proof.NONE if self.is_import else self.max_proof


def verify_method(source: Source, method: str) -> None:
    """Refuse an RPC that the source may not call.

    Raises:
        SourceNotPermitted: It may not.
    """
    if method not in source.methods:
        raise SourceNotPermitted(f"the source may not call {method}")


def verify_subject_right(source: Source, subject: Subject, field: str) -> None:
    """Refuse a subject that the source may not speak of.

    Raises:
        SourceNotPermitted: The namespace, or a ready token, is not the source's.
    """
    if subject.token:
        if not source.may_use_tokens:
            raise SourceNotPermitted(f"{field}.token: the source may not use ready tokens")
    elif subject.namespace not in source.namespaces and EVERYTHING not in source.namespaces:
        raise SourceNotPermitted(f"{field}.namespace: the source may not speak of this namespace")


def verify_purpose_right(source: Source, purpose: str, field: str) -> None:
    """Refuse a purpose that the source may not speak of.

    Raises:
        SourceNotPermitted: It may not.
    """
    if purpose not in source.purposes and EVERYTHING not in source.purposes:
        raise SourceNotPermitted(f"{field}: the source may not speak of this purpose")


def verify_subtree_right(source: Source, descendants: AbstractSet[str], field: str) -> None:
    """Refuse a directive for everything below a purpose, of which the source may not speak of each.

    Raises:
        SourceNotPermitted: One of them is not the source's.
    """
    if EVERYTHING not in source.purposes and not descendants <= source.purposes:
        raise SourceNotPermitted(f"{field}: the source may not speak of every purpose below")


def verify_every_purpose_right(source: Source, field: str) -> None:
    """Refuse what permits something for every purpose at once.

    Raises:
        SourceNotPermitted: The source may not speak of every purpose.
    """
    if EVERYTHING not in source.purposes:
        raise SourceNotPermitted(f"{field}: only a source that may speak of every purpose may say this")


def verify_proof_right(source: Source, proof: int, field: str) -> None:
    """Refuse an assertion of more proof than the source can have.

    Raises:
        SourceNotPermitted: It is above the source's limit.
    """
    if proof > source.proof_limit:
        raise SourceNotPermitted(f"{field}: above what the source may assert ({source.proof_limit})")


def verify_assurance_right(source: Source, assurance: int, field: str) -> None:
    """Refuse an assertion of more assurance than the source can have.

    Raises:
        SourceNotPermitted: It is above the source's limit.
    """
    if assurance > source.max_assurance:
        raise SourceNotPermitted(f"{field}: above what the source may assert ({source.max_assurance})")

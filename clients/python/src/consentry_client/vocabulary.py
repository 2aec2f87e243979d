"""The words of the contracts that a caller chooses from. A name here is the name in the contract; a value is for people."""

from enum import StrEnum


class AgeBand(StrEnum):
    """How old the subject is; unspecified counts as a child wherever a purpose is directed at minors."""

    UNSPECIFIED = "unspecified"
    CHILD = "child"
    TEEN = "teen"
    ADULT = "adult"


class DirectiveKind(StrEnum):
    """What somebody said about a purpose. All kinds but GRANT are denials."""

    GRANT = "grant"
    OPT_OUT = "opt-out"
    WITHDRAW = "withdraw"
    REFUSE = "refuse"
    OBJECT = "object"
    REVOKE_BY_CONTROLLER = "revoke-by-controller"


class Proof(StrEnum):
    """How well a request was tied to the person."""

    NONE = "none"
    LINK = "link"
    DOUBLE_OPT_IN = "double-opt-in"
    AUTHENTICATED = "authenticated"


class Assurance(StrEnum):
    """What kind of identifier a request came in by."""

    DEVICE = "device"
    CONTACT_POINT = "contact-point"
    ACCOUNT = "account"


class GrantedBy(StrEnum):
    """Who consented."""

    SELF = "self"
    GUARDIAN = "guardian"

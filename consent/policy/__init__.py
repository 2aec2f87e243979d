"""Policies: the registry of purposes, the table of regimes, and what may follow what.

docs/policy.md describes the file.
"""

from consent.policy.changes import PolicyChange, describe_changes
from consent.policy.checks import WEAKER_JOURNAL_MODES
from consent.policy.document import MAX_DOCUMENT_BYTES, format_policy, parse_policy
from consent.policy.errors import (
    CyclicPolicy,
    DuplicateKey,
    DuplicatePurpose,
    ForbiddenReplacement,
    InvalidValue,
    MalformedDocument,
    PolicyError,
    PolicyTooLarge,
    RegimeTooWeak,
    UnknownKey,
    UnknownParent,
    UnknownPurpose,
)
from consent.policy.file import format_policy_file, load_policy_file
from consent.policy.mapping import policy_from_mapping, policy_to_mapping
from consent.policy.model import Policy
from consent.policy.purpose import MANDATORY_BASES, FormerParent, LegalBasis, Purpose, PurposeText
from consent.policy.regime import EVERY_PURPOSE, Regime, requires_opt_in
from consent.policy.replacement import check_replacement

__all__ = [
    "EVERY_PURPOSE",
    "MANDATORY_BASES",
    "MAX_DOCUMENT_BYTES",
    "WEAKER_JOURNAL_MODES",
    "CyclicPolicy",
    "DuplicateKey",
    "DuplicatePurpose",
    "ForbiddenReplacement",
    "FormerParent",
    "InvalidValue",
    "LegalBasis",
    "MalformedDocument",
    "Policy",
    "PolicyChange",
    "PolicyError",
    "PolicyTooLarge",
    "Purpose",
    "PurposeText",
    "Regime",
    "RegimeTooWeak",
    "UnknownKey",
    "UnknownParent",
    "UnknownPurpose",
    "check_replacement",
    "describe_changes",
    "format_policy",
    "format_policy_file",
    "load_policy_file",
    "parse_policy",
    "policy_from_mapping",
    "policy_to_mapping",
    "requires_opt_in",
]

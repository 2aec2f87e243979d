"""Asks a Consentry sidecar whether a subject's data may be used for a purpose. Every failure is a deny.

from consentry_client import Client, email

with Client() as consent:
    if consent.check(email("ada@example.com"), "marketing.email"):
        ...
"""

from consentry_client.async_client import AsyncClient
from consentry_client.async_intake import AsyncIntakeClient
from consentry_client.bulk import BulkLimits
from consentry_client.client import Client
from consentry_client.consistency import ConsistencyToken
from consentry_client.context import Context
from consentry_client.decision import ConsentDenied, Decision, Effect, Reason
from consentry_client.endpoint import TlsFiles
from consentry_client.errors import ConfigurationError, ConsentryError, IntakeError, StatusError, TokenFormatError
from consentry_client.explanation import DecidingEvent, Explanation, RuleTrace
from consentry_client.guard import requires_purpose
from consentry_client.intake import IntakeClient
from consentry_client.intake_course import Acceptance
from consentry_client.receipt_course import Receipt
from consentry_client.status import SidecarStatus, SyncState
from consentry_client.subject import Identifier, SubjectLike, device, email, phone, user
from consentry_client.vocabulary import AgeBand, Assurance, DirectiveKind, GrantedBy, Proof

__version__ = "0.1.0"

__all__ = [
    "Acceptance",
    "AgeBand",
    "Assurance",
    "AsyncClient",
    "AsyncIntakeClient",
    "BulkLimits",
    "Client",
    "ConfigurationError",
    "ConsentDenied",
    "ConsentryError",
    "ConsistencyToken",
    "Context",
    "DecidingEvent",
    "Decision",
    "DirectiveKind",
    "Effect",
    "Explanation",
    "GrantedBy",
    "Identifier",
    "IntakeClient",
    "IntakeError",
    "Proof",
    "Reason",
    "Receipt",
    "RuleTrace",
    "SidecarStatus",
    "StatusError",
    "SubjectLike",
    "SyncState",
    "TlsFiles",
    "TokenFormatError",
    "device",
    "email",
    "phone",
    "requires_purpose",
    "user",
]

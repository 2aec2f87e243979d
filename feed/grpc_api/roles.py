"""Who may call what. A listener has a role; a method that this table does not give to the role is refused, whoever calls.

Within its role a caller may be narrowed further: a sidecar to its own name (`peers`), a source to its methods, namespaces and
purposes (`feed.intake.sources`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from feed.errors import CallerNotPermitted
from hosting.tls import peer_identities

if TYPE_CHECKING:
    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    # Generic in the stubs only.
    _Handler = grpc.RpcMethodHandler

_Context = grpc.aio.ServicerContext[Any, Any]


class Role(StrEnum):
    """What a listener's callers are."""

    SIDECAR = "sidecar"
    SOURCE = "source"
    ADMINISTRATOR = "administrator"
    IMPORTER = "importer"
    AUDITOR = "auditor"


_SIDECAR: Final = frozenset({Role.SIDECAR})
_INTAKE: Final = frozenset({Role.SOURCE, Role.ADMINISTRATOR})
_ADMINISTRATOR: Final = frozenset({Role.ADMINISTRATOR})
_AUDIT: Final = frozenset({Role.AUDITOR, Role.ADMINISTRATOR})

PERMISSIONS: Final[Mapping[str, AbstractSet[Role]]] = MappingProxyType(
    {
        "consentry.feed.v1.FeedService/Subscribe": _SIDECAR,
        "consentry.feed.v1.FeedService/GetSnapshot": _SIDECAR,
        "consentry.feed.v1.FeedService/GetKeys": _SIDECAR,
        "consentry.feed.v1.FeedService/GetEntryProof": _SIDECAR,
        "consentry.feed.v1.FeedService/GetConsistencyProof": _SIDECAR,
        "consentry.feed.v1.FeedService/Enrol": _SIDECAR,
        "consentry.feed.v1.FeedService/RecordJournalHeads": _SIDECAR,
        "consentry.feed.v1.AuditService/GetEventTrail": _AUDIT,
        "consentry.feed.v1.AuditService/GetFleetStatus": _AUDIT,
        "consentry.feed.v1.AuditService/ReadLog": _AUDIT,
        # From identifiers to pseudonyms, and from those to the log: an auditor gets there only through somebody else.
        "consentry.feed.v1.AuditService/Resolve": _ADMINISTRATOR,
        "consentry.feed.v1.AuditService/GetReplayKeys": _ADMINISTRATOR,
        "consentry.feed.v1.EnrolmentService/IssueEnrolmentToken": _ADMINISTRATOR,
        "consentry.feed.v1.EnrolmentService/ListPendingEnrolments": _ADMINISTRATOR,
        "consentry.feed.v1.EnrolmentService/ApproveEnrolment": _ADMINISTRATOR,
        "consentry.feed.v1.EnrolmentService/RetireSidecar": _ADMINISTRATOR,
        "consentry.intake.v1.IntakeService/RecordDirective": _INTAKE,
        "consentry.intake.v1.IntakeService/RecordDirectives": _INTAKE | {Role.IMPORTER},
        "consentry.intake.v1.IntakeService/RecordLink": _INTAKE,
        "consentry.intake.v1.IntakeService/RecordUnlink": _INTAKE,
        "consentry.intake.v1.IntakeService/RecordFact": _INTAKE,
        "consentry.intake.v1.IntakeService/RecordRestriction": _INTAKE,
        "consentry.intake.v1.IntakeService/GetReceipt": _INTAKE,
        "consentry.intake.v1.PolicyService/PublishPolicy": _ADMINISTRATOR,
        "consentry.intake.v1.PolicyService/GetPolicy": _ADMINISTRATOR,
        "consentry.intake.v1.PolicyService/GetFeedStatus": _ADMINISTRATOR,
        "consentry.intake.v1.SubjectService/GetKeyEpoch": _ADMINISTRATOR,
        "consentry.intake.v1.SubjectService/BeginKeyEpoch": _ADMINISTRATOR,
        "consentry.intake.v1.SubjectService/EraseSubject": _ADMINISTRATOR,
        "consentry.intake.v1.BackupService/BackUpLog": _ADMINISTRATOR,
        "consentry.intake.v1.BackupService/ResumeIntake": _ADMINISTRATOR,
        # Only where `reflection` is on.
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ADMINISTRATOR,
    }
)
"""Roles that may call each method, by `<service>/<method>`. A new method needs its row, or nobody may call it."""


class RoleGuard(grpc.aio.ServerInterceptor):
    """Lets a listener's callers call what their role may, and nobody else anything. Put it right behind the error boundary.

    Args:
        role: Of the listener.
        certificate_names: URIs and DNS names of which a caller's certificate must have one; None where the socket's mode, or the
            service itself, says who may call.
    """

    def __init__(self, role: Role, certificate_names: AbstractSet[str] | None = None) -> None:
        self._role = role
        self._certificate_names = certificate_names
        self._guarded: dict[str, tuple[_Handler, _Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Return the method's handler if the role may call it; a method that is not served here stays unknown.

        Raises:
            CallerNotPermitted: The role may not call it.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if self._role not in PERMISSIONS.get(method.removeprefix("/"), frozenset()):
            raise CallerNotPermitted(f"the role {self._role.value} may not call this method")
        if self._certificate_names is None:
            return handler
        # The boundary around this makes its own handler once for each one that it is given: it must be the same each time.
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = self._guarded[method] = (handler, self._guard(handler))
        return known[1]

    def _guard(self, handler: _Handler) -> _Handler:
        request = "stream" if handler.request_streaming else "unary"
        response = "stream" if handler.response_streaming else "unary"
        behaviour = getattr(handler, f"{request}_{response}")

        async def call(message: Any, context: _Context) -> Any:
            self._verify_certificate(context)
            return await behaviour(message, context)

        async def generate(message: Any, context: _Context) -> AsyncIterator[Any]:
            self._verify_certificate(context)
            async with aclosing(behaviour(message, context)) as responses:
                async for answer in responses:
                    yield answer

        make = getattr(grpc, f"{request}_{response}_rpc_method_handler")
        guarded = generate if handler.response_streaming else call
        made: _Handler = make(guarded, handler.request_deserializer, handler.response_serializer)
        return made

    def _verify_certificate(self, context: _Context) -> None:
        if self._certificate_names is None or self._certificate_names.isdisjoint(
            peer_identities(context.auth_context())
        ):
            raise CallerNotPermitted("the certificate has none of the URIs and DNS names in certificate_names")

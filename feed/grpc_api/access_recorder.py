"""What is logged of calls: every use of a privilege, and every call that was refused.

Two interceptors around `RoleGuard`: `RefusalRecorder` outside of it sees what it refuses, and `UseRecorder` inside sees only callers
that may call. Both hold to `feed.admin_log`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import grpc

from feed.admin_log import AdminLog, Use
from feed.errors import (
    CallerNotPermitted,
    EnrolmentRefused,
    FeedError,
    SidecarNotPermitted,
    SidecarRetired,
    SourceNotPermitted,
)
from feed.grpc_api import audit_requests
from feed.grpc_api.peers import verify_sidecar_id
from feed.grpc_api.roles import Role
from hosting.errors import stable_reason
from hosting.tls import peer_identities

if TYPE_CHECKING:
    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    # Generic in the stubs only.
    _Handler = grpc.RpcMethodHandler

_Context = grpc.aio.ServicerContext[Any, Any]
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]

REFUSALS: Final = (CallerNotPermitted, SidecarNotPermitted, SidecarRetired, EnrolmentRefused, SourceNotPermitted)
"""Errors by which a caller is turned away, whatever it asked for."""

_MAX_ACTOR_CHARACTERS: Final = 255
_OTHER_NAME: Final = "(other name)"


def _say_nothing(_message: Any) -> str:
    return ""


def _name_sidecar(message: Any) -> str:
    verify_sidecar_id(message.sidecar_id)
    return f"sidecar {message.sidecar_id}"


class Privilege(NamedTuple):
    """How the use of a method is logged.

    Attributes:
        is_disclosure: What it answers gives somebody something: without an entry there is no answer. Otherwise it has taken effect, with an
            entry of its own, and is logged as soon as the log takes it.
        describe: What is said about a request; raises where the request may not be described, and so not be served either.
        roles: Of whom.
        is_gathered: Many are expected: those that are alike are logged together.
    """

    is_disclosure: bool = False
    describe: Callable[[Any], str] = _say_nothing
    roles: AbstractSet[Role] = frozenset(Role)
    is_gathered: bool = False


PRIVILEGES: Final[Mapping[str, Privilege]] = MappingProxyType(
    {
        "consentry.intake.v1.PolicyService/PublishPolicy": Privilege(),
        "consentry.intake.v1.SubjectService/BeginKeyEpoch": Privilege(),
        "consentry.intake.v1.SubjectService/EraseSubject": Privilege(),
        # A backup is sealed, and needed most while the log takes nothing.
        "consentry.intake.v1.BackupService/BackUpLog": Privilege(),
        "consentry.intake.v1.BackupService/ResumeIntake": Privilege(),
        "consentry.feed.v1.EnrolmentService/IssueEnrolmentToken": Privilege(True, _name_sidecar),
        "consentry.feed.v1.EnrolmentService/ApproveEnrolment": Privilege(describe=_name_sidecar),
        "consentry.feed.v1.EnrolmentService/RetireSidecar": Privilege(describe=_name_sidecar),
        "consentry.feed.v1.AuditService/ReadLog": Privilege(True, audit_requests.describe_read_log),
        "consentry.feed.v1.AuditService/Resolve": Privilege(True, audit_requests.describe_resolve),
        "consentry.feed.v1.AuditService/GetReplayKeys": Privilege(True, audit_requests.describe_get_replay_keys),
        # Entry by entry it would be the whole log.
        "consentry.feed.v1.AuditService/GetEventTrail": Privilege(roles=frozenset({Role.AUDITOR}), is_gathered=True),
    }
)
"""Methods whose use is logged, by `<service>/<method>`. Records of the intake service are entries themselves, under their source's name."""


class Listener(NamedTuple):
    """Where a call came in.

    Attributes:
        role: Of the listener.
        name: Of its source or role: who called, where no certificate says so.
        certificate_names: Of whom a caller must be one; None where others say who may call.
    """

    role: Role
    name: str
    certificate_names: AbstractSet[str] | None = None

    def name_actor(self, context: _Context) -> str:
        """Who calls: the permitted name of the certificate, else its first one, else the listener's name."""
        identities = peer_identities(context.auth_context())
        if not identities:
            return self.name
        permitted = [name for name in identities if name in (self.certificate_names or ())]
        actor = (permitted or identities)[0]
        # An authority may sign an address of a person as a name.
        return actor if len(actor) <= _MAX_ACTOR_CHARACTERS and "@" not in actor else _OTHER_NAME


class RefusalRecorder(grpc.aio.ServerInterceptor):
    """Has refused calls logged. Put it between the error boundary and the role guard.

    Args:
        admin_log: Where they are gathered.
        listener: Whose calls these are.
    """

    def __init__(self, admin_log: AdminLog, listener: Listener) -> None:
        self._admin_log = admin_log
        self._listener = listener
        self._wrapped: dict[str, tuple[_Handler, _Handler]] = {}

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler | None:
        """Return the method's handler, watched; for one that the role may not call, a handler that notes it and refuses."""
        method = handler_call_details.method.removeprefix("/")
        try:
            handler = await continuation(handler_call_details)
        except REFUSALS as error:
            return self._refuse(method, error)
        return None if handler is None else _wrap_once(self._wrapped, method, handler, self._watch)

    def _refuse(self, method: str, error: FeedError) -> _Handler:
        async def refuse(_requests: Any, context: _Context) -> None:
            self._note(method, context, error)
            raise error

        # Of all shapes this one can answer before it has read anything.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _watch(self, method: str, behaviour: Any) -> "_Wrapped":
        async def call(message: Any, context: _Context) -> Any:
            try:
                return await behaviour(message, context)
            except REFUSALS as error:
                self._note(method, context, error)
                raise

        async def generate(message: Any, context: _Context) -> AsyncIterator[Any]:
            try:
                async with aclosing(behaviour(message, context)) as responses:
                    async for response in responses:
                        yield response
            except REFUSALS as error:
                self._note(method, context, error)
                raise

        return _Wrapped(call, generate)

    def _note(self, method: str, context: _Context, error: FeedError) -> None:
        listener = self._listener
        self._admin_log.gather(Use(method, listener.role.value, listener.name_actor(context), error.reason))


class UseRecorder(grpc.aio.ServerInterceptor):
    """Has uses of `PRIVILEGES` logged, and their failures. Put it right behind the role guard.

    Args:
        admin_log: Where they are logged.
        listener: Whose calls these are.
    """

    def __init__(self, admin_log: AdminLog, listener: Listener) -> None:
        self._admin_log = admin_log
        self._listener = listener
        self._wrapped: dict[str, tuple[_Handler, _Handler]] = {}

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> _Handler | None:
        """Return the method's handler, recorded where the table says so."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        privilege = PRIVILEGES.get(method)
        if handler is None or privilege is None or self._listener.role not in privilege.roles:
            return handler
        return _wrap_once(self._wrapped, method, handler, self._record)

    def _record(self, method: str, behaviour: Any) -> "_Wrapped":
        privilege = PRIVILEGES[method]

        async def call(message: Any, context: _Context) -> Any:
            use = self._use(method, context)
            try:
                use = use._replace(detail=privilege.describe(message))
                response = await behaviour(message, context)
                # Behind the effect and before the answer: what is disclosed leaves only with an entry about it.
                await self._note_use(use, privilege)
                return response
            except (Exception, asyncio.CancelledError) as error:
                await self._note_failure(use, error)
                raise

        async def generate(message: Any, context: _Context) -> AsyncIterator[Any]:
            use = self._use(method, context)
            try:
                use = use._replace(detail=privilege.describe(message))
                await self._note_use(use, privilege)
                async with aclosing(behaviour(message, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:
                await self._note_failure(use, error)
                raise

        return _Wrapped(call, generate)

    def _use(self, method: str, context: _Context) -> Use:
        return Use(method, self._listener.role.value, self._listener.name_actor(context))

    async def _note_use(self, use: Use, privilege: Privilege) -> None:
        if privilege.is_gathered:
            self._admin_log.gather(use)
        elif privilege.is_disclosure:
            await self._admin_log.record(use)
        else:
            await self._admin_log.record_or_gather(use)

    async def _note_failure(self, use: Use, error: BaseException) -> None:
        if isinstance(error, REFUSALS):
            return
        if isinstance(error, asyncio.CancelledError):
            self._admin_log.gather(use._replace(outcome="CANCELLED"))
            return
        failed = use._replace(outcome=stable_reason(error) or "INTERNAL")
        # Few have the administration's socket; elsewhere a flood of failing calls must not flood the log.
        if self._listener.role is Role.ADMINISTRATOR:
            await self._admin_log.record_or_gather(failed)
        else:
            self._admin_log.gather(failed)


class _Wrapped(NamedTuple):
    """What stands in the place of a behaviour: a coroutine for one response, an async generator for many."""

    call: Callable[[Any, Any], Any]
    generate: Callable[[Any, Any], Any]


def _wrap_once(
    wrapped: dict[str, tuple[_Handler, _Handler]],
    method: str,
    handler: _Handler,
    wrap: Callable[[str, Any], _Wrapped],
) -> _Handler:
    """The same handler each time: the boundary outside makes its own once for each one that it is given."""
    known = wrapped.get(method)
    if known is not None and known[0] is handler:
        return known[1]
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    made = wrap(method, getattr(handler, f"{request}_{response}"))
    make = getattr(grpc, f"{request}_{response}_rpc_method_handler")
    behaviour = made.generate if handler.response_streaming else made.call
    result: _Handler = make(behaviour, handler.request_deserializer, handler.response_serializer)
    wrapped[method] = (handler, result)
    return result

"""Errors of the hosting package, and how any of our errors is told from a foreign one."""

import re
from typing import ClassVar

_REASON = re.compile(r"[A-Z][A-Z0-9_]*")


class HostingError(Exception):
    """Root of everything that this package raises.

    The text names the field, file or line and never a value that a person or a secret could be read from.

    Attributes:
        reason: Stable name in UPPER_SNAKE, for programs, metrics and gRPC trailers.
    """

    reason: ClassVar[str] = "HOSTING_FAILED"


class SettingsError(HostingError):
    """The configuration cannot be used; the start stops.

    Attributes:
        problems: One line for each thing that is wrong, all of them at once.
    """

    reason = "SETTINGS_INVALID"

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        heading = "" if len(problems) == 1 else f"{len(problems)} problems in the configuration:\n  - "
        super().__init__(heading + "\n  - ".join(problems))


class KeyFileError(HostingError):
    """A key file is unreadable, readable by others, malformed, or holds a key of another use."""

    reason = "KEY_FILE_INVALID"


class KeyFileMissing(KeyFileError):
    """There is no key file at the given path."""

    reason = "KEY_FILE_MISSING"


class UnusableStartFile(HostingError):
    """A file that a start needs (trust file, root key, first policy) is missing, malformed or not signed by whom it must be."""

    reason = "UNUSABLE_START_FILE"


class AddressError(HostingError, ValueError):
    """An address cannot be parsed; a ``ValueError`` too, so that settings models can use the parser as it is."""

    reason = "ADDRESS_INVALID"


class SocketPathError(HostingError):
    """A Unix socket cannot live at the given path: too long, or something that is not a socket is there."""

    reason = "SOCKET_PATH_INVALID"


class SocketInUse(HostingError):
    """Another server listens on the given path or port."""

    reason = "SOCKET_IN_USE"


class DirectoryUnusable(HostingError):
    """A directory cannot be created, or its lock file cannot be opened."""

    reason = "DIRECTORY_UNUSABLE"


class InstanceLocked(HostingError):
    """Another process works on the given data directory."""

    reason = "INSTANCE_LOCKED"


class TlsError(HostingError):
    """A certificate, its key or an authority file cannot be used."""

    reason = "TLS_INVALID"


class MalformedMessage(HostingError):
    """A message on the wire cannot be decoded at all."""

    reason = "MALFORMED_MESSAGE"


def stable_reason(error: BaseException) -> str | None:
    """Return the reason of one of our errors, None for any other exception.

    An error is ours if its class, not only the instance, declares an UPPER_SNAKE ``reason``: ``UnicodeDecodeError``
    and ``ssl.SSLError`` carry an instance attribute of that name, and their text quotes the data that they met.
    """
    reason = getattr(error, "reason", None)
    if not isinstance(reason, str) or not _REASON.fullmatch(reason):
        return None
    declared = any(isinstance(vars(cls).get("reason"), str) for cls in type(error).__mro__)
    return reason if declared else None

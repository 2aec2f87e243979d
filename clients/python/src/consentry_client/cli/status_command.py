"""`consentry status`."""

from consentry_client.cli.connection import (
    AddressOption,
    JsonOption,
    TimeoutOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    explain_outage,
    gather_tls,
)
from consentry_client.cli.rendering import print_hint, print_status
from consentry_client.client import Client
from consentry_client.decision import Reason
from consentry_client.errors import StatusError


def status(
    *,
    address: AddressOption = None,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    timeout: TimeoutOption = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Show what the sidecar holds and how fresh it is; nothing in it is about any person.

    Exit code: 0 told, 2 no answer or an error.

    \b
    Examples:
      consentry status --address unix:///run/consentry/check.sock
      consentry status --json
    """  # noqa: D301 - the \b keeps the lines apart
    tls = gather_tls(tls_ca, tls_cert, tls_key)
    with Client(address, tls=tls) as client:
        try:
            told = client.status(timeout_seconds=timeout)
        except StatusError as error:
            if error.reason == Reason.CLIENT_UNAVAILABLE:
                print_hint(explain_outage(address, tls))
            raise
    print_status(told, as_json)

"""The transit engine of HashiCorp Vault or OpenBao as a key service, through the client library hvac.

The token is read from its file at each call, so an agent may renew it there. Needed: `update` on `encrypt/KEY` and `decrypt/KEY` of the
engine's mount, for a key of an AEAD type (the default `aes256-gcm96`). The associated data names the sidecar.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import hvac
from hvac import exceptions as answers
from requests import RequestException

from hosting.errors import KeyFileError
from hosting.key_files import read_private_file
from sidecar.errors import KeyServiceRefused, KeyServiceUnavailable, WrongCacheKey

_MAX_TOKEN_FILE_BYTES = 4096
_AWAY = (
    answers.BadGateway,
    answers.InternalServerError,
    answers.PreconditionFailed,
    answers.RateLimitExceeded,
    answers.VaultDown,
    answers.VaultNotInitialized,
)


class VaultTransit:
    """Keys of a transit engine (`sidecar.key_providers.envelope.KeyService`).

    Args:
        address: `https://host:port`.
        mount: Path of the engine.
        key_names: Names of its keys, the newest first; versions of one key are the engine's own affair.
        token_file: Holds the token, mode 0600.
        sidecar_id: In the associated data.
        ca_file: PEM of the authority of its certificate, None for the system's.
        namespace: Its namespace, None for none.
        timeout_seconds: For connecting and for an answer, each.
    """

    def __init__(
        self,
        address: str,
        mount: str,
        key_names: tuple[str, ...],
        token_file: Path,
        sidecar_id: str,
        *,
        ca_file: Path | None,
        namespace: str | None,
        timeout_seconds: float,
    ) -> None:
        self._address = address
        self._mount = mount
        self._key_names = key_names
        self._token_file = token_file
        self._associated_data = base64.b64encode(f"consentry/sidecar-kek/{sidecar_id}".encode()).decode("ascii")
        self._verify: str | bool = str(ca_file) if ca_file is not None else True
        self._namespace = namespace
        self._timeout_seconds = timeout_seconds

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names."""
        return self._key_names

    def seal(self, key_name: str, kek: bytes) -> bytes:
        """As `KeyService.seal`."""
        sealed = self._call("encrypt", key_name, "ciphertext", plaintext=base64.b64encode(kek).decode("ascii"))
        return sealed.encode("utf-8")

    def open(self, key_name: str, sealed_kek: bytes) -> bytes:
        """As `KeyService.open`."""
        try:
            ciphertext = sealed_kek.decode("ascii")
            return base64.b64decode(self._call("decrypt", key_name, "plaintext", ciphertext=ciphertext), validate=True)
        except (UnicodeDecodeError, binascii.Error, answers.InvalidRequest):
            raise WrongCacheKey("Vault does not open the key") from None

    def _call(self, operation: str, key_name: str, wanted: str, **parameters: str) -> str:
        """A field of the answer to one call; raises hvac's InvalidRequest where the engine does not take the value."""
        try:
            client = hvac.Client(
                url=self._address,
                token=self._read_token(),
                verify=self._verify,
                namespace=self._namespace,
                timeout=self._timeout_seconds,
                allow_redirects=False,
            )
            call = getattr(client.secrets.transit, f"{operation}_data")
            answer: dict[str, Any] = call(
                key_name, mount_point=self._mount, associated_data=self._associated_data, **parameters
            )
            return str(answer["data"][wanted])
        except _AWAY as error:
            raise KeyServiceUnavailable(f"Vault cannot {operation} now: {type(error).__name__}") from None
        except RequestException as error:
            raise KeyServiceUnavailable(f"Vault does not answer: {type(error).__name__}") from None
        except answers.InvalidRequest:
            if operation == "decrypt":
                raise
            raise KeyServiceRefused(f"Vault refuses to {operation}: InvalidRequest") from None
        except (answers.VaultError, KeyError, TypeError) as error:
            raise KeyServiceRefused(f"Vault refuses to {operation}: {type(error).__name__}") from None

    def _read_token(self) -> str:
        try:
            return read_private_file(self._token_file, max_bytes=_MAX_TOKEN_FILE_BYTES).decode("ascii").strip()
        except UnicodeDecodeError:
            raise KeyServiceRefused(f"{self._token_file}: not a token") from None
        except KeyFileError as error:
            raise KeyServiceRefused(str(error)) from None

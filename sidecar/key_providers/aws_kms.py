"""AWS KMS as a key service, through AWS's own SDK; credentials come as that SDK finds them (role of the pod, profile, variables).

Needed permissions: `kms:Encrypt` and `kms:Decrypt` on the key. The encryption context names the sidecar, so KMS opens a KEK for the
sidecar that it was sealed for only, and says in CloudTrail which one that was.
"""

import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004 - their names

from sidecar.errors import KeyServiceRefused, KeyServiceUnavailable, WrongCacheKey

_AWAY = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "ThrottlingException",
    }
)
"""Error codes after which the same call may succeed; so may any with an HTTP status from 500 on."""
_WRONG = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})


class AwsKms:
    """Keys of AWS KMS (`sidecar.key_providers.envelope.KeyService`).

    Args:
        key_arns: ARNs of symmetric keys, the newest first.
        sidecar_id: In the encryption context.
        endpoint_url: Where KMS is, None for the region's own endpoint.
        timeout_seconds: For connecting and for an answer, each.
    """

    def __init__(
        self, key_arns: tuple[str, ...], sidecar_id: str, *, endpoint_url: str | None, timeout_seconds: float
    ) -> None:
        self._key_arns = key_arns
        self._context = {"consentry-use": "sidecar-kek", "consentry-sidecar": sidecar_id}
        self._endpoint_url = endpoint_url
        self._clients: dict[str, Any] = {}
        self._making_client = threading.Lock()
        self._config = Config(
            connect_timeout=timeout_seconds,
            read_timeout=timeout_seconds,
            # Whoever asks tries again in its own rhythm.
            retries={"total_max_attempts": 1},
        )

    @property
    def key_names(self) -> tuple[str, ...]:
        """The ARNs."""
        return self._key_arns

    def seal(self, key_name: str, kek: bytes) -> bytes:
        """As `KeyService.seal`."""
        answer = self._call("encrypt", key_name, Plaintext=kek)
        return bytes(answer["CiphertextBlob"])

    def open(self, key_name: str, sealed_kek: bytes) -> bytes:
        """As `KeyService.open`."""
        answer = self._call("decrypt", key_name, CiphertextBlob=sealed_kek)
        return bytes(answer["Plaintext"])

    def _call(self, operation: str, key_arn: str, **parameters: Any) -> dict[str, Any]:
        try:
            call = getattr(self._client_for(key_arn), operation)
            answer: dict[str, Any] = call(KeyId=key_arn, EncryptionContext=self._context, **parameters)
            return answer
        except ClientError as error:
            raise _translate(error, operation) from None
        except (ConnectionError, HTTPClientError) as error:
            raise KeyServiceUnavailable(f"AWS KMS does not answer: {type(error).__name__}") from None
        except BotoCoreError as error:
            raise KeyServiceRefused(f"AWS KMS cannot be asked: {type(error).__name__}") from None

    def _client_for(self, key_arn: str) -> Any:
        """The client of the key's region. Clients may be shared by threads, the making of them not."""
        region = key_arn.split(":")[3]
        with self._making_client:
            if region not in self._clients:
                self._clients[region] = boto3.session.Session().client(
                    "kms", region_name=region, endpoint_url=self._endpoint_url, config=self._config
                )
            return self._clients[region]


def _translate(error: ClientError, operation: str) -> Exception:
    """Ours, by what KMS answered; its text is not passed on, since it can name accounts and roles."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _WRONG:
        return WrongCacheKey(f"AWS KMS does not open the key: {code}")
    if code in _AWAY or status >= 500:
        return KeyServiceUnavailable(f"AWS KMS cannot {operation} now: {code}")
    return KeyServiceRefused(f"AWS KMS refuses to {operation}: {code}")

"""Makes the key provider that the settings name; what an extra brings is imported only then."""

from hosting.clock import Clock
from sidecar.errors import MissingExtra
from sidecar.key_providers.envelope import EnvelopeKeyProvider, KeyService
from sidecar.key_providers.settings import AwsKmsSettings, VaultTransitSettings
from sidecar.ports import KeyProvider


def load_key_service(settings: AwsKmsSettings | VaultTransitSettings, sidecar_id: str, clock: Clock) -> KeyProvider:
    """A provider over a key service; asks it nothing yet.

    Args:
        settings: Which one.
        sidecar_id: Whose keys: no other sidecar can have them opened.
        clock: For the age of keys.

    Raises:
        MissingExtra: The packages that it needs are not installed.
    """
    return EnvelopeKeyProvider(_connect(settings, sidecar_id), clock)


def _connect(settings: AwsKmsSettings | VaultTransitSettings, sidecar_id: str) -> KeyService:
    if isinstance(settings, AwsKmsSettings):
        try:
            from sidecar.key_providers.aws_kms import AwsKms
        except ModuleNotFoundError as error:
            raise _missing("aws", error) from None
        return AwsKms(
            settings.key_arns,
            sidecar_id,
            endpoint_url=settings.endpoint_url,
            timeout_seconds=settings.timeout_seconds,
        )
    try:
        from sidecar.key_providers.vault_transit import VaultTransit
    except ModuleNotFoundError as error:
        raise _missing("vault", error) from None
    return VaultTransit(
        settings.address,
        settings.mount,
        settings.key_names,
        settings.token_file,
        sidecar_id,
        ca_file=settings.ca_file,
        namespace=settings.namespace,
        timeout_seconds=settings.timeout_seconds,
    )


def _missing(extra: str, error: ModuleNotFoundError) -> MissingExtra:
    return MissingExtra(f"the settings need the extra consentry[{extra}]: {error.name} is not installed")

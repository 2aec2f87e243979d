"""What an extra brings is asked for only by those whose settings need it."""

import sys
from pathlib import Path

import pytest

from hosting.clock import SystemClock
from sidecar.errors import MissingExtra
from sidecar.key_providers.loading import load_key_service
from sidecar.key_providers.settings import AwsKmsSettings, VaultTransitSettings

KMS = AwsKmsSettings(key_arns=("arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d",))
VAULT = VaultTransitSettings(address="https://vault", key_names=("key",), token_file=Path("token"))


@pytest.mark.parametrize(
    ("settings", "module", "package", "extra"),
    [(KMS, "aws_kms", "boto3", "aws"), (VAULT, "vault_transit", "hvac", "vault")],
)
def test_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
    settings: AwsKmsSettings | VaultTransitSettings,
    module: str,
    package: str,
    extra: str,
) -> None:
    monkeypatch.delitem(sys.modules, f"sidecar.key_providers.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"consentry\[{extra}\].*{package}"):
        load_key_service(settings, "sidecar-1", SystemClock())

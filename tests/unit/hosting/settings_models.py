"""Models for the tests of the settings, of the shapes that programs use."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from hosting.addresses import parse_address
from hosting.settings import SettingsModel


class Detail(StrEnum):
    EFFECT = "effect"
    FULL = "full"


def verify_address(text: str) -> str:
    parse_address(text)
    return text


class ListenerSettings(SettingsModel):
    address: Annotated[str, AfterValidator(verify_address)] = Field(description="Where it listens.")
    purposes: tuple[str, ...] = Field(default=(), description="What its caller may ask for.")
    detail: Detail = Field(default=Detail.EFFECT, description="How much an answer tells.")


class CacheSettings(SettingsModel):
    directory: Path = Field(description="Directory of the encrypted cache.")
    size_bytes: int = Field(default=1_000, ge=1, description="Most that it may take, in bytes.")


class FileKeySettings(SettingsModel):
    kind: Literal["file"] = Field(description="Keys in a file.")
    file: Path = Field(description="The key file.")
    length_bytes: int = Field(description="How long the key is, in bytes.")


class VaultKeySettings(SettingsModel):
    kind: Literal["vault"] = Field(description="Keys in a vault.")
    address: str = Field(description="Where the vault listens.")


class ProgramSettings(SettingsModel):
    cache: CacheSettings = Field(description="The cache.")
    listeners: tuple[ListenerSettings, ...] = Field(default=(), description="One for each caller.")
    key: Annotated[FileKeySettings | VaultKeySettings, Field(discriminator="kind")] = Field(
        default=FileKeySettings(kind="file", file=Path("/etc/key"), length_bytes=32), description="Where the key is."
    )
    token: SecretStr | None = Field(default=None, description="Shared | secret.")
    limits: dict[str, int] = Field(default_factory=dict, description="Most calls per second, by purpose.")
    staleness_seconds: float | None = Field(default=60, gt=0, description="Age of the copy, in seconds.")
    reflection: bool = Field(default=False, description="Whether tools may list the methods.")
    low: int = Field(default=1, description="Lower bound.")
    high: int = Field(default=2, description="Upper bound.")

    @model_validator(mode="after")
    def _verify_bounds(self) -> "ProgramSettings":
        if self.low > self.high:
            raise ValueError(f"low is above high: {self.low} > {self.high}")
        return self

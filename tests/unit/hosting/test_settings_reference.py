from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from hosting.errors import SettingsError
from hosting.settings import (
    SettingsModel,
    document_settings,
    load_settings,
    load_settings_with_origins,
    render_settings,
)
from tests.unit.hosting.settings_models import CacheSettings, ListenerSettings, ProgramSettings

PREFIX = "CONSENTRY_TEST_"


def test_render_settings_masks_secrets() -> None:
    text = render_settings(ProgramSettings(cache=CacheSettings(directory=Path("/c")), token=SecretStr("hunter2")))

    assert "token: '**********'\n" in text
    assert "hunter2" not in text


def test_render_settings_output_loads_as_the_same_settings(tmp_path: Path) -> None:
    listener = ListenerSettings(address="unix:///run/ä b.sock", purposes=("no", "12:30", "0660"))
    settings = ProgramSettings(
        cache=CacheSettings(directory=Path("/c: #x\nsecond line")), listeners=(listener,), limits={"true": 1}
    )
    file = tmp_path / "program.yaml"
    file.write_text(render_settings(settings))

    assert load_settings(ProgramSettings, file=file, env_prefix=PREFIX, environ={}) == settings


def test_render_settings_with_origins_comments_each_value(tmp_path: Path) -> None:
    file = tmp_path / "program.yaml"
    file.write_text("cache:\n  directory: /c\nlisteners:\n- address: '127.0.0.1:1'\n")
    loaded = load_settings_with_origins(
        ProgramSettings, file=file, env_prefix=PREFIX, environ={"CONSENTRY_TEST_LOW": "0"}
    )

    lines = render_settings(loaded.settings, loaded.origins).splitlines()

    assert f"  directory: /c  # {file}:2" in lines
    assert f"listeners:  # {file}:3" in lines
    assert "low: 0  # CONSENTRY_TEST_LOW" in lines
    assert "high: 2  # default" in lines


def test_document_settings_has_a_row_for_every_field() -> None:
    rows = document_settings(ProgramSettings, PREFIX, "Program").splitlines()

    assert rows[0] == "## Program"
    for row in (
        "| `cache` | `CONSENTRY_TEST_CACHE` | section | **required** | The cache. |",
        "| `cache.directory` | `CONSENTRY_TEST_CACHE__DIRECTORY` | path | **required** | Directory of the encrypted cache. |",
        "| `cache.size_bytes` | `CONSENTRY_TEST_CACHE__SIZE_BYTES` | integer, ≥ 1 | `1000` | Most that it may take, in bytes. |",
        "| `listeners` | `CONSENTRY_TEST_LISTENERS` | list of section | empty | One for each caller. |",
        "| `listeners[].detail` | – | `effect` or `full` | `effect` | How much an answer tells. |",
        "| `key` | `CONSENTRY_TEST_KEY` | section | see below | Where the key is. |",
        "| `key.file` | `CONSENTRY_TEST_KEY__FILE` | path | **required** | (FileKeySettings) The key file. |",
        "| `token` | `CONSENTRY_TEST_TOKEN` | secret text or nothing | nothing | Shared \\| secret. |",
        "| `limits` | `CONSENTRY_TEST_LIMITS` | keys and values of integer | empty | Most calls per second, by purpose. |",
        "| `staleness_seconds` | `CONSENTRY_TEST_STALENESS_SECONDS` | number or nothing, > 0 | `60` | Age of the copy, in seconds. |",
        "| `reflection` | `CONSENTRY_TEST_REFLECTION` | true or false | `false` | Whether tools may list the methods. |",
    ):
        assert row in rows


def test_document_settings_secret_default_is_not_shown() -> None:
    class Model(SettingsModel):
        token: SecretStr = Field(default=SecretStr("hunter2"), description="A secret.")

    assert "hunter2" not in document_settings(Model, PREFIX, "Model")


def test_document_settings_field_without_description_is_refused() -> None:
    class Inner(SettingsModel):
        bare: int = 1

    class Model(SettingsModel):
        inner: Inner = Field(default=Inner(), description="Inner.")
        inners: list[Inner] = Field(default=[], description="Many.")

    with pytest.raises(SettingsError, match=r"Model: no description of inner\.bare, inners\[\]\.bare"):
        document_settings(Model, PREFIX, "Model")

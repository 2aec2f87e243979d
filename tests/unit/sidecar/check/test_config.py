"""Settings of the sidecar: what is contradictory is refused at the start, with the name of the field."""

from pathlib import Path
from typing import Any

import pytest

from hosting.errors import SettingsError
from hosting.settings import load_settings
from sidecar.config import ENV_PREFIX, SidecarSettings

BASE = """\
sidecar_id: s-1
trust: {file: trust.note, root_key_file: root.pub}
feed: {address: "unix:///run/feed.sock"}
cache: {directory: cache, key_files: [cache.key]}
journal: {directory: journal}
listeners:
  - address: unix:///run/app.sock
    callers: [{name: app}]
"""

ARN = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-1111-2222-3333-444455556666"


def load(tmp_path: Path, text: str, **environ: str) -> SidecarSettings:
    file = tmp_path / "sidecar.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(SidecarSettings, file=file, env_prefix=ENV_PREFIX, environ=environ)


def test_settings_smallest_file_has_safe_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, BASE)
    caller = settings.listeners[0].callers[0].to_caller()
    assert (caller.detail, "Explain" in caller.methods, caller.may_use_tokens) == ("effect", False, False)
    assert (settings.journal.mode, settings.journal.on_unavailable) == ("group", "deny")
    assert (settings.reflection, settings.cache.create_key, settings.admin_address) == (False, False, None)


def test_settings_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, BASE, CONSENTRY_SIDECAR_JOURNAL__MODE="sync")
    assert settings.journal.mode == "sync"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sidecar_id: s-1": "sidecar_id: 'a b'"}, "sidecar_id"),
        ({"journal: {directory: journal}": "journal: {directory: journal, mod: sync}"}, "mode"),
        ({"journal: {directory: journal}": "journal: {directory: journal, mode: fast}"}, "journal.mode"),
        ({'"unix:///run/feed.sock"': '"feed.example:7740"'}, "tls is required"),
        ({'"unix:///run/feed.sock"': "nowhere"}, "feed.address"),
        ({"address: unix:///run/app.sock": "address: 127.0.0.1:7000"}, "a TCP listener needs tls"),
        ({"callers: [{name: app}]": "callers: [{name: app}, {name: other}]"}, "exactly one caller"),
        ({"callers: [{name: app}]": "callers: [{name: app, identity: x.example}]"}, "without identity"),
        ({"callers: [{name: app}]": "callers: [{name: app, methods: [Chek]}]"}, "methods"),
        ({"listeners:": "admin_address: 127.0.0.1:1\nlisteners:"}, "Unix socket"),
        ({"listeners:": "admin_address: unix:///run/app.sock\nlisteners:"}, "two listeners have the same address"),
        ({"key_files: [cache.key]": "key_files: []"}, "exactly one of key_files, aws_kms"),
        ({"key_files: [cache.key]": f"key_files: [k], aws_kms: {{key_arns: [{ARN}]}}"}, "exactly one of key_files"),
        ({"key_files: [cache.key]": "aws_kms: {key_arns: []}"}, "key_arns"),
        (
            {"key_files: [cache.key]": "aws_kms: {key_arns: ['arn:aws:kms:eu-central-1:123456789012:alias/a']}"},
            "key_arns",
        ),
        ({"key_files: [cache.key]": f"aws_kms: {{key_arns: [{ARN}]}}, create_key: true"}, "create_key needs key_files"),
        (
            {"key_files: [cache.key]": f"aws_kms: {{key_arns: [{ARN}], endpoint_url: 'http://kms.example'}}"},
            "http is for addresses of this host only",
        ),
        (
            {"key_files: [cache.key]": "vault_transit: {address: 'vault:8200', key_names: [k], token_file: t}"},
            "expected https://host",
        ),
        (
            {"key_files: [cache.key]": "vault_transit: {address: 'https://vault', key_names: ['a/b'], token_file: t}"},
            "key_names",
        ),
    ],
)
def test_settings_contradiction_is_refused_by_name(tmp_path: Path, change: dict[str, str], text: str) -> None:
    changed = BASE
    for old, new in change.items():
        assert old in changed
        changed = changed.replace(old, new)
    with pytest.raises(SettingsError, match=text):
        load(tmp_path, changed)


def test_settings_unknown_variable_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    environ: dict[str, Any] = {"CONSENTRY_SIDECAR_JOURNAL__MOD": "sync"}
    with pytest.raises(SettingsError, match="CONSENTRY_SIDECAR_JOURNAL__MODE"):
        load(tmp_path, BASE, **environ)

"""What `make check` says when a reference page and the code drift apart, on four small programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GENERATOR = Path(__file__).resolve().parents[3] / "docs" / "generate.py"
PROGRAM = '''
import typer

app = typer.Typer()

@app.command()
def serve(port: int = 1) -> None:
    """Serve until stopped."""

@app.command()
def stop() -> None:
    """Stop."""
'''
SETTINGS = "def document_settings(model, prefix, title):\n    return f'# {title}\\n\\n| `{prefix}{model}` |\\n'\n"
METRICS = """
from types import SimpleNamespace

FAMILIES = [SimpleNamespace(name="calls_total", kind="counter", labels=("reason", "method"), meaning="Calls.")]
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that holds the generator and its pages, and instead of our programs five of two commands each."""
    tmp_path = tmp_path_factory.mktemp("checkout")
    for name in ("feed", "sidecar", "witness", "auditor", "consentry_client", "hosting"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for name in ("feed", "sidecar", "witness", "auditor", "consentry_client"):
        (tmp_path / name / "cli.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "feed" / "config.py").write_text("FeedSettings = 'PORT'\n", encoding="utf-8")
    (tmp_path / "sidecar" / "config.py").write_text("SidecarSettings = 'SOCKET'\n", encoding="utf-8")
    (tmp_path / "witness" / "config.py").write_text("WitnessSettings = 'KEY'\n", encoding="utf-8")
    (tmp_path / "auditor" / "config.py").write_text("AuditorSettings = 'FOLDER'\n", encoding="utf-8")
    (tmp_path / "hosting" / "settings.py").write_text(SETTINGS, encoding="utf-8")
    for name in ("feed", "sidecar"):
        (tmp_path / name / "telemetry").mkdir()
        (tmp_path / name / "telemetry" / "families.py").write_text(METRICS, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    shutil.copy(GENERATOR, tmp_path / "docs")
    assert generate(tmp_path).returncode == 0
    return tmp_path


def test_generate_pages_hold_each_setting_and_command_under_one_title(checkout: Path) -> None:
    commands, settings = (
        (checkout / "docs" / name).read_text(encoding="utf-8") for name in ("cli.md", "configuration.md")
    )
    assert [page.count("\n# ") for page in (commands, settings)] == [1, 1]
    for name in ("consentry-feed", "consentry-sidecar", "consentry"):
        assert f"\n### `{name} serve`\n" in commands
    assert "\n## Feed\n\n| `CONSENTRY_FEED_PORT` |" in settings
    assert "\n## Sidecar\n\n| `CONSENTRY_SIDECAR_SOCKET` |" in settings


def test_generate_pages_list_each_programs_metrics(checkout: Path) -> None:
    page = (checkout / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page.count("| `calls_total` | counter | `reason`, `method` | Calls. |\n") == 2
    assert ("## Feed" in page, "## Sidecar" in page, "## Witness" in page) == (True, True, False)


def test_generate_pages_check_shows_a_change_and_only_a_change_and_writes_nothing(checkout: Path) -> None:
    assert generate(checkout, "--check").returncode == 0
    page = checkout / "docs" / "cli.md"
    before = page.read_text(encoding="utf-8")
    (checkout / "feed" / "cli.py").write_text(PROGRAM.replace("Stop.", "Stop at once."), encoding="utf-8")
    checked = generate(checkout, "--check")
    assert checked.returncode == 1
    assert "\n+* `stop`: Stop at once.\n" in checked.stdout
    assert page.read_text(encoding="utf-8") == before


def generate(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the generator of a checkout in a process of its own, with that checkout's packages before any other."""
    command = [sys.executable, str(checkout / "docs" / "generate.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)

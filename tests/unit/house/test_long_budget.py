"""How CI chooses the long tests that fit into its time, shown with a real run of pytest over a folder of such tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[2] / "conftest.py"
TESTS = """
import pytest

def test_short(): pass

@pytest.mark.long(seconds=50)
def test_first(): pass

@pytest.mark.long(seconds=500)
def test_second(request):
    assert request.node.get_closest_marker("timeout").args == (1500,)

@pytest.mark.long
def test_without_an_estimate(request):
    assert request.node.get_closest_marker("timeout").args == (180,)
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tests" / "test_suite.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long(seconds)\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("budget_seconds", "expected"),
    [("1000", "3 passed"), ("110", "2 passed"), ("49", "4 deselected")],
)
def test_long_budget_given_runs_in_order_what_fits(suite: Path, budget_seconds: str, expected: str) -> None:
    assert expected in run_pytest(suite, "-m", "long", f"--long-budget-seconds={budget_seconds}")


def test_long_budget_absent_runs_everything(suite: Path) -> None:
    assert "4 passed" in run_pytest(suite)


def run_pytest(suite: Path, *arguments: str) -> str:
    """Runs pytest in a process of its own and returns what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    return subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False).stdout

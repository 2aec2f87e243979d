"""What every test stands on: Hypothesis profiles, the budget of long tests, and the shared data folder."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

REPOSITORY = Path(__file__).resolve().parent.parent
LONG_DEFAULT_SECONDS = 60
# A long test may take this many times its own estimate before it counts as hung.
LONG_PATIENCE = 3

set_hypothesis_home_dir(REPOSITORY / ".cache" / "hypothesis")
# No deadline: how long an example takes says something about the machine and nothing about the code.
settings.register_profile("dev", deadline=None, max_examples=100)
# The same examples on every run, so that a red CI can be repeated and is never the luck of the draw.
settings.register_profile("ci", deadline=None, max_examples=300, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option by which CI takes only as many long tests as fit."""
    parser.addoption(
        "--long-budget-seconds",
        type=float,
        default=None,
        help="of the tests marked `long`, run in order only those whose estimates fit together into this time",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gives each long test its own time limit and leaves out those beyond the budget, if there is one."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_PATIENCE * estimate_seconds(item)))
    budget_seconds = config.getoption("--long-budget-seconds")
    if budget_seconds is not None:
        left_out = set(choose_left_out(items, budget_seconds))
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def choose_left_out(items: Iterable[pytest.Item], budget_seconds: float) -> list[pytest.Item]:
    """Returns the long tests that no longer fit once those before them have run, in order."""
    left_out = []
    for item in items:
        seconds = estimate_seconds(item)
        if seconds > budget_seconds:
            left_out.append(item)
        else:
            budget_seconds -= seconds
    return left_out


def estimate_seconds(item: pytest.Item) -> float:
    """Returns how long a test says it takes: its `long` marker's argument, or 0 without one."""
    marker = item.get_closest_marker("long")
    if marker is None:
        return 0
    return float(marker.kwargs.get("seconds", marker.args[0] if marker.args else LONG_DEFAULT_SECONDS))


@pytest.fixture(scope="session")
def shared_directory() -> Path:
    """The data that lies beside the repository: `vectors/`, `data/dpv/`, `data/imports/`.

    It is named by `CONSENTRY_SHARED`, or else is `../shared`. Whoever cloned only the repository does not have it and
    sees such a test as skipped; in CI, or where the variable names a folder, a missing one is a failure.
    """
    named = os.environ.get("CONSENTRY_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    if folder.is_dir():
        return folder
    if named or os.environ.get("CI"):
        pytest.fail("the shared data is missing: CONSENTRY_SHARED must name its folder")
    pytest.skip("the shared data is not beside this clone: name its folder in CONSENTRY_SHARED")

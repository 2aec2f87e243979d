"""The house's own promises: every part is known to every tool, and what is locked names no place to fetch it from."""

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def server_packages() -> set[str]:
    """Top-level folders with Python code that are neither tests, benchmarks, documents nor contracts."""
    others = {"tests", "benchmarks", "docs", "protos", "clients"}
    folders = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    return folders - others


def test_layout_every_server_package_is_built_into_the_distribution(
    project: dict[str, Any], server_packages: set[str]
) -> None:
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == server_packages


def test_layout_every_server_package_is_type_checked(project: dict[str, Any], server_packages: set[str]) -> None:
    assert server_packages <= set(project["tool"]["mypy"]["files"])


def test_layout_every_package_is_under_import_contracts(server_packages: set[str]) -> None:
    contracts = configparser.ConfigParser()
    contracts.read(REPOSITORY / ".importlinter", encoding="utf-8")
    assert set(contracts["importlinter"]["root_packages"].split()) == server_packages | {"consentry_client"}


def test_layout_every_package_declares_its_types(server_packages: set[str]) -> None:
    packages = [*(REPOSITORY / name for name in server_packages), REPOSITORY / "protos/gen/python/consentry"]
    packages.append(REPOSITORY / "clients/python/src/consentry_client")
    assert [path.name for path in packages if not (path / "py.typed").is_file()] == []


def test_layout_no_module_has_a_name_that_could_hold_anything(server_packages: set[str]) -> None:
    roots = [*server_packages, "tests", "benchmarks", "clients"]
    modules = [path for root in roots for path in (REPOSITORY / root).rglob("*.py")]
    assert [str(path) for path in modules if VAGUE_NAMES & {path.stem, path.parent.name}] == []


@pytest.mark.parametrize("name", ["runtime.lock", "dev.lock"])
def test_lock_file_pins_every_package_by_hash_and_names_no_index(name: str) -> None:
    text = (REPOSITORY / "requirements" / name).read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE | re.IGNORECASE)
    unpinned = [block.split()[0] for block in packages if block.strip() and "--hash=sha256:" not in block]
    assert unpinned == []
    assert re.findall(r"://|^-", text, flags=re.MULTILINE) == []


def test_lock_files_agree_with_each_other() -> None:
    runtime, dev = (read_pins(REPOSITORY / "requirements" / name) for name in ("runtime.lock", "dev.lock"))
    assert runtime.items() <= dev.items()


def test_makefile_every_command_without_a_dash_has_a_sentence() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z-]+):(.*)$", text, flags=re.MULTILINE)
    silent = [name for name, rest in rules if "##" not in rest and not name.startswith("check-")]
    assert silent == []


def read_pins(path: Path) -> dict[str, str]:
    """Returns the version of each package of a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))

"""What `make check` says when the committed stubs and the contracts drift apart, on a copy of the real contracts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[3] / "protos"
STUB = Path("gen/python/consentry/event/v1/event_pb2.py")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the contracts with stubs generated from them once."""
    protos = tmp_path_factory.mktemp("contracts") / "protos"
    shutil.copytree(PROTOS, protos, ignore=shutil.ignore_patterns("__pycache__"))
    assert generate(protos).returncode == 0
    return protos


@pytest.fixture
def protos(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "protos"))


def test_generate_check_edited_stub_is_named_and_left_as_it_is(protos: Path) -> None:
    (protos / STUB).write_text("edited", encoding="utf-8")
    checked = generate(protos, "--check")
    assert checked.returncode == 1
    assert checked.stdout == "consentry/event/v1/event_pb2.py: differs from the contract\n"
    assert (protos / STUB).read_text(encoding="utf-8") == "edited"


def test_generate_changed_contract_rewrites_its_stubs_and_then_checks_clean(protos: Path) -> None:
    with (protos / "consentry/event/v1/event.proto").open("a", encoding="utf-8") as contract:
        contract.write("\nmessage Added {\n  string name = 1;\n}\n")
    assert generate(protos, "--check").returncode == 1
    assert generate(protos).returncode == 0
    assert "class Added" in (protos / STUB).with_suffix(".pyi").read_text(encoding="utf-8")
    assert generate(protos, "--check").returncode == 0


def test_generate_stub_of_a_removed_contract_is_removed(protos: Path) -> None:
    orphan = protos / "gen/python/consentry/event/v1/removed_pb2.pyi"
    orphan.write_text("", encoding="utf-8")
    assert "no contract stands behind" in generate(protos, "--check").stdout
    generate(protos)
    assert not orphan.exists()


def test_generate_bound_below_what_the_code_accepts_is_named(protos: Path) -> None:
    project = protos / "gen/python/pyproject.toml"
    lines = project.read_text(encoding="utf-8").splitlines(keepends=True)
    project.write_text("".join(line for line in lines if '"grpcio>=' not in line), encoding="utf-8")
    checked = generate(protos, "--check")
    assert checked.returncode == 1
    assert "the generated code needs grpcio>=" in checked.stdout


def generate(protos: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the generator of a copy in a process of its own."""
    command = [sys.executable, str(protos / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)

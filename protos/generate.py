"""Generates the Python code of the contracts into `protos/gen/python`, or shows where the committed code differs.

Without an argument it writes; with `--check` it writes nothing, prints what `make protos` would change and exits 1.
It needs no network: the compiler comes from grpcio-tools and the typed stubs from mypy-protobuf, both locked.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
DISTRIBUTION = PROTOS / "gen" / "python"
GENERATED_NAME = re.compile(r"_pb2(_grpc)?\.pyi?$")
GRPC_VERSION = re.compile(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", re.MULTILINE)
PROTOBUF_VERSION = re.compile(r"^# Protobuf Python Version: ([\d.]+)$", re.MULTILINE)


def main() -> int:
    """Writes the generated code, or compares it, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where the committed code differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        expected = compile_protos(Path(folder))
    changed = list(find_changes(expected))
    if not check:
        for path in changed:
            write_generated(path, expected.get(path))
    problems = [f"{path}: {describe_change(path, expected)}" for path in changed if check]
    problems += find_stale_bounds(expected)
    print("\n".join(problems) or f"protos: {len(expected)} generated files are up to date")
    if problems and check:
        print("run `make protos` and commit what it writes", file=sys.stderr)
    return 1 if problems else 0


def compile_protos(folder: Path) -> dict[Path, bytes]:
    """Compiles every contract.

    Args:
        folder: An empty folder for the compiler to write to.

    Returns:
        The content of each generated file by its path relative to the distribution.

    Raises:
        subprocess.CalledProcessError: The compiler refused a file; it has said why.
    """
    contracts = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("consentry/**/*.proto"))
    scripts = Path(sys.executable).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    command += [f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command += [f"--{kind}_out={folder}" for kind in ("python", "grpc_python")]
    command += [f"--{kind}_out=quiet:{folder}" for kind in ("mypy", "mypy_grpc")]
    subprocess.run([*command, *contracts], check=True)  # noqa: S603 - our own interpreter over our own files
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def find_changes(expected: dict[Path, bytes]) -> Iterator[Path]:
    """Yields each path whose committed file differs, is missing, or has no contract any more."""
    package = DISTRIBUTION / "consentry"
    committed = {path.relative_to(DISTRIBUTION) for path in package.rglob("*") if GENERATED_NAME.search(path.name)}
    for path in sorted(committed | expected.keys()):
        if path not in committed or path not in expected or (DISTRIBUTION / path).read_bytes() != expected[path]:
            yield path


def describe_change(path: Path, expected: dict[Path, bytes]) -> str:
    """Says in words how a committed file differs from the contracts."""
    if path not in expected:
        return "no contract stands behind this file any more"
    return "differs from the contract" if (DISTRIBUTION / path).exists() else "not generated yet"


def write_generated(path: Path, content: bytes | None) -> None:
    """Writes one generated file below the distribution, or removes it where the content is None."""
    target = DISTRIBUTION / path
    if content is None:
        target.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def find_stale_bounds(expected: dict[Path, bytes]) -> list[str]:
    """Compares the distribution's lower bounds with the oldest runtimes that the generated code accepts.

    Generated code raises at import under an older runtime, so a bound below that breaks users and not us.
    """
    source = b"\n".join(expected.values()).decode()
    project = tomllib.loads((DISTRIBUTION / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    problems = []
    for name, pattern in (("grpcio", GRPC_VERSION), ("protobuf", PROTOBUF_VERSION)):
        for version in sorted(set(pattern.findall(source))):
            bound = f"{name}>={version}"
            if not any(line == bound or line.startswith(f"{bound},") for line in project["dependencies"]):
                problems.append(f"gen/python/pyproject.toml: the generated code needs {bound}")
    return problems


if __name__ == "__main__":
    sys.exit(main())

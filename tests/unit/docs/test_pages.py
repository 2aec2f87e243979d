"""Links, names and commands in the documents: what a page points at must be there."""

import re
import shlex
from collections.abc import Iterator
from functools import partial
from typing import Any

import consentry_client
import grpc
import pytest
import typer
from consentry_client.testing import FakeSidecar

from consent import receipt
from consent.errors import ConsentError
from consent.event import EventType
from consent.eventlog.errors import EventLogError
from consent.policy import PolicyError
from consent.vocabulary.directive import Kind
from consent.vocabulary.reason import Effect, Reason
from feed.alerts import Alert
from feed.errors import FeedError
from feed.grpc_api import sync_errors
from hosting.errors import HostingError
from sidecar.errors import SidecarError
from sidecar.ports import SyncState
from tests.unit.docs.pages import DOCS, REPOSITORY, code_blocks, page_names, prose, read_page

PAGES = page_names()
OURS = [name for name in PAGES if name not in ("docs/cli.md", "docs/configuration.md")]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CAPITALS = re.compile(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`")
_COMMAND = re.compile(r"^\$ (consentry(?:-\w+)?) (.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", OURS)
def test_page_every_link_inside_the_repository_leads_somewhere(page: str) -> None:
    broken = [target for target in _LINK.findall(prose(read_page(page))) if not is_there(page, target)]
    assert broken == []


def is_there(page: str, target: str) -> bool:
    """Whether a link of a page leads to a file and, where it names one, to a heading in it."""
    if target.startswith(("http://", "https://")):
        return True
    path, _, anchor = target.partition("#")
    file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
    if not file.exists():
        return False
    return not anchor or anchor in {
        to_anchor(line) for line in re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def to_anchor(heading: str) -> str:
    """The anchor that a renderer makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_index_lists_every_page() -> None:
    listed = set(_LINK.findall(read_page("docs/index.md")))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert pages - listed == set()


def test_decisions_index_has_each_title() -> None:
    rows = dict(re.findall(r"^\| \[\d+\]\((.*?)\) \| (.*) \|$", read_page("docs/index.md"), re.MULTILINE))
    titles = {f"adr/{path.name}": path.read_text(encoding="utf-8").splitlines()[0] for path in DOCS.glob("adr/*.md")}
    assert rows == {name: title.partition(". ")[2] for name, title in titles.items()}


@pytest.mark.parametrize("path", sorted(DOCS.glob("adr/*.md")), ids=lambda path: path.name)
def test_decision_page_has_its_number_a_status_and_all_parts(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.search(r"^Status: (accepted|replaced by \d{4})$", text, re.MULTILINE)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Rejected"]


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "docs/decision.md", "docs/protocol.md"])
def test_page_names_no_reason_that_the_code_does_not_have(page: str) -> None:
    unknown = set(_CAPITALS.findall(read_page(page))) - known_names() - {"_STALE"}
    assert {name for name in unknown if not name.startswith(("CONSENTRY_", "OTEL_"))} == set()


def known_names() -> set[str]:
    """Everything in capitals that the code means something by."""
    roots = (ConsentError, EventLogError, PolicyError, HostingError, SidecarError, FeedError)
    reasons = {error.reason for root in roots for error in with_subclasses(root)}
    enumerated = {member.name for names in (Alert, Effect, Reason, EventType, Kind, SyncState) for member in names}
    # Imported for what they add to the errors.
    assert {sync_errors.LogFork.reason, receipt.MalformedReceipt.reason} <= reasons
    return reasons | enumerated | {code.name for code in grpc.StatusCode}


def with_subclasses(error_class: Any) -> Iterator[Any]:
    """A class and all below it."""
    yield error_class
    for below in error_class.__subclasses__():
        yield from with_subclasses(below)


def commands() -> list[tuple[str, str]]:
    """Every command of ours in the README's terminals: program and arguments."""
    blocks = (block.replace("\\\n", "") for block in code_blocks(read_page("README.md"), "console"))
    return [found for block in blocks for found in _COMMAND.findall(block)]


def test_readme_shows_every_program_at_work() -> None:
    assert {program for program, _ in commands()} == {
        "consentry",
        "consentry-auditor",
        "consentry-feed",
        "consentry-sidecar",
    }


@pytest.mark.parametrize(("program", "arguments"), commands(), ids=[" ".join(found)[:60] for found in commands()])
def test_readme_command_is_one_that_the_program_takes(program: str, arguments: str) -> None:
    command: Any = typer.main.get_command(load_app(program))
    words = shlex.split(arguments)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    # Only what is parsed: nothing is run, and files need not be there.
    command.make_context(command.name, words, resilient_parsing=False)


def load_app(program: str) -> typer.Typer:
    """The Typer application behind a command."""
    if program == "consentry-feed":
        from feed.cli import app as feed_app

        return feed_app
    if program == "consentry-sidecar":
        from sidecar.cli import app as sidecar_app

        return sidecar_app
    if program == "consentry-auditor":
        from auditor.cli import app as auditor_app

        return auditor_app
    from consentry_client.cli import app as client_app

    return client_app


def test_readme_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = code_blocks(read_page("README.md"), "python")
    with FakeSidecar() as sidecar:
        monkeypatch.setenv("CONSENTRY_ADDRESS", sidecar.address)
        # As shown, and patient: a busy machine may need longer than a check is worth waiting for.
        monkeypatch.setattr(consentry_client, "Client", partial(consentry_client.Client, timeout_seconds=20))
        exec(compile(example, "README.md", "exec"), {})
        assert sidecar.calls[0].purposes == ("newsletter_email",)
    assert capsys.readouterr().out.startswith("do not send it: NO_CONSENT_SUBJECT_UNKNOWN ")


def test_readme_has_the_place_for_the_demo_output_once() -> None:
    assert read_page("README.md").count("<!-- demo output -->") == 1

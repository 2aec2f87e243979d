"""docs/security-roles.md against the code: the tables by which operators hand out certificates."""

from consentry.audit.v1 import journal_pb2

from feed.grpc_api.roles import PERMISSIONS, Role
from sidecar.config import CallerSettings, Method
from sidecar.grpc_api.decision_service import SERVICE
from sidecar.sync import feed_failures
from tests.unit.docs.pages import read_page, table_rows

PAGE = read_page("docs/security-roles.md")


def cells(*answers: bool) -> list[str]:
    return ["yes" if answer else "no" for answer in answers]


def test_feed_table_is_that_of_the_code() -> None:
    expected = [[f"`{method}`", *cells(*(role in roles for role in Role))] for method, roles in PERMISSIONS.items()]
    assert table_rows(PAGE, "Feed") == expected


def test_feed_table_has_a_column_for_each_role() -> None:
    heading = next(line for line in PAGE.splitlines() if line.startswith("| method | `sidecar`"))
    assert heading == f"| method | {' | '.join(f'`{role.value}`' for role in Role)} |"


def test_sidecar_table_is_that_of_the_code() -> None:
    default = CallerSettings(name="app").methods
    expected = [[f"`{SERVICE}/{method.value}`", *cells(method in default, True, False)] for method in Method]
    (journal,) = journal_pb2.DESCRIPTOR.services_by_name.values()
    expected += [[f"`{journal.full_name}/{method.name}`", *cells(False, True, True)] for method in journal.methods]
    assert table_rows(PAGE, "Sidecar") == expected


def test_refusals_table_has_every_text_about_the_feeds_certificate() -> None:
    printed = " ".join(" ".join(row) for row in table_rows(PAGE, "When a connection is refused"))
    for _, meaning in feed_failures.UNTRUSTED:
        assert meaning.partition(";")[0] in printed

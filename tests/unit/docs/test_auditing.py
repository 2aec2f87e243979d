"""The page for auditors names everything that `verify` can find, and nothing else."""

import re

from auditor.verify import Reason
from tests.unit.docs.pages import read_page


def test_auditing_page_explains_every_reason() -> None:
    page = read_page("docs/auditing.md")
    section = page[page.index("### Findings") : page.index("### What it cannot tell")]
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+|CRASHED|DISPOSED)`", section))
    assert named == {reason.value for reason in Reason}

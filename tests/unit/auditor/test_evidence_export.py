"""The evidence folder: reproducible, signed, without identifiers, escaped, and there as a whole or not at all."""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from auditor.evidence.catalogue import SECTIONS, TITLES
from auditor.evidence.errors import EvidenceExists, EvidenceHoldsIdentifiers, EvidenceUnreadable, EvidenceUnwritable
from auditor.evidence.export import Exported, export_evidence
from auditor.evidence.manifest import open_manifest, read_manifest_file, verify_files
from auditor.evidence.masking import IdentifierFinder
from auditor.evidence.samples import HEAD_SAMPLES, LOG_SAMPLES, verify_samples
from auditor.evidence.scope import SuppliedFile
from auditor.findings import Severity
from auditor.folder import AuditFolder
from auditor.progress import no_progress
from consent.decision_record import format_question, format_record
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.keys import KeyKind, VerifierKey, generate_signing_key
from hosting.development_ca import create_development_ca, issue_certificate
from tests.fakes.audit_material import JournalBuilder, write_folder
from tests.fakes.evidence_material import AUDITOR_SIGNING_KEY, DAY_MS, EvidenceLog, build_folder, scope_of
from tests.fakes.journal_material import QUESTION, make_call
from tests.fakes.log_builder import START_MS, token_of

IDENTIFIER = "max.muster@example.org"
HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "wbr", "br", "rect", "line", "link"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> AuditFolder:
    return build_folder(tmp_path_factory.mktemp("audit") / "folder", days=7)


@pytest.fixture(scope="module")
def evidence(folder: AuditFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence") / "out"
    export(folder, out)
    return out


def export(folder: AuditFolder, out: Path, **fields: object) -> Exported:
    return export_evidence(folder, scope_of(folder, **fields), AUDITOR_SIGNING_KEY, out, no_progress)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def check(out: Path, key: VerifierKey = AUDITOR_SIGNING_KEY.verifier_key) -> list[str]:
    manifest = open_manifest(read_manifest_file(out), key)
    return [finding.reason for finding in verify_files(out, manifest)]


def test_export_of_the_same_scope_makes_the_same_bytes(folder: AuditFolder, evidence: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(evidence)
    assert check(evidence) == []
    assert list(verify_samples(evidence)) == []


def test_export_with_another_seed_draws_other_samples_and_changes_no_figure(
    folder: AuditFolder, evidence: Path, tmp_path: Path
) -> None:
    export(folder, tmp_path / "other", seed="seed-2")
    other, first = contents(tmp_path / "other"), contents(evidence)
    assert other[LOG_SAMPLES] != first[LOG_SAMPLES]
    assert other["data/5.31.json"] == first["data/5.31.json"]


def test_export_names_period_seed_log_and_auditor_in_the_signed_manifest(folder: AuditFolder, evidence: Path) -> None:
    facts = open_manifest(read_manifest_file(evidence), AUDITOR_SIGNING_KEY.verifier_key).facts
    checkpoint = verify_checkpoint((evidence / "samples/checkpoint.txt").read_bytes(), folder.trust, None).checkpoint
    assert facts["log_root"] == checkpoint.root_hash.hex()
    assert (facts["log_size"], facts["seed"]) == (str(checkpoint.size), "seed-1")
    assert (facts["from"], facts["to"], facts["auditor"]) == ("2026-01-01", "2026-01-31", "auditor")


def test_export_is_for_its_owner_alone(evidence: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in (evidence, *evidence.rglob("*"))} == {0}


def copy(evidence: Path, tmp_path: Path) -> Path:
    return shutil.copytree(evidence, tmp_path / "out")


def flip_last_byte(text: str) -> str:
    """Hexadecimal digits with another last byte."""
    return f"{text[:-2]}{int(text[-2:], 16) ^ 1:02x}"


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (lambda out: change(out / "report.html"), "FILE_CHANGED"),
        (lambda out: (out / "report.html").write_bytes((out / "report.html").read_bytes()[:-1]), "FILE_CHANGED"),
        (lambda out: (out / "data/5.31.json").unlink(), "FILE_MISSING"),
        (lambda out: (out / "data/more.csv").touch(), "FILE_NOT_LISTED"),
    ],
)
def test_manifest_shows_a_file_that_was_changed_cut_removed_or_added(
    evidence: Path, tmp_path: Path, tamper: Callable[[Path], object], reason: str
) -> None:
    out = copy(evidence, tmp_path)
    tamper(out)
    assert check(out) == [reason]


def test_manifest_that_was_changed_or_signed_by_another_is_refused(evidence: Path, tmp_path: Path) -> None:
    out = copy(evidence, tmp_path)
    other = generate_signing_key("auditor", KeyKind.AUDITOR, bytes(range(3, 35)))
    with pytest.raises(EvidenceUnreadable):
        check(out, other.verifier_key)
    with pytest.raises(EvidenceUnreadable, match="must be an auditor's key"):
        check(out, VerifierKey("auditor", KeyKind.LOG, AUDITOR_SIGNING_KEY.verifier_key.public_key))
    path = out / "manifest.txt"
    path.write_text(path.read_text().replace("seed seed-1", "seed seed-9"))
    with pytest.raises(EvidenceUnreadable):
        check(out)


@pytest.mark.parametrize(
    ("name", "list_name", "field"),
    [(LOG_SAMPLES, "entries", "commitment"), (LOG_SAMPLES, "entries", "seq"), (HEAD_SAMPLES, "heads", "head")],
)
def test_samples_that_are_not_what_the_log_holds_are_found(
    evidence: Path, tmp_path: Path, name: str, list_name: str, field: str
) -> None:
    out = copy(evidence, tmp_path)
    content = json.loads((out / name).read_bytes())
    first = content[list_name][0]
    first[field] = first[field] % 5 + 1 if isinstance(first[field], int) else flip_last_byte(first[field])
    (out / name).write_text(json.dumps(content))
    assert len(list(verify_samples(out))) == 1


def test_export_to_a_folder_that_exists_is_refused(folder: AuditFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(EvidenceExists):
        export(folder, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_export_that_is_interrupted_leaves_nothing(folder: AuditFolder, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        # While the evidence itself is searched there is a folder beside the final place.
        if list(tmp_path.iterdir()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_evidence(folder, scope_of(folder), AUDITOR_SIGNING_KEY, tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_export_to_a_folder_that_appears_meanwhile_leaves_that_as_it_is(folder: AuditFolder, tmp_path: Path) -> None:
    def create(what: str, done: int, total: int) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)

    with pytest.raises(EvidenceExists):
        export_evidence(folder, scope_of(folder), AUDITOR_SIGNING_KEY, tmp_path / "out", create)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert list((tmp_path / "out").iterdir()) == []


def test_export_where_nothing_can_be_written_says_so(folder: AuditFolder, tmp_path: Path) -> None:
    with pytest.raises(EvidenceUnwritable, match="No such file"):
        export(folder, tmp_path / "missing" / "out")


def plant_in_journal_copy(made: EvidenceLog, path: Path) -> None:
    journal = JournalBuilder(path, made.log.origin)
    with journal.path.open("ab") as file:
        file.write(f"\x00{IDENTIFIER}\x00".encode())


def plant_in_record(made: EvidenceLog, path: Path) -> None:
    question = format_question(replace(QUESTION, caller=IDENTIFIER))
    JournalBuilder(path, made.log.origin).write([format_record(make_call(1)._replace(question=question))])


def plant_in_name(made: EvidenceLog, path: Path) -> None:
    JournalBuilder(path, made.log.origin, IDENTIFIER)


def plant_in_log(made: EvidenceLog, path: Path) -> None:
    made.admin("s/Resolve", START_MS, detail=f"for {IDENTIFIER}")


def plant_in_foreign_file(made: EvidenceLog, path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text(f"ask {IDENTIFIER}")


@pytest.mark.parametrize(
    "plant", [plant_in_journal_copy, plant_in_record, plant_in_name, plant_in_log, plant_in_foreign_file]
)
def test_identifier_planted_in_the_audit_folder_is_found_and_never_exported(
    tmp_path: Path, plant: Callable[[EvidenceLog, Path], None]
) -> None:
    made = EvidenceLog()
    plant(made, tmp_path / "folder")
    folder = write_folder(tmp_path / "folder", made.log)
    exported = export(folder, tmp_path / "out")
    assert "IDENTIFIER_IN_CLEAR" in [finding.reason for finding in exported.report["5.34_8.11"].findings]
    everything = b"".join(contents(tmp_path / "out").values())
    assert IDENTIFIER.encode() not in everything
    assert b"max.muster" not in everything


def test_known_identifier_is_found_by_its_line_and_never_exported(tmp_path: Path) -> None:
    made = EvidenceLog()
    made.admin("s/Resolve", START_MS, detail="for CUSTOMER-4711, on request")
    folder = write_folder(tmp_path / "folder", made.log)
    exported = export(folder, tmp_path / "out", finder=IdentifierFinder([(2, b"customer-4711")]))
    assert {finding.text for finding in exported.report["5.34_8.11"].findings} >= {
        "known identifier on line 2 in clear"
    }
    assert b"4711" not in b"".join(contents(tmp_path / "out").values())


def test_export_that_would_carry_an_identifier_in_a_name_of_the_trust_file_makes_no_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", EvidenceLog().log)
    with pytest.raises(EvidenceHoldsIdentifiers):
        export(folder, tmp_path / "out", exporter=IDENTIFIER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_export_holds_no_token(evidence: Path) -> None:
    everything = b"".join(contents(evidence).values())
    token = token_of("person 1 1")
    assert token not in everything
    assert token.hex().encode() not in everything


def test_page_on_evidence_explains_every_reason_and_every_control() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs/evidence.md").read_text()
    code = "".join(path.read_text() for path in (root / "auditor/evidence").rglob("*.py"))
    reasons = set(re.findall(r'Finding\(\s*"([A-Z_]+)"', code)) | set(re.findall(r'_find\("([A-Z_]+)"', code))
    assert len(reasons) > 20
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in page] == []
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    named = {row.strip().replace("\N{EN DASH}", "-").replace(", ", "_") for row in rows}
    assert [spec.slug for spec in SECTIONS if spec.slug not in named] == []


class Page(HTMLParser):
    """What a reader's program sees of a report."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self._captions = 0
        self.feed(content.decode())
        self.close()
        self.faults += [f"not closed: {tag}" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags[tag] += 1
        self.attributes |= given.keys()
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if tag == "th" and "scope" not in given:
            self.faults.append("a header cell without scope")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"closed out of order: {tag}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_report_is_well_formed_self_contained_and_accessible(evidence: Path) -> None:
    content = (evidence / "report.html").read_bytes()
    page = Page(content)
    assert page.faults == []
    assert page.tags.keys().isdisjoint({"script", "img", "link", "iframe", "object", "form", "base"})
    assert page.attributes.isdisjoint({"src", "onclick", "onload", "style"})
    assert content.count(b"http:") == content.count(b'xmlns="http://www.w3.org/2000/svg"')
    assert b"https:" not in content
    assert b"url(" not in content
    assert b"@import" not in content
    assert page.tags["table"] == page.tags["caption"]
    assert page.tags["svg"] == page.tags["title"] - 1 == page.tags["desc"]
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    for link in page.links:
        assert link.removeprefix("#") in page.ids if link.startswith("#") else (evidence / link).is_file()


def test_report_shows_every_control_with_its_title_and_what_is_open(evidence: Path) -> None:
    text = " ".join("".join(Page((evidence / "report.html").read_bytes()).text).split())
    for spec in SECTIONS:
        assert spec.shows in text
        for number in spec.controls:
            assert f"{number} {TITLES[number]}" in text
        for what, who in spec.open_points:
            assert f"{what} (from: {who})" in text
    assert {number for spec in SECTIONS for number in spec.controls} == TITLES.keys()


def test_report_escapes_hostile_names(tmp_path: Path) -> None:
    made = EvidenceLog()
    made.admin(HOSTILE, START_MS, actor=f'"{HOSTILE}')
    made.admin("s/m", START_MS, HOSTILE, actor=HOSTILE)
    made.reject(HOSTILE, START_MS, HOSTILE)
    made.alert(START_MS, about=HOSTILE)
    folder = write_folder(tmp_path / "folder", made.log)
    export(folder, tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_bytes())
    assert page.faults == []
    assert page.tags["script"] == 0
    assert HOSTILE in "".join(page.text)


def test_csv_cells_are_no_formulas_and_numbers_stay_numbers(tmp_path: Path) -> None:
    made = EvidenceLog()
    for first in "=+-@":
        made.reject(f"{first}cmd|x", START_MS)
    made.reject('a,"b"\n', START_MS)
    folder = write_folder(tmp_path / "folder", made.log)
    export(folder, tmp_path / "out")
    with (tmp_path / "out/data/5.15_8.3-refused-requests.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["source", "reason", "times"]
    sources = {"'=cmd|x", "'+cmd|x", "'-cmd|x", "'@cmd|x", 'a,"b"\N{REPLACEMENT CHARACTER}'}
    assert {tuple(row) for row in rows} == {(source, "CALLER_NOT_PERMITTED", "1") for source in sources}


def test_supplied_file_is_copied_hashed_and_shown_with_its_supplier(folder: AuditFolder, tmp_path: Path) -> None:
    path = tmp_path / "bill of materials.JSON"
    path.write_text('{"components": [{}, {}], "author": "dev@example.org"}')
    supplied = SuppliedFile("sbom", path, "build team")
    exported = export(folder, tmp_path / "out", supplied=(supplied,))
    content = path.read_bytes()
    assert (tmp_path / "out/supplied/sbom-1.json").read_bytes() == content
    (table,) = exported.report["8.8_8.28"].tables
    digest = hashlib.sha256(content).hexdigest()
    assert table.rows == (("sbom", "supplied/sbom-1.json", len(content), digest, "build team", "components: 2"),)
    # Its authors' address is told, and no finding.
    assert [finding.severity for finding in exported.report["5.34_8.11"].findings] == [Severity.NOTE]
    texts = [point.what for point in exported.report["8.8_8.28"].open_points]
    assert "Vulnerability report: not supplied" in texts
    assert "Bill of materials (SBOM): not supplied" not in texts


def test_supplied_file_with_a_known_identifier_is_not_copied(folder: AuditFolder, tmp_path: Path) -> None:
    path = tmp_path / "incidents.txt"
    path.write_text("On Monday Jane Roe called.")
    supplied = SuppliedFile("incidents", path, "office")
    exported = export(folder, tmp_path / "out", supplied=(supplied,), finder=IdentifierFinder([(1, b"jane roe")]))
    assert not (tmp_path / "out/supplied").exists()
    assert not exported.report.is_clean


def test_certificates_are_described_and_an_expired_one_is_a_finding(folder: AuditFolder, tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    directory.mkdir(mode=0o700)
    create_development_ca(directory)
    issue_certificate(directory, "feed", san_dns=["feed.example"], san_uris=["spiffe://example/feed"])
    (directory / "broken.pem").write_text("no certificate")
    exported = export(folder, tmp_path / "out", certificates=directory)
    section = exported.report["5.14_8.20_8.21"]
    rows = next(table.rows for table in section.tables if table.name == "certificates")
    assert [(row[0], row[1], row[4], row[6]) for row in rows] == [
        ("ca.pem", "", "EC secp256r1", "yes"),
        ("feed.pem", "feed.example, spiffe://example/feed", "EC secp256r1", "no"),
    ]
    assert [finding.reason for finding in section.findings] == ["CERTIFICATE_UNREADABLE"]
    later = START_MS + int(timedelta(days=36_500) / timedelta(milliseconds=1)) + DAY_MS
    expired = export(folder, tmp_path / "later", certificates=directory, generated_at_ms=later)
    found = [finding.reason for finding in expired.report["5.14_8.20_8.21"].findings]
    assert found.count("CERTIFICATE_EXPIRED") == 2
    everything = b"".join(contents(tmp_path / "out").values())
    assert b"PRIVATE KEY" not in everything

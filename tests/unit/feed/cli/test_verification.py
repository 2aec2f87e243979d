"""`consentry-feed verify-log`: what an auditor types, and what the exit code says."""

import json
from pathlib import Path

import pytest

from consent.eventlog.keys import KeyKind, SigningKey, format_verifier_key, generate_signing_key
from consent.eventlog.trust import seal_trust
from feed.cli import main
from feed.signing.key_store import KEK_FILE, KEY_FILES
from hosting.key_files import create_key_file
from hosting.locks import InstanceLock
from tests.fakes.feed_log import KEYS, ORIGIN, TENANT, TRUST, seed
from tests.unit.feed.verification.stored_logs import change, first_events, write_log


class Site:
    """A log of six entries, its key, a trust file, and the command line."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.log, self.keys, self.trust = folder / "log", folder / "keys", folder / "trust.note"
        write_log(self.log, first_events())
        self.keys.mkdir()
        create_key_file(self.keys / KEK_FILE, KEYS.kek, use=KEY_FILES[KEK_FILE])
        root_key = generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, seed("root"))
        self.trust.write_bytes(seal_trust(TRUST, root_key))
        self.write_root(root_key)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def write_root(self, root_key: SigningKey) -> None:
        self.trust.with_name("root.pub").write_text(format_verifier_key(root_key.verifier_key), encoding="utf-8")

    def verify(self, *more: object) -> tuple[int, str, str]:
        arguments = ("verify-log", "--log", self.log, "--keys", self.keys, "--trust", self.trust, *more)
        return self.run(*arguments)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.argv", ["consentry-feed", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = self._capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, monkeypatch, capsys)


def test_verify_log_sound_exits_0_and_says_what_was_signed(site: Site) -> None:
    code, said, shown = site.verify("--state")
    assert (code, shown) == (0, "")
    assert "Signed: 6 entries" in said
    assert "6 entries verified, their folded state too" in said
    code, said, _ = site.verify("--json")
    fields = json.loads(said)
    assert code == 0
    assert (fields["tenant"], fields["origin"], fields["entries"], fields["signed_size"]) == (TENANT, ORIGIN, 6, 6)
    assert (fields["findings"], fields["state_checked"]) == ([], False)


def test_verify_log_damaged_exits_1_and_names_every_entry(site: Site) -> None:
    change(site.log, "DELETE FROM entry WHERE seq = 3", "UPDATE entry SET type = 3 WHERE seq = 5")
    code, said, _ = site.verify()
    assert code == 1
    assert "ENTRIES_MISSING: entries 3 to 3 are missing" in said
    assert "ENTRY_UNREADABLE: entry 5" in said
    assert "2 findings" in said
    code, said, _ = site.verify("--json")
    fields = json.loads(said)
    assert code == 1
    assert [(finding["reason"], finding["seq"]) for finding in fields["findings"]] == [
        ("ENTRIES_MISSING", 3),
        ("ENTRY_UNREADABLE", 5),
    ]


def test_verify_log_that_cannot_be_checked_exits_2_and_says_why(site: Site) -> None:
    with InstanceLock(site.log):
        code, _, shown = site.verify()
    assert (code, "INSTANCE_LOCKED" in shown) == (2, True)
    code, _, shown = site.verify("--log", site.keys)
    assert (code, "there is no log" in shown) == (2, True)
    code, _, shown = site.verify("--keys", site.log)
    assert (code, "KEY_FILE_MISSING" in shown) == (2, True)
    code, _, shown = site.run("verify-log", "--log", site.log, "--trust", site.trust)
    assert (code, "--keys" in shown) == (2, True)


def test_verify_log_trust_file_by_another_root_key_exits_2(site: Site) -> None:
    site.write_root(generate_signing_key(f"{ORIGIN}/root", KeyKind.LOG, seed("another root")))
    code, said, shown = site.verify()
    assert (code, said) == (2, "")
    assert "INSUFFICIENT_SIGNATURES" in shown


def test_verify_log_several_at_once_do_not_stand_in_each_others_way(site: Site) -> None:
    from hosting.locks import keep_still

    with keep_still(site.log):
        assert site.verify()[0] == 0

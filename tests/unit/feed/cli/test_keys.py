"""`consentry-feed keys`: making keys, changing whom the trust file believes, rotating without a stop."""

import json
from pathlib import Path

import pytest

from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, parse_signing_key, parse_verifier_key
from consent.eventlog.merkle import EMPTY_ROOT_HASH
from consent.eventlog.trust import Trust, open_trust
from feed.cli import main
from feed.cli.session import load
from feed.errors import ForeignLog
from feed.runtime import running_feed
from feed.setup import Installation, set_up
from feed.signing.key_store import load_keys
from feed.signing.log_signer import LogSigner

ORIGIN = "consent.example/log"
NOW = 1_800_000_000


class Site:
    """What `init` makes, and the command line on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        set_up(Installation(folder, "demo", ORIGIN, "sidecar-1", 7740))
        self.trust_file = folder / "trust" / "trust.note"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("CONSENTRY_TRUST_FILE", str(self.trust_file))
        monkeypatch.setenv("CONSENTRY_ROOT_KEY", str(folder / "trust" / "root.key"))
        monkeypatch.setenv("CONSENTRY_FEED_CONFIG", str(folder / "feed" / "feed.yaml"))

    def run(self, *arguments: object) -> tuple[int, str]:
        self._monkeypatch.setattr("sys.argv", ["consentry-feed", "keys", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = self._capsys.readouterr()
        return int(caught.value.code or 0), said.out + said.err

    def trust(self) -> Trust:
        root = parse_verifier_key((self.folder / "trust" / "root.pub").read_text(encoding="utf-8").strip())
        return open_trust(self.trust_file.read_bytes(), root)

    def create(self, role: str, name: str) -> Path:
        file = self.folder / f"{role}-{name.rpartition('/')[2]}.key"
        assert self.run("create", role, name, "--out", file)[0] == 0
        return file

    def sign(self) -> bytes:
        keys = load_keys(self.folder / "feed" / "keys", ORIGIN)
        return LogSigner(keys.log_key, keys.cosigner_key, keys.next_keys).sign(ORIGIN, 0, EMPTY_ROOT_HASH, NOW * 1000)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path / "site", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("role", "kind"),
    [("root", KeyKind.LOG), ("source", KeyKind.SOURCE), ("approver", KeyKind.APPROVER), ("witness", KeyKind.COSIGNER)],
)
def test_create_writes_a_private_file_and_shows_the_public_half_alone(site: Site, role: str, kind: KeyKind) -> None:
    file = site.folder / "new.key"
    code, said = site.run("create", role, f"consent.example/{role}", "--out", file)
    key = parse_signing_key(file.read_text(encoding="utf-8").strip())
    assert (code, key.kind, file.stat().st_mode & 0o777) == (0, kind, 0o600)
    assert parse_verifier_key(said.strip()) == key.verifier_key
    assert file.with_suffix(".pub").read_text(encoding="utf-8") == said
    before = file.read_bytes()
    assert site.run("create", role, "consent.example/again", "--out", file)[0] == 2
    assert file.read_bytes() == before


def test_add_show_retire_and_remove_change_whom_sidecars_believe(site: Site) -> None:
    witness = site.create("witness", "witness.example/1").with_suffix(".pub")
    source = site.create("source", "consent.example/shop").with_suffix(".pub").read_text(encoding="utf-8").strip()
    assert site.run("add", "witness", witness)[0] == 0
    assert site.run("set", "--witness-threshold", 1)[0] == 0
    assert site.run("add", "source", source, "--source", "shop", "--purpose", "newsletter", "--max-proof", 2)[0] == 0
    shown = json.loads(site.run("show", "--json")[1])
    assert shown["witness_threshold"] == 1
    rows = {row["name"]: row for row in shown["keys"]}
    assert rows["consent.example/shop"]["rights"]["purposes"] == ["newsletter"]
    code, table = site.run("show")
    assert code == 0
    assert rows["witness.example/1"]["key_id"] in table
    shop, seen = rows["consent.example/shop"]["key_id"], rows["witness.example/1"]["key_id"]
    code, said = site.run("remove", shop)
    assert (code, "KEY_NOT_REVOCABLE" in said) == (1, True)
    assert site.run("retire", shop, "--last-seq", 7)[0] == 0
    ended = next(key for key in site.trust().source_keys if key.rights is not None and key.rights.source == "shop")
    assert (ended.covers(7), ended.covers(8)) == (True, False)
    code, said = site.run("remove", seen)
    assert (code, "witness_threshold" in said) == (1, True)
    assert site.run("set", "--witness-threshold", 0)[0] == 0
    assert site.run("remove", seen)[0] == 0
    assert site.trust().witness_keys == ()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("remove", "00000000"), 1, "KEY_UNKNOWN"),
        (("retire", "00000000", "--last-seq", "1"), 1, "KEY_UNKNOWN"),
        (("retire", "00000000"), 2, "--until or --last-seq"),
        (("add", "source", "a+b+c"), 2, "--source"),
        (("add", "witness", "a+b+c"), 2, "MALFORMED_KEY"),
        (("add", "witness", "nowhere.pub"), 2, "No such file"),
        (("add", "root", "a+b+c"), 2, "root"),
        (("set",), 2, "nothing to set"),
        (("set", "--approver-threshold", "1"), 1, "approver_threshold"),
        (("rotate", "log", "--finish"), 2, "KEY_FILE_MISSING"),
    ],
)
def test_wrong_call_says_what_is_wrong_and_changes_nothing(
    site: Site, arguments: tuple[str, ...], code: int, said: str
) -> None:
    before = site.trust_file.read_bytes()
    assert (site.run(*arguments)[0], said in site.run(*arguments)[1]) == (code, True)
    assert site.trust_file.read_bytes() == before


def test_root_key_that_others_can_read_is_refused(site: Site) -> None:
    (site.folder / "trust" / "root.key").chmod(0o640)
    code, said = site.run("set", "--minimum-size", 1)
    assert (code, "make it 0600" in said) == (2, True)


def test_trust_file_of_another_root_is_refused(site: Site) -> None:
    other = site.create("root", "consent.example/other-root")
    code, said = site.run("set", "--minimum-size", 1, "--root-key", other)
    assert (code, "INSUFFICIENT_SIGNATURES" in said) == (2, True)


@pytest.mark.parametrize("role", ["log", "cosigner"])
def test_rotation_is_believed_at_every_step_under_the_old_and_the_new_trust_file(site: Site, role: str) -> None:
    old = site.trust()
    key_list = f"{role}_keys"
    old_id = getattr(old, key_list)[0].verifier_key.key_id.hex()
    code, said = site.run("rotate", role)
    assert code == 0
    assert site.run("rotate", role)[0] == 2
    public_key = said.splitlines()[0]
    both_sign = site.sign()
    assert site.run("add", role, public_key)[0] == 0
    both = site.trust()
    for trust in (old, both):
        verify_checkpoint(both_sign, trust, NOW)
    assert site.run("rotate", role, "--finish")[0] == 0
    new_signs = site.sign()
    verify_checkpoint(new_signs, both, NOW)
    assert site.run("remove", old_id)[0] == 0
    verify_checkpoint(new_signs, site.trust(), NOW)
    verify_checkpoint(both_sign, site.trust(), NOW)
    with pytest.raises(EventLogError):
        verify_checkpoint(new_signs, old, NOW)


async def test_log_key_that_was_rotated_while_the_feed_stood_still_opens_the_log(site: Site) -> None:
    settings = load(site.folder / "feed" / "feed.yaml")
    async with running_feed(settings) as feed:
        size = feed.log.head.size
    assert site.run("rotate", "log")[0] == 0
    assert site.run("rotate", "log", "--finish")[0] == 0
    async with running_feed(settings) as feed:
        assert feed.log.head.size == size
    (site.folder / "feed" / "keys" / "log-previous.pub").unlink()
    with pytest.raises(ForeignLog):
        async with running_feed(settings):
            pass

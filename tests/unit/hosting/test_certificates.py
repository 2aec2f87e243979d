"""A program's own certificate: what is taken from changed files, what is refused, and what the log says of its end."""

import logging
import re
from pathlib import Path

import pytest

from hosting.certificates import OwnCertificate, Validity
from hosting.errors import TlsError
from tests.fakes.certificates import DAY_MS, Authority, MountedSecret, make_authority
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


@pytest.fixture
def secret(tmp_path: Path, authority: Authority, clock: FakeClock) -> MountedSecret:
    secret = MountedSecret(tmp_path / "secret")
    secret.put(authority.issue_server(clock=clock), authority)
    return secret


def open_certificate(secret: MountedSecret, clock: FakeClock, warning_days: float = 14.0) -> OwnCertificate:
    files = secret.settings
    return OwnCertificate(
        files["cert_file"], files["key_file"], files["ca_file"], clock=clock, warning_days=warning_days
    )


def test_current_unchanged_files_give_the_same_material(secret: MountedSecret, clock: FakeClock) -> None:
    certificate = open_certificate(secret, clock)
    assert certificate.current() is certificate.current()


def test_current_files_written_anew_with_the_same_content_give_the_same_material(
    secret: MountedSecret, clock: FakeClock
) -> None:
    certificate = open_certificate(secret, clock)
    before = certificate.current()
    secret.put_contents(before.chain_pem, before.key_pem, before.ca_pem)
    assert certificate.current() is before


def test_current_changed_files_are_in_use(
    secret: MountedSecret, authority: Authority, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = open_certificate(secret, clock)
    renewed = authority.issue_server(clock=clock)
    with caplog.at_level(logging.INFO):
        secret.put(renewed, authority)
        assert certificate.current().chain_pem == renewed.cert_file.read_bytes()
    assert caplog.messages == ["changed certificate files are in use"]


def test_current_changed_authorities_alone_are_in_use(
    secret: MountedSecret, clock: FakeClock, authority: Authority, tmp_path: Path
) -> None:
    certificate = open_certificate(secret, clock)
    before, other = certificate.current(), make_authority(tmp_path / "other")
    bundle = before.ca_pem + other.ca_file.read_bytes()
    secret.put_contents(before.chain_pem, before.key_pem, bundle)
    assert certificate.current().ca_pem == bundle


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("cert", r"tls\.crt: no certificate in PEM"),
        ("key", r"tls\.key: not an unencrypted private key in PEM"),
        ("ca", r"ca\.crt: no certificate in PEM"),
        ("pair", r"tls\.key: not the key of the certificate in .*tls\.crt"),
    ],
)
def test_current_unusable_files_are_refused_by_name_once_and_the_former_stay(
    secret: MountedSecret,
    authority: Authority,
    clock: FakeClock,
    part: str,
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate = open_certificate(secret, clock)
    before, other = certificate.current(), authority.issue_server("other", clock=clock)
    contents = {"cert": before.chain_pem, "key": before.key_pem, "ca": before.ca_pem}
    half = {"pair": before.key_pem} | {name: pem[: len(pem) // 2] for name, pem in contents.items()}
    changed = contents | ({"cert": other.cert_file.read_bytes()} if part == "pair" else {part: half[part]})
    secret.put_contents(changed["cert"], changed["key"], changed["ca"])
    for _ in range(3):
        assert certificate.current() is before
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert re.search(f"refused.*{problem}", caplog.text)
    assert before.key_pem.decode() not in caplog.text
    with pytest.raises(TlsError, match=problem):
        open_certificate(secret, clock)


def test_current_file_gone_for_a_moment_is_refused_and_taken_when_it_is_back(
    secret: MountedSecret, authority: Authority, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = open_certificate(secret, clock)
    before = certificate.current()
    link = secret.directory / "tls.key"
    link.unlink()
    assert certificate.current() is before
    assert "tls.key: no such file" in caplog.text
    link.symlink_to(Path("..data") / "tls.key")
    renewed = authority.issue_server(clock=clock)
    secret.put(renewed, authority)
    assert certificate.current().chain_pem == renewed.cert_file.read_bytes()


def test_current_key_open_to_others_is_refused(
    secret: MountedSecret, authority: Authority, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = open_certificate(secret, clock)
    before = certificate.current()
    secret.put(authority.issue_server(clock=clock), authority)
    (secret.directory / "tls.key").resolve().chmod(0o640)
    assert certificate.current() is before
    assert "open to its group or to others" in caplog.text


@pytest.mark.parametrize(("days", "state"), [(-60, "expired"), (2, "not yet valid")])
def test_current_certificate_of_another_time_does_not_replace_a_valid_one(
    secret: MountedSecret,
    authority: Authority,
    clock: FakeClock,
    days: int,
    state: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate = open_certificate(secret, clock)
    before = certificate.current()
    secret.put(authority.issue_server(clock=FakeClock(clock.now_ms() + days * DAY_MS)), authority)
    assert certificate.current() is before
    assert f"the certificate is {state}" in caplog.text


def test_current_certificate_put_there_early_is_in_use_from_its_time_on(
    secret: MountedSecret, authority: Authority, clock: FakeClock
) -> None:
    certificate = open_certificate(secret, clock)
    early = authority.issue_server(clock=FakeClock(clock.now_ms() + 2 * DAY_MS))
    secret.put(early, authority)
    certificate.current()
    clock.advance(2 * DAY_MS)
    assert certificate.current().chain_pem == early.cert_file.read_bytes()


def test_current_expired_certificate_is_replaced_by_whatever_is_newer(
    secret: MountedSecret, authority: Authority, clock: FakeClock
) -> None:
    certificate = open_certificate(secret, clock)
    clock.advance(31 * DAY_MS)
    other = authority.issue_server("other", clock=FakeClock(clock.now_ms() - 31 * DAY_MS))
    secret.put(other, authority)
    assert certificate.current().chain_pem == other.cert_file.read_bytes()
    assert certificate.validity is Validity.EXPIRED


def test_validity_of_a_month_warns_for_its_last_third_and_not_earlier(secret: MountedSecret, clock: FakeClock) -> None:
    certificate = open_certificate(secret, clock)
    seen = [certificate.validity]
    for days in (19, 2, 9, 1):
        clock.advance(days * DAY_MS)
        seen.append(certificate.validity)
    assert seen == [Validity.VALID, Validity.VALID, Validity.ENDING, Validity.ENDING, Validity.EXPIRED]


def test_validity_warning_days_are_the_settings_where_they_are_less_than_a_third(
    secret: MountedSecret, clock: FakeClock
) -> None:
    certificate = open_certificate(secret, clock, warning_days=2.0)
    seen = []
    for days in (27, 2):
        clock.advance(days * DAY_MS)
        seen.append(certificate.validity)
    assert seen == [Validity.VALID, Validity.ENDING]


def test_validity_before_its_time_is_said(secret: MountedSecret, clock: FakeClock) -> None:
    certificate = open_certificate(secret, clock)
    clock.set_wall(clock.now_ms() - DAY_MS)
    assert certificate.validity is Validity.NOT_YET_VALID


def test_report_validity_logs_each_state_once_and_again_after_a_renewal(
    secret: MountedSecret, authority: Authority, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = open_certificate(secret, clock)
    certificate.report_validity()
    assert caplog.messages == []
    for days in (21, 1, 10, 1):
        clock.advance(days * DAY_MS)
        certificate.report_validity()
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert said == [
        (logging.WARNING, "the own certificate is ending"),
        (logging.ERROR, "the own certificate is expired"),
    ]
    caplog.clear()
    secret.put(authority.issue_server(clock=clock), authority)
    certificate.report_validity()
    assert caplog.messages == []
    clock.advance(25 * DAY_MS)
    certificate.report_validity()
    assert caplog.messages == ["the own certificate is ending"]


def test_report_validity_names_file_and_end(
    secret: MountedSecret, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = open_certificate(secret, clock)
    clock.advance(21 * DAY_MS)
    certificate.report_validity()
    fields = vars(caplog.records[0])["fields"]
    assert fields == {"cert_file": str(secret.settings["cert_file"]), "not_after": "2026-01-31T00:00:00+00:00"}

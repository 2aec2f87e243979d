from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from hosting.errors import SettingsError
from hosting.settings import load_settings, load_settings_with_origins
from tests.unit.hosting.settings_models import Detail, ProgramSettings

PREFIX = "CONSENTRY_TEST_"
MINIMAL = "cache:\n  directory: /var/cache\n"


def load(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> ProgramSettings:
    file = tmp_path / "program.yaml"
    file.write_text(text)
    variables = {f"{PREFIX}{name}": value for name, value in (environ or {}).items()}
    return load_settings(ProgramSettings, file=file, env_prefix=PREFIX, environ=variables)


def problems_of(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refusal:
        load(tmp_path, text, environ)
    assert refusal.value.reason == "SETTINGS_INVALID"
    prefix = f"{tmp_path}/"
    return tuple(problem.removeprefix(prefix) for problem in refusal.value.problems)


def test_load_settings_file_and_variables_variables_win(tmp_path: Path) -> None:
    text = MINIMAL + "  size_bytes: 5\nlisteners:\n  - address: unix:///run/a.sock\n    purposes: [no, 12:30]\n"

    settings = load(tmp_path, text, {"CACHE__SIZE_BYTES": "7", "REFLECTION": "true", "LIMITS": '{"marketing": 3}'})

    assert settings.cache.directory == Path("/var/cache")
    assert settings.cache.size_bytes == 7
    assert settings.reflection is True
    assert settings.limits == {"marketing": 3}
    assert settings.listeners[0].purposes == ("no", "12:30")
    assert settings.listeners[0].detail is Detail.EFFECT


def test_load_settings_without_a_file_takes_variables_alone() -> None:
    environ = {"CONSENTRY_TEST_CACHE__DIRECTORY": "/c", "PATH": "/bin", "CONSENTRY_OTHER": "x"}

    settings = load_settings(ProgramSettings, file=None, env_prefix=PREFIX, environ=environ)

    assert settings.cache.directory == Path("/c")


def test_load_settings_result_is_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)

    with pytest.raises(ValidationError, match="frozen"):
        settings.low = 0


def test_load_settings_variable_of_a_section_replaces_it_and_deeper_ones_come_last(tmp_path: Path) -> None:
    environ = {"CACHE": '{"directory": "/from/json"}', "CACHE__SIZE_BYTES": "9"}

    settings = load(tmp_path, MINIMAL + "  size_bytes: 5\n", environ)

    assert settings.cache.directory == Path("/from/json")
    assert settings.cache.size_bytes == 9


def test_load_settings_variable_of_a_list_replaces_the_list(tmp_path: Path) -> None:
    text = MINIMAL + "listeners:\n  - address: unix:///run/a.sock\n  - address: unix:///run/b.sock\n"

    settings = load(tmp_path, text, {"LISTENERS": '[{"address": "127.0.0.1:1", "detail": "full"}]'})

    assert [listener.address for listener in settings.listeners] == ["127.0.0.1:1"]
    assert settings.listeners[0].detail is Detail.FULL


def test_load_settings_problem_in_a_replaced_list_names_the_variable(tmp_path: Path) -> None:
    text = MINIMAL + "listeners:\n  - address: unix:///run/a.sock\n"

    (problem,) = problems_of(tmp_path, text, {"LISTENERS": '[{"address": "nowhere"}]'})

    assert problem.startswith("CONSENTRY_TEST_LISTENERS: listeners[0].address: no port")


def test_load_settings_empty_variable_sets_an_optional_field_to_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, {"STALENESS_SECONDS": "", "TOKEN": ""})

    assert settings.staleness_seconds is None
    assert settings.token is None
    assert problems_of(tmp_path, MINIMAL, {"LOW": ""})[0].startswith("CONSENTRY_TEST_LOW: low: Input should be")


def test_load_settings_variable_below_an_empty_section_fills_it(tmp_path: Path) -> None:
    assert load(tmp_path, "cache:\n", {"CACHE__DIRECTORY": "/c"}).cache.directory == Path("/c")


def test_load_settings_variant_of_a_section_is_chosen_by_its_kind(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, {"KEY__KIND": "vault", "KEY__ADDRESS": "https://vault.example"})

    assert settings.key.model_dump() == {"kind": "vault", "address": "https://vault.example"}


def test_load_settings_with_origins_says_where_each_value_was_set(tmp_path: Path) -> None:
    file = tmp_path / "program.yaml"
    file.write_text(MINIMAL)

    loaded = load_settings_with_origins(
        ProgramSettings, file=file, env_prefix=PREFIX, environ={"CONSENTRY_TEST_LOW": "0"}
    )

    assert loaded.origins["cache", "directory"] == f"{file}:2"
    assert loaded.origins["low",] == "CONSENTRY_TEST_LOW"
    assert ("high",) not in loaded.origins


def test_load_settings_unknown_keys_at_any_depth_are_named_with_the_nearest(tmp_path: Path) -> None:
    text = MINIMAL + "  size_byte: 5\nlisteners:\n  - address: '127.0.0.1:1'\n    purpose: [x]\nzzzzz: 1\n"

    assert problems_of(tmp_path, text) == (
        "program.yaml:3: cache.size_byte: unknown key; did you mean size_bytes?",
        "program.yaml:6: listeners[0].purpose: unknown key; did you mean purposes?",
        "program.yaml:7: zzzzz: unknown key",
    )


def test_load_settings_key_of_another_variant_is_unknown_here(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, MINIMAL + "key:\n  kind: file\n  file: /k\n  length_bytes: 9\n  address: x\n")

    assert problems == ("program.yaml:7: key.address: unknown key here",)


def test_load_settings_missing_key_of_a_variant_is_named_without_the_variant(tmp_path: Path) -> None:
    assert problems_of(tmp_path, MINIMAL + "key:\n  kind: vault\n") == (
        "program.yaml:3: key.address: required, in the file or as CONSENTRY_TEST_KEY__ADDRESS",
    )
    assert problems_of(tmp_path, MINIMAL + "key:\n  kind: file\n  length_bytes: 9\n") == (
        "program.yaml:3: key.file: required, in the file or as CONSENTRY_TEST_KEY__FILE",
    )
    assert problems_of(tmp_path, MINIMAL + "key:\n  kind: file\n  file: /k\n") == (
        "program.yaml:3: key.length_bytes: required, in the file or as CONSENTRY_TEST_KEY__LENGTH_BYTES",
    )


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("CONSENTRY_TEST_CACHE__DIRECTRY", "unknown variable; did you mean CONSENTRY_TEST_CACHE__DIRECTORY?"),
        ("consentry_test_cache__directory", "unknown variable; did you mean CONSENTRY_TEST_CACHE__DIRECTORY?"),
        ("CONSENTRY_TEST_LISTENERS__0__ADDRESS", "unknown variable; did you mean CONSENTRY_TEST_LISTENERS?"),
        ("CONSENTRY_TEST_", "unknown variable"),
        ("CONSENTRY_TEST_SERVICE_HOST", "set enableServiceLinks: false"),
        ("CONSENTRY_TEST_PORT_7443_TCP_ADDR", "set enableServiceLinks: false"),
    ],
)
def test_load_settings_unknown_variable_is_refused(variable: str, problem: str) -> None:
    environ = {"CONSENTRY_TEST_CACHE__DIRECTORY": "/c", variable: "hunter2"}

    with pytest.raises(SettingsError) as refusal:
        load_settings(ProgramSettings, file=None, env_prefix=PREFIX, environ=environ)

    assert str(refusal.value).startswith(f"{variable}: ")
    assert problem in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_load_settings_variable_that_the_command_line_reads_is_let_be() -> None:
    environ = {"CONSENTRY_TEST_CACHE__DIRECTORY": "/c", "CONSENTRY_TEST_CONFIG": "/etc/program.yaml"}

    load_settings(
        ProgramSettings,
        file=None,
        env_prefix=PREFIX,
        environ=environ,
        other_variables=frozenset({"CONSENTRY_TEST_CONFIG"}),
    )


@pytest.mark.parametrize(
    ("addition", "environ", "problem"),
    [
        ("low: several\n", {}, "program.yaml:3: low: Input should be a valid integer"),
        ("", {"LOW": "several"}, "CONSENTRY_TEST_LOW: low: Input should be a valid integer"),
        ("reflection: several\n", {}, "program.yaml:3: reflection: Input should be a valid boolean"),
        ("token: [several]\n", {}, "program.yaml:3: token: Input should be a valid string"),
        ("limits:\n  marketing: several\n", {}, "program.yaml:4: limits.marketing: Input should be a valid integer"),
        ("staleness_seconds: -5555\n", {}, "program.yaml:3: staleness_seconds: Input should be greater than 0"),
        (
            "key:\n  kind: several\n",
            {},
            "program.yaml:3: key: expected one of 'file', 'vault' as 'kind'",
        ),
        (
            "listeners:\n  - address: several\n",
            {},
            "program.yaml:4: listeners[0].address: no port from 0 to 65535 at the end; expected unix:///path",
        ),
        (
            "listeners:\n  - address: '127.0.0.1:1'\n    detail: several\n",
            {},
            "program.yaml:5: listeners[0].detail: Input should be 'effect' or 'full'",
        ),
        ("listeners: several\n", {}, "program.yaml:3: listeners: Input should be a valid tuple"),
        ("", {"LISTENERS": "several"}, "CONSENTRY_TEST_LISTENERS: expected JSON"),
        ("", {"LIMITS": '{"a": 1, "a": 2}'}, "CONSENTRY_TEST_LIMITS: expected JSON"),
        ("", {"LIMITS": '{"a": NaN}'}, "CONSENTRY_TEST_LIMITS: expected JSON"),
        ("", {"LIMITS": "[" * 100_000}, "CONSENTRY_TEST_LIMITS: expected JSON"),
        ("key: several\n", {"KEY__KIND": "file"}, "CONSENTRY_TEST_KEY__KIND: the file gives a value"),
        ("low: 7777\nhigh: 5555\n", {}, "refused by its check"),
    ],
)
def test_load_settings_refused_value_is_named_and_never_shown(
    tmp_path: Path, addition: str, environ: dict[str, str], problem: str
) -> None:
    problems = problems_of(tmp_path, MINIMAL + addition, environ)

    assert problems[0].startswith(problem)
    for value in ("several", "5555", "7777"):
        assert value not in " ".join(problems)


def test_load_settings_missing_values_name_the_variable_that_would_set_them(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "") == ("cache: required, in the file or as CONSENTRY_TEST_CACHE",)
    assert problems_of(tmp_path, "cache: {}\nlisteners: [{}]") == (
        "program.yaml:1: cache.directory: required, in the file or as CONSENTRY_TEST_CACHE__DIRECTORY",
        "program.yaml:2: listeners[0].address: required",
    )


def test_load_settings_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").touch()

    with pytest.raises(SettingsError, match=r"no such configuration file; did you mean sidecar\.yaml\?"):
        load_settings(ProgramSettings, file=tmp_path / "sidecar.yml", env_prefix=PREFIX, environ={})
    with pytest.raises(SettingsError, match=r"no such configuration file$"):
        load_settings(ProgramSettings, file=tmp_path / "none" / "x", env_prefix=PREFIX, environ={})


def test_load_settings_directory_as_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(ProgramSettings, file=tmp_path, env_prefix=PREFIX, environ={})


def test_load_settings_oversized_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="longer than 1048576 bytes"):
        load(tmp_path, "#" * (1 << 20) + "\n")

"""`anthropic-proxy keys` prints a new key once and stores only its hash."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anthropic_proxy.auth.api_keys import hash_key
from anthropic_proxy.cli.main import cli
from anthropic_proxy.config.keys_file import parse_keys_file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".env").write_text("PROXY_API_KEYS_FILE=keys.json\nOTHER=1\n")
    return tmp_path / "keys.json"


def _run_keys(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments], env=variables)


def _names(path: Path) -> list[str]:
    return [key.name for key in parse_keys_file(path.read_text(), path.name)]


def test_keys_are_created_listed_and_revoked(path: Path) -> None:
    created = _run_keys("create", "alice")
    secret = created.stdout.strip()
    assert (created.exit_code, len(secret) >= 56, secret[:13]) == (0, True, "sk-ant-proxy-")
    assert secret not in path.read_text()
    assert hash_key(secret) in path.read_text()
    limited = _run_keys(
        "create",
        "ci",
        "--model",
        "claude-*",
        "--model",
        "gpt-5",
        "--expires",
        "2020-02-03",
        "--requests-per-minute",
        "3",
    )
    assert limited.stdout.strip() != secret
    listed = _run_keys("list")
    assert listed.stdout.splitlines() == [
        "NAME\tMODELS\tEXPIRES\tLIMITS",
        "alice\t*\tnever\t-",
        "ci\tclaude-*, gpt-5\texpired 2020-02-03T00:00:00Z\t3 requests per minute",
    ]
    assert _run_keys("revoke", "alice").exit_code == 0
    assert _run_keys("list", "--file", str(path)).stdout.splitlines()[1].startswith("ci\t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "a b"], "a name is 1 to 64"),
        (
            ["create", "a", "--expires", "tomorrow"],
            "got 'tomorrow', expected a date (2026-12-31) or a time (2026-12-31T18:00:00)",
        ),
        (["create", "a", "--expires", "2026-12-31T18:00:00+2"], "got '2026-12-31T18:00:00+2'"),
        (["create", "a", "--expires", "0001-01-01T00:00:00+02:00"], "got '0001-01-01T00:00:00"),
        (["create", "a", "--model", ""], "got '', expected the name of a model or a glob"),
        (["create", "a", "--model", "b", "--model", " "], "got ' ', expected the name"),
        (["create", "a", "--tokens-per-minute", "0"], "0 is not in the range"),
        (["revoke", "nobody"], "no key is called 'nobody'"),
        (["list"], "No such file"),
        (["create", "a", "--file", "keys.yaml"], "change only .json files"),
    ],
)
def test_invalid_arguments_are_rejected(path: Path, arguments: list[str], message: str) -> None:
    result = _run_keys(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert not path.exists()


def test_a_duplicate_name_is_rejected(path: Path) -> None:
    assert _run_keys("create", "a").exit_code == 0
    before = path.read_text()
    second = _run_keys("create", "a")
    assert (second.exit_code, second.stdout) == (1, "")
    assert "the name 'a' is given twice" in second.stderr
    assert path.read_text() == before


def test_a_missing_keys_file_setting_is_reported(path: Path) -> None:
    (path.parent / ".env").unlink()
    result = _run_keys("list")
    assert (result.exit_code, "set PROXY_API_KEYS_FILE or use --file" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2099-12-31", "2099-12-31T00:00:00Z"),
        ("2099-12-31T18:00:00", "2099-12-31T18:00:00Z"),
        ("2099-12-31 18:00:00", "2099-12-31T18:00:00Z"),
        ("2099-12-31T18:00:00Z", "2099-12-31T18:00:00Z"),
        ("2099-12-31T18:00:00+02:00", "2099-12-31T16:00:00Z"),
        ("9999-12-31", "9999-12-31T00:00:00Z"),
    ],
)
def test_expiry_formats(path: Path, time: str, expected: str) -> None:
    assert _run_keys("create", "a", "--expires", time).exit_code == 0
    assert _run_keys("list").stdout.splitlines()[1] == f"a\t*\texpires {expected}\t-"


def test_limits_of_one_are_singular(path: Path) -> None:
    limits = ("--requests-per-minute", "1", "--tokens-per-minute", "1")
    assert _run_keys("create", "a", *limits).exit_code == 0
    assert _run_keys("list").stdout.splitlines()[1] == (
        "a\t*\tnever\t1 request per minute, 1 token per minute"
    )


_MONTHLY = ["--tokens-per-month", "1000"]
_SQLITE = {"RATE_LIMIT_STORAGE_URL": "sqlite:////tmp/limits.db"}
_NEEDS_STORAGE = "tokens_per_month requires RATE_LIMIT_STORAGE_URL"

# Variables, options of `create`, and a part of the reason why a server rejects the file.
_REJECTED: list[tuple[dict[str, str], list[str], str]] = [
    ({}, _MONTHLY, _NEEDS_STORAGE),
    ({}, _MONTHLY, "(first key with this limit: carl)"),
    ({"RATE_LIMIT_STORAGE_URL": "memory://"}, _MONTHLY, _NEEDS_STORAGE),
    ({"RATE_LIMIT_STORAGE_URL": "sqlite:///:memory:"}, _MONTHLY, _NEEDS_STORAGE),
    ({"KEY_TOKENS_PER_MONTH": "9"}, [], _NEEDS_STORAGE),
    ({"RATE_LIMIT_STORAGE_URL": "mongodb://x"}, [], "invalid RATE_LIMIT_STORAGE_URL: expected"),
    ({"KEY_TOKENS_PER_MINUTE": "x"}, [], 'invalid KEY_TOKENS_PER_MINUTE: got "x", expected 1'),
    ({"PROXY_API_KEYS": "carl=0123456789"}, [], "the name 'carl' is given twice"),
    ({"PROXY_API_KEYS": "a=;b="}, [], "invalid PROXY_API_KEYS"),
]


@pytest.mark.parametrize(("variables", "options", "reason"), _REJECTED)
def test_a_key_that_the_server_rejects_is_not_created(
    path: Path, variables: dict[str, str], options: list[str], reason: str
) -> None:
    created = _run_keys("create", "carl", *options, **variables)
    assert (created.exit_code, created.stdout, path.exists()) == (1, "", False)
    assert created.stderr.startswith("✗ ")
    assert reason in created.stderr


@pytest.mark.parametrize(("variables", "options", "reason"), _REJECTED)
def test_a_key_for_another_server_is_created_with_a_warning(
    path: Path, variables: dict[str, str], options: list[str], reason: str
) -> None:
    other = path.with_name("other.json")
    created = _run_keys("create", "carl", *options, "--file", str(other), **variables)
    assert (created.exit_code, _names(other)) == (0, ["carl"])
    assert created.stdout.startswith("sk-ant-proxy-")
    assert created.stderr.startswith(f"! a server with these settings rejects {other}: ")
    assert reason in created.stderr


@pytest.mark.parametrize(
    "variables",
    [
        _SQLITE,
        {"RATE_LIMIT_STORAGE_URL": "redis://127.0.0.1:1"},
        _SQLITE | {"PROXY_API_KEYS": "bob=0123456789"},
    ],
)
def test_a_monthly_limit_with_a_storage_is_accepted(path: Path, variables: dict[str, str]) -> None:
    created = _run_keys("create", "carl", *_MONTHLY, **variables)
    assert (created.exit_code, created.stderr, _names(path)) == (0, "", ["carl"])


def test_the_configured_file_is_recognized_by_its_path(path: Path) -> None:
    link = path.with_name("link.json")
    link.symlink_to(path)
    created = _run_keys("create", "carl", *_MONTHLY, "--file", str(link))
    assert (created.exit_code, created.stdout, path.exists()) == (1, "", False)


def test_a_revocation_reports_that_the_server_rejects_the_file(path: Path) -> None:
    for name in ("alice", "carl", "dave"):
        assert _run_keys("create", name, *_MONTHLY, **_SQLITE).exit_code == 0
    revoked = _run_keys("revoke", "dave")
    assert (revoked.exit_code, revoked.stdout) == (1, "")
    assert revoked.stderr.startswith(
        "✗ Revoked dave in keys.json, but a running server keeps its previous keys until this is "
        f"fixed: {_NEEDS_STORAGE}"
    )
    assert _names(path) == ["alice", "carl"]
    listed = _run_keys("list")
    assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, 3)
    assert _NEEDS_STORAGE in listed.stderr
    assert _run_keys("create", "erin").exit_code == 1
    assert _run_keys("revoke", "alice").exit_code == 1
    last = _run_keys("revoke", "carl")
    assert (last.exit_code, last.stdout, last.stderr) == (0, "✓ Revoked carl\n", "")


def test_a_key_for_another_server_is_revoked_with_a_warning(path: Path) -> None:
    other = ["--file", str(path.with_name("other.json"))]
    for name in ("carl", "dave"):
        assert _run_keys("create", name, *_MONTHLY, *other, **_SQLITE).exit_code == 0
    revoked = _run_keys("revoke", "dave", *other)
    assert (revoked.exit_code, revoked.stdout) == (0, "✓ Revoked dave\n")
    assert _NEEDS_STORAGE in revoked.stderr


@pytest.mark.parametrize("content", ["PROXY_API_KEYS_FILE=keys.json".encode("utf-16"), b"\xff=1"])
def test_an_unreadable_env_file_is_reported(path: Path, content: bytes) -> None:
    (path.parent / ".env").write_bytes(content)
    for arguments in (["list"], ["create", "a"], ["revoke", "a"]):
        result = _run_keys(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("✗ .env")
    created = _run_keys("create", "a", "--file", str(path))
    assert (created.exit_code, _names(path)) == (0, ["a"])
    assert created.stderr.startswith("! a server with these settings rejects")


def test_invalid_lines_of_the_env_file_are_not_logged(path: Path) -> None:
    env_file = path.parent / ".env"
    env_file.write_text(env_file.read_text() + "not a variable\n")
    created = _run_keys("create", "a")
    assert (created.exit_code, created.stderr) == (0, "")

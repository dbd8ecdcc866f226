"""`anthropic-proxy keys` prints a new key once and stores only its hash."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anthropic_proxy.auth.api_keys import hash_key
from anthropic_proxy.cli.main import cli


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".env").write_text("PROXY_API_KEYS_FILE=keys.json\nOTHER=1\n")
    return tmp_path / "keys.json"


def _run_keys(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments])


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

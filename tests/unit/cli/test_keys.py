"""`anthropic-proxy keys`: a key is shown once, and never kept."""

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


def _keys(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments])


def test_create_list_revoke(path: Path) -> None:
    made = _keys("create", "alice")
    secret = made.stdout.strip()
    assert (made.exit_code, len(secret) >= 56, secret[:13]) == (0, True, "sk-ant-proxy-")
    assert secret not in path.read_text()
    assert hash_key(secret) in path.read_text()
    other = _keys(
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
    assert other.stdout.strip() != secret
    listed = _keys("list")
    assert listed.stdout.splitlines() == [
        "NAME\tMODELS\tEXPIRES\tLIMITS",
        "alice\t*\tnever\t-",
        "ci\tclaude-*, gpt-5\texpired 2020-02-03T00:00:00Z\t3 requests per minute",
    ]
    assert _keys("revoke", "alice").exit_code == 0
    assert _keys("list", "--file", str(path)).stdout.splitlines()[1].startswith("ci\t")


@pytest.mark.parametrize(
    ("arguments", "told"),
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
def test_errors(path: Path, arguments: list[str], told: str) -> None:
    done = _keys(*arguments)
    assert done.exit_code in (1, 2)
    assert told in done.stderr
    assert not path.exists()


def test_a_name_twice(path: Path) -> None:
    assert _keys("create", "a").exit_code == 0
    before = path.read_text()
    again = _keys("create", "a")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "the name 'a' is given twice" in again.stderr
    assert path.read_text() == before


def test_without_a_file(path: Path) -> None:
    (path.parent / ".env").unlink()
    done = _keys("list")
    assert (done.exit_code, "set PROXY_API_KEYS_FILE or use --file" in done.stderr) == (1, True)

"""Selection, encoding and size limits of the `.env` file."""

import re
from pathlib import Path

import pytest

from anthropic_proxy.config import env_file as env_files
from anthropic_proxy.config.env_file import find_env_file
from anthropic_proxy.config.settings import load_settings
from anthropic_proxy.errors import ConfigError

_URL = "https://upstream.example"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "settings.env"


@pytest.fixture
def default_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Return the default paths of the `.env` file, all below `tmp_path` and without files."""
    for name in ("work", "home", "etc"):
        (tmp_path / name).mkdir()
    assert env_files.ENV_FILES[2] == Path("/etc/anthropic-proxy/.env")
    monkeypatch.setattr(env_files, "ENV_FILES", (*env_files.ENV_FILES[:2], tmp_path / "etc/.env"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return {
        "work": Path(".env"),
        "home": tmp_path / "home/.anthropic-proxy.env",
        "etc": tmp_path / "etc/.env",
    }


@pytest.mark.parametrize(
    ("existing", "selected"),
    [
        (["work", "home", "etc"], "work"),
        (["home", "etc"], "home"),
        (["etc"], "etc"),
        ([], None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_the_first_existing_file_is_selected(
    default_paths: dict[str, Path], existing: list[str], selected: str | None
) -> None:
    for location in existing:
        default_paths[location].touch()
    assert find_env_file(None) == (default_paths[selected] if selected else None)


def test_only_one_file_is_read(default_paths: dict[str, Path]) -> None:
    default_paths["work"].write_text(f"UPSTREAM_BASE_URL={_URL}\n")
    default_paths["home"].write_text("PORT=8080\n")
    assert load_settings(find_env_file(None)).port == 3000


def test_an_explicit_file_replaces_the_default_paths(
    default_paths: dict[str, Path], env_file: Path
) -> None:
    default_paths["work"].touch()
    assert find_env_file(env_file) == env_file


def test_a_directory_is_skipped(default_paths: dict[str, Path]) -> None:
    default_paths["work"].mkdir()
    default_paths["etc"].touch()
    assert find_env_file(None) == default_paths["etc"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#" * (2**20 + 1), "the file is too large, expected at most 1048576 bytes"),
        (
            "A0=xxxxxxxxxx\n" + "".join(f"A{n}=${{A{n - 1}}}${{A{n - 1}}}\n" for n in range(1, 60)),
            "A17: the value is too long",
        ),
        (
            "A=xxxxxxxxxx\n" + "A=${A}${A}\n" * 60,
            "A: the value is too long",
        ),
        (
            "A=${B:-" + "x" * 300_000 + "}\nC=${A}${A}${A}${A}",
            "C: the value is too long, expected at most 1048576",
        ),
    ],
    ids=["file", "nested-values", "same-name", "defaults"],
)
def test_oversized_files_and_values_are_rejected(env_file: Path, text: str, message: str) -> None:
    env_file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{env_file}: {message}")):
        load_settings(env_file)


def test_variables_in_values_are_expanded(env_file: Path) -> None:
    env_file.write_text(
        "HOST_NAME=up.example\nUPSTREAM_BASE_URL=https://${HOST_NAME}/${NOT_THERE:-v1}"
    )
    assert str(load_settings(env_file).upstream_base_url) == "https://up.example/v1"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_rejected(env_file: Path, encoding: str) -> None:
    env_file.write_bytes(f"UPSTREAM_BASE_URL={_URL}\r\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"UTF-16.*: save it as UTF-8$"):
        load_settings(env_file)


def test_a_byte_order_mark_and_crlf_are_accepted(env_file: Path) -> None:
    env_file.write_bytes(f"UPSTREAM_BASE_URL={_URL}\r\nPORT=4000\r\n".encode("utf-8-sig"))
    settings = load_settings(env_file)
    assert (settings.upstream_base_url, settings.port) == (_URL, 4000)

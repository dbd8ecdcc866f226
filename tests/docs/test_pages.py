"""The pages describe the current settings and command line."""

import re
from typing import Any

import pytest
from click.testing import CliRunner

from anthropic_proxy.cli.main import cli
from anthropic_proxy.config.env_file import ENV_FILES
from anthropic_proxy.config.network_variables import NETWORK_VARIABLES
from anthropic_proxy.config.settings import Settings, load_settings
from tests.support.paths import ROOT
from tests.support.variables import names

SETTINGS = (ROOT / "docs" / "settings.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


FIELDS = [pytest.param(field, id=name) for name, field in Settings.model_fields.items()]


@pytest.mark.parametrize("field", FIELDS)
def test_each_setting_is_documented(field: Any) -> None:
    variable, *aliases = names(field)
    row = next(line for line in SETTINGS.splitlines() if line.startswith(f"| `{variable}`"))
    assert all(f"`{alias}`" in row for alias in aliases)
    assert re.search(rf"^#?{variable}=", EXAMPLE, re.MULTILINE)


def test_only_existing_settings_are_documented() -> None:
    setting_names = {name for field in Settings.model_fields.values() for name in names(field)}
    of_libraries = {name.upper() for name in NETWORK_VARIABLES}
    assert set(re.findall(r"^\| `(\w+)`", SETTINGS, re.MULTILINE)) <= setting_names | of_libraries
    assert set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) <= setting_names | of_libraries


def test_the_example_is_valid() -> None:
    settings = load_settings(ROOT / ".env.example")
    assert settings.upstream_base_url == "https://openrouter.ai/api"
    assert settings.upstream_api_key is None


def test_the_files_are_documented() -> None:
    for file in ENV_FILES:
        assert f"`{file}`" in SETTINGS


def test_each_option_is_documented() -> None:
    page = ROOT / "docs" / "command-line.md"
    if page.exists():
        section = page.read_text()
    else:
        section = (ROOT / "README.md").read_text().split("## Command line")[1].split("##")[0]
    printed = CliRunner().invoke(cli, ["--help"]).output
    for short, long in re.findall(r"^  (-\w)?(?:, )?(--[\w-]+)", printed, re.MULTILINE):
        assert (short or long) in section
    for command in cli.commands:
        assert f"anthropic-proxy {command}" in section


# Patterns of harmful instructions, with an example that each must match.
HARMFUL = {
    "The log is written across the screen of the program in the same terminal.": (
        re.compile(r"\banthropic-proxy\b[^\n]*\s&(?=\s*(?:`|#|$))", re.MULTILINE),
        "UPSTREAM_BASE_URL=http://localhost:1 anthropic-proxy --port 1 &  # in the background",
    ),
    "Claude Code asks whether to use such a key, and recommends not to: ANTHROPIC_AUTH_TOKEN.": (
        re.compile(r"\bANTHROPIC_API_KEY="),
        "`ANTHROPIC_BASE_URL=http://localhost:3000 ANTHROPIC_API_KEY=none claude`",
    ),
    "No package of this name is published; anybody could take it: pip install '.[redis]'.": (
        re.compile(
            r"(?:\bpipx? install|\buv (?:pip|tool) install|\buv add|\buvx)\b"
            r"[^\n`]*?(?<![\w/.-])anthropic-proxy(?![\w/])"
        ),
        "hint: pip install 'anthropic-proxy[otel]'",
    ),
}
TEXTS = [
    path
    for pattern in (
        "*.md",
        "*.yml",
        ".env.example",
        ".github/**/*",
        "docs/**/*",
        "deploy/**/*",
        "chart/**/*",
        "container/**/*",
        "src/**/*",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and "__pycache__" not in path.parts and path.name != "CHANGELOG.md"
]


@pytest.mark.parametrize("reason", HARMFUL)
def test_harmful_instructions_are_found(reason: str) -> None:
    pattern, example = HARMFUL[reason]
    assert pattern.search(example)


@pytest.mark.parametrize("reason", HARMFUL)
def test_no_text_contains_harmful_instructions(reason: str) -> None:
    pattern, _ = HARMFUL[reason]
    assert {
        str(path.relative_to(ROOT))
        for path in TEXTS
        if pattern.search(path.read_text(errors="replace"))
    } == set()


def test_the_tests_named_on_the_security_page_exist() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []

"""Notices on a `.env` file: lines without effect, but no secrets and no foreign names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from anthropic_proxy.config.env_notices import all_variables, environment_notices, notices, variable
from tests.support.paths import ROOT
from tests.support.scaling import assert_linear_cpu

_IGNORED = "expected NAME=value; the line is ignored"

_OF_CLIENT = (
    "is a variable of the client: set it where Claude Code runs; the proxy does not read it"
)
_CLIENT_NAMES = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("UPSTREAM_APIKEY=x", ["1: UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?"]),
        ("\n# a\n\nMODEL_MAPS=a=b", ["4: MODEL_MAPS is not known; did you mean MODEL_MAP?"]),
        ("export PROXY_API_KEY=x", ["1: PROXY_API_KEY is not known; did you mean PROXY_API_KEYS?"]),
        ("HTTP_PROXYS=x", ["1: HTTP_PROXYS is not known; did you mean HTTP_PROXY?"]),
        (
            "UPSTREAM_MODEL=x",
            ["1: UPSTREAM_MODEL is not known; did you mean COMPLETION_MODEL or MODEL_MAP?"],
        ),
        (
            "ANTHROPIC_PROXY_BASE_URLS=x",
            ["1: ANTHROPIC_PROXY_BASE_URLS is not known; did you mean ANTHROPIC_PROXY_BASE_URL?"],
        ),
        ("ANTHROPIC_KEY=x\nKEY=${ANTHROPIC_KEY}", []),
        *((f"{name}=x", [f"1: {name} {_OF_CLIENT}"]) for name in _CLIENT_NAMES),
        ("UPSTREAM_QQQQQQQQQQQQ=x", ["1: UPSTREAM_QQQQQQQQQQQQ is not known"]),
        ("UPSTREAM_BASE_URL", [f"1: UPSTREAM_BASE_URL has no value: {_IGNORED}"]),
        ("a: b\nPORT=1\n{", [f"1: {_IGNORED}", f"3: {_IGNORED}"]),
        ("sk-canary0123456789\nA='canary", [f"1: {_IGNORED}", f"2: {_IGNORED}"]),
        ("upstream_base_url=x\nPORT=1\nHTTPS_PROXY=x\nSSL_CERT_FILE=x\nno_proxy=x", []),
        ("DB_HOST=1\nHOSTS=1\nLOG_LEVEL=1\nOPENAI_API_KEY=x\nOTEL_SERVICE_NAME=x\nPATH=/", []),
        ("UPSTREAM_KEY_A=x\nUPSTREAM_API_KEY=${UPSTREAM_KEY_A}", []),
        ("UPSTREAM_FROM_FILE=x", []),
        ("\ufeffPORT=1\r\n", []),
        ("sk-ant-canary=1\nU" + "PSTREAM_" * 20 + "=1", []),
    ],
)
def test_notices(text: str, told: list[str]) -> None:
    found = [str(each) for each in notices(Path(".env"), text, "key: ${UPSTREAM_FROM_FILE}")]
    assert found == [f".env line {each}" for each in told]
    assert "canary" not in "".join(found)


def test_a_file_of_something_else_is_reported_shortly() -> None:
    found = notices(Path("x.env"), "- a b\n" * 80)
    assert [str(found[9]), str(found[10])] == [
        f"x.env line 10: {_IGNORED}",
        "x.env: 70 more such lines",
    ]
    assert len(found) == 11


@pytest.mark.parametrize("line", ["ABCDEFGH_{}=1\n", "UPSTREAM_{}=1\n", "a b {}\n"])
def test_a_hostile_file_costs_no_more_than_its_length(line: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        text = "".join(line.format(number) for number in range(size))
        return lambda: notices(Path(".env"), text)

    assert_linear_cpu(prepare, 4000)


def test_the_names_of_our_own_files_are_known() -> None:
    """Those of .env.example, also in comments, and those that docker-compose.yml reads."""
    example = re.findall(
        r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
    compose = re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text())
    assert len(example) > 40
    assert set(example) <= set(all_variables())
    assert notices(Path(".env"), "".join(f"{name}=1\n" for name in [*example, *compose])) == []


@pytest.mark.parametrize(
    ("text", "environment", "found"),
    [
        ("LOG_FORMAT=json", {}, "json"),
        ("log_format='json' # c", {}, "json"),
        ("LOG_FORMAT=json", {"LOG_FORMAT": "console"}, "console"),
        ("LOG_FORMAT=json", {"LOG_FORMAT": ""}, "json"),
        ("", {}, ""),
    ],
)
def test_a_variable(text: str, environment: dict[str, str], found: str) -> None:
    assert variable(text, "LOG_FORMAT", environment) == found


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        (["UPSTREAM_BASEURL"], ["UPSTREAM_BASEURL is not known; did you mean UPSTREAM_BASE_URL?"]),
        (["UPSTREAM_APIKEY"], ["UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?"]),
        (["PROXY_API_KEY"], ["PROXY_API_KEY is not known; did you mean PROXY_API_KEYS?"]),
        (["MODEL_ALIAS"], ["MODEL_ALIAS is not known; did you mean MODEL_ALIASES?"]),
        (["COMPLETIONS_MODEL"], []),
        (["COMPLETION_MODELS"], ["COMPLETION_MODELS is not known; did you mean COMPLETION_MODEL?"]),
        # Of other programs, of Kubernetes and of docker-compose.yml.
        (["UPSTREAM_HOST", "MODEL_PATH", "MODEL_NAME", "KEY_FILE", "TLS_DIR", "MAX_SIZE"], []),
        (["ANTHROPIC_PROXY_PORT", "ANTHROPIC_PROXY_PORT_3000_TCP_ADDR"], []),
        (["ANTHROPIC_PROXY_SERVICE_HOST", "ANTHROPIC_BASE_URL", "PATH", "PORTS"], []),
        (["UPSTREAM_API_KEY_A", "UPSTREAM_BASE_URL", "UPSTREAM_DIALECT", "UPSTREAM_FACTS"], []),
    ],
)
def test_names_in_the_environment(names: list[str], problems: list[str]) -> None:
    assert environment_notices(names, "key: ${UPSTREAM_API_KEY_A}", "") == problems


def test_a_hostile_environment_costs_no_more_than_its_length() -> None:
    def prepare(size: int) -> Callable[[], object]:
        names = [f"UPSTREAM_{number}_{'X' * 40}" for number in range(size)]
        return lambda: environment_notices(names)

    assert_linear_cpu(prepare, 4000)

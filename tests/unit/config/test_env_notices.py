"""Notices about `.env` lines without effect.

They contain no secrets, and variables of other programs cause none.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from anthropic_proxy.config.env_notices import all_variables, environment_notices, notices, variable
from tests.support.paths import ROOT
from tests.support.scaling import assert_linear_cpu

_IGNORED = "expected NAME=value; the line is ignored"

_CLIENT_NOTICE = (
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
    ("text", "expected"),
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
        *((f"{name}=x", [f"1: {name} {_CLIENT_NOTICE}"]) for name in _CLIENT_NAMES),
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
def test_lines_without_effect_are_reported(text: str, expected: list[str]) -> None:
    reported = [str(notice) for notice in notices(Path(".env"), text, "key: ${UPSTREAM_FROM_FILE}")]
    assert reported == [f".env line {line}" for line in expected]
    assert "canary" not in "".join(reported)


def test_notices_about_an_unrelated_file_are_limited() -> None:
    reported = notices(Path("x.env"), "- a b\n" * 80)
    assert [str(reported[9]), str(reported[10])] == [
        f"x.env line 10: {_IGNORED}",
        "x.env: 70 more such lines",
    ]
    assert len(reported) == 11


@pytest.mark.parametrize("line", ["ABCDEFGH_{}=1\n", "UPSTREAM_{}=1\n", "a b {}\n"])
def test_the_cost_is_linear_in_the_file_size(line: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        text = "".join(line.format(number) for number in range(size))
        return lambda: notices(Path(".env"), text)

    assert_linear_cpu(prepare, 4000)


def test_variables_of_the_repository_files_are_known() -> None:
    """Variables of `.env.example`, also in comments, and of `docker-compose.yml` are known."""
    example = re.findall(
        r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
    compose = re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text())
    assert len(example) > 40
    assert set(example) <= set(all_variables())
    assert notices(Path(".env"), "".join(f"{name}=1\n" for name in [*example, *compose])) == []


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("LOG_FORMAT=json", {}, "json"),
        ("log_format='json' # c", {}, "json"),
        ("LOG_FORMAT=json", {"LOG_FORMAT": "console"}, "console"),
        ("LOG_FORMAT=json", {"LOG_FORMAT": ""}, "json"),
        ("", {}, ""),
    ],
)
def test_a_variable_is_read_from_the_environment_or_the_file(
    text: str, environment: dict[str, str], expected: str
) -> None:
    assert variable(text, "LOG_FORMAT", environment) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["UPSTREAM_BASEURL"], ["UPSTREAM_BASEURL is not known; did you mean UPSTREAM_BASE_URL?"]),
        (["UPSTREAM_APIKEY"], ["UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?"]),
        (["PROXY_API_KEY"], ["PROXY_API_KEY is not known; did you mean PROXY_API_KEYS?"]),
        (["MODEL_ALIAS"], ["MODEL_ALIAS is not known; did you mean MODEL_ALIASES?"]),
        (["COMPLETIONS_MODEL"], []),
        (["COMPLETION_MODELS"], ["COMPLETION_MODELS is not known; did you mean COMPLETION_MODEL?"]),
        # Variables of other programs, Kubernetes and docker-compose.yml.
        (["UPSTREAM_HOST", "MODEL_PATH", "MODEL_NAME", "KEY_FILE", "TLS_DIR", "MAX_SIZE"], []),
        (["ANTHROPIC_PROXY_PORT", "ANTHROPIC_PROXY_PORT_3000_TCP_ADDR"], []),
        (["ANTHROPIC_PROXY_SERVICE_HOST", "ANTHROPIC_BASE_URL", "PATH", "PORTS"], []),
        (["UPSTREAM_API_KEY_A", "UPSTREAM_BASE_URL", "UPSTREAM_DIALECT", "UPSTREAM_FACTS"], []),
    ],
)
def test_misspelled_variables_in_the_environment_are_reported(
    names: list[str], expected: list[str]
) -> None:
    assert environment_notices(names, "key: ${UPSTREAM_API_KEY_A}", "") == expected


def test_the_cost_is_linear_in_the_environment_size() -> None:
    def prepare(size: int) -> Callable[[], object]:
        names = [f"UPSTREAM_{number}_{'X' * 40}" for number in range(size)]
        return lambda: environment_notices(names)

    assert_linear_cpu(prepare, 4000)

"""Forms of a model's name that clients use."""

import re
from collections.abc import Callable

import pytest

from anthropic_proxy.routing.model_names import (
    decode_claude_id,
    strip_context_suffix,
    to_claude_id,
)
from tests.support.scaling import assert_linear_cpu

# The names that the discovery of Claude Desktop 1.46388 rejects, also behind `claude-`.
_REJECTED_BY_DESKTOP = re.compile(
    r"ark-code|astron|command-r|deepseek|doubao|gemini|gemma|glm|gpt|grok|hermes|hy3|kimi|lfm"
    r"|\bling\b|llama|longcat|mimo|minimax|mistral|mixtral|moonshot|nemotron|openai|phi-|qianfan"
    r"|qwen|tc-code|\bunic\b|yi-|stepfun|step-3|seed-|bytedance|hunyuan|granite|amazon\.nova"
    r"|nova-|devstral|ministral|ernie|codex|arcee|trinity|abab|phi\d|\bk2\.|\bm2\.|jamba|arctic"
    r"|solar|mercury|zamba|kat-coder|\bds-|dpsk"
)

_NAMES = (
    "qwen3:4b",
    "openai/gpt-6.1-sol",
    "/models/llama.gguf",
    "kimi-k2.6",
    "glm 5.3",
    "m",
    "\u6a21\u578b",
    "\ud800",
    "local/deepseek-r1[1m]",
)


@pytest.mark.parametrize("name", _NAMES)
def test_claude_ids_are_reversible_and_shown_by_clients(name: str) -> None:
    claude_id = to_claude_id(name)
    assert decode_claude_id(claude_id) == name
    assert claude_id.startswith("claude-")
    assert not _REJECTED_BY_DESKTOP.search(claude_id)
    assert to_claude_id(claude_id) == claude_id
    assert decode_claude_id(claude_id + "[1m]") == name + "[1m]"


@pytest.mark.parametrize(
    "name", ["claude-opus-5", "anthropic/claude-opus-4.1", "Claude", "my-ANTHROPIC-model"]
)
def test_names_that_clients_show_are_ids(name: str) -> None:
    assert to_claude_id(name) == name
    assert decode_claude_id(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "qwen3",
        "claude-proxy-",
        "claude-proxy-6",
        "claude-proxy-zz",
        "claude-proxy-6D",
        "claude-proxy-ff",
        "claude-proxy-6d-fast",
        "Claude-proxy-6d",
        "x/claude-proxy-6d",
        "claude-proxy-6d\n",
        # The code of a name that is not encoded.
        "claude-proxy-" + b"claude".hex(),
    ],
)
def test_other_names_are_not_decoded(name: str) -> None:
    assert decode_claude_id(name) == name


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("m[1m]", "m"),
        ("m[1M]", "m"),
        ("m[200k]", "m"),
        ("m[200K][1m]", "m"),
        ("m [1m]", "m "),
        ("m[1m]\n", "m[1m]\n"),
        ("m[1m]x[1m]", "m[1m]x"),
        ("[1m][1m]", "[1m]"),
        ("m[\u0661m]", "m[\u0661m]"),
        ("", ""),
    ],
)
def test_suffixes_are_removed(name: str, base: str) -> None:
    assert strip_context_suffix(name) == base


@pytest.mark.parametrize(
    ("name", "part"),
    [("m{}", "[1m]"), ("m{}]", "["), ("claude-proxy-{}", "6d"), ("claude-proxy-{}x", "6d")],
)
def test_long_names_take_linear_time(name: str, part: str) -> None:
    def prepare(size: int) -> Callable[[], str]:
        text = name.format(part * size)
        return lambda: decode_claude_id(text)

    assert_linear_cpu(prepare, 1000, doublings=6)

"""Generate docs/upstreams.md: the setup of each kind of upstream, and its features.

The settings come from the table of provider profiles; this module adds a guide for each profile.
A test compares the page with both. `make docs` writes the page.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from anthropic_proxy.providers.profiles import GENERIC, PROFILES, ProviderProfile
from anthropic_proxy.providers.provider_profile import FIELD_DESCRIPTIONS


class Guide(NamedTuple):
    """What an operator needs to know about one kind of upstream."""

    title: str
    # value of UPSTREAM_BASE_URL
    url: str
    # value of UPSTREAM_API_KEY; None where the server needs none
    api_key: str | None
    # what a recording or the documentation proves to work
    features: str
    # what does not work, or needs attention
    notes: str


_COMMON_FEATURES = "text, streams, tools, images, structured outputs"

GUIDES: Mapping[str, Guide] = {
    "openai": Guide(
        "OpenAI",
        "https://api.openai.com",
        "sk-...",
        f"{_COMMON_FEATURES}, PDFs, thinking, priority processing",
        "newer models take tools together with thinking in the Responses API alone: the proxy "
        "changes over when OpenAI "
        "says so, or at once with `UPSTREAM_API=responses`; a prefilled answer is refused",
    ),
    "azure": Guide(
        "Azure OpenAI",
        "https://NAME.openai.azure.com",
        "...",
        f"{_COMMON_FEATURES}, PDFs (their text; as files with `UPSTREAM_API=responses`), thinking; "
        "the v1 address, where the model is the deployment's name, and older addresses of one "
        "deployment "
        "(`.../openai/deployments/DEPLOYMENT?api-version=2025-04-01-preview`)",
        "an answer that the content filter stops ends with `refusal`; for tokens of Entra ID set "
        "`UPSTREAM_PROVIDER_SETTINGS=auth=bearer`",
    ),
    "openrouter": Guide(
        "OpenRouter",
        "https://openrouter.ai/api",
        "sk-or-...",
        f"{_COMMON_FEATURES}, PDFs, thinking with signatures given back, marks of caching "
        "(`cache_control`)",
        "`provider`, `models` and `plugins` go into `UPSTREAM_EXTRA_BODY`, the address of your app "
        "into `UPSTREAM_HEADERS` "
        "(`HTTP-Referer`); not every provider behind it takes every field",
    ),
    "ollama": Guide(
        "Ollama",
        "http://localhost:11434",
        None,
        "text, streams, tools, images, JSON, thinking",
        "a prompt that is longer than the context is cut without a word: start it with "
        "`OLLAMA_CONTEXT_LENGTH=32768` or "
        "more, as its OpenAI-compatible API has no field for that; `tool_choice` is ignored",
    ),
    "llamacpp": Guide(
        "llama.cpp (llama-server)",
        "http://localhost:8080",
        None,
        "text, streams, tools (started with `--jinja`), images (`--mmproj`), structured outputs, "
        "thinking, exact "
        "`count_tokens`, prefill",
        "any name of a model is answered by the loaded one",
    ),
    "vllm": Guide(
        "vLLM",
        "http://localhost:8000",
        None,
        f"{_COMMON_FEATURES}, thinking, exact `count_tokens`, prefill",
        "tools need `--enable-auto-tool-choice` and `--tool-call-parser`, thinking "
        "`--reasoning-parser`",
    ),
    "sglang": Guide(
        "SGLang",
        "http://localhost:30000",
        None,
        f"{_COMMON_FEATURES}, thinking, prefill",
        "tools need `--tool-call-parser`, thinking `--reasoning-parser`",
    ),
    "lmstudio": Guide(
        "LM Studio",
        "http://localhost:1234",
        None,
        "text, streams, tools, images, structured outputs",
        "a tool that is required by name becomes `required` with that tool alone",
    ),
    "litellm": Guide(
        "LiteLLM",
        "http://localhost:4000",
        "sk-...",
        f"{_COMMON_FEATURES}; what else depends on the provider behind it",
        "`drop_params: true` in its settings spares refusals",
    ),
    "deepseek": Guide(
        "DeepSeek",
        "https://api.deepseek.com",
        "sk-...",
        "text, streams, tools, structured outputs (the schema goes into the prompt), thinking with "
        "the reasoning given "
        "back within tool loops",
        "no images; prefill is a beta: "
        "`UPSTREAM_BASE_URL=https://api.deepseek.com/beta/chat/completions` with "
        "`UPSTREAM_PROVIDER_SETTINGS=prefill=prefix`",
    ),
    "mistral": Guide(
        "Mistral",
        "https://api.mistral.ai",
        "...",
        f"{_COMMON_FEATURES}, thinking, prefill",
        "ids of tool calls are made nine characters long on the way",
    ),
    "groq": Guide(
        "Groq",
        "https://api.groq.com/openai",
        "gsk_...",
        f"{_COMMON_FEATURES}, thinking, prefill",
        "a call that Groq finds malformed is an error that may be tried again",
    ),
    "together": Guide(
        "Together",
        "https://api.together.xyz",
        "...",
        f"{_COMMON_FEATURES}, thinking",
        "a prefilled answer is refused",
    ),
    "fireworks": Guide(
        "Fireworks",
        "https://api.fireworks.ai/inference",
        "fw_...",
        f"{_COMMON_FEATURES}, thinking",
        "a prefilled answer is refused",
    ),
    "cerebras": Guide(
        "Cerebras",
        "https://api.cerebras.ai",
        "csk-...",
        "text, streams, tools, structured outputs, thinking",
        "few models see",
    ),
    "xai": Guide(
        "xAI",
        "https://api.x.ai",
        "xai-...",
        f"{_COMMON_FEATURES}, thinking",
        "a wrong key is told as a 400 there, and as such",
    ),
    "gemini": Guide(
        "Gemini",
        "https://generativelanguage.googleapis.com",
        "AIza...",
        f"{_COMMON_FEATURES}, thinking; signatures of tool calls travel in thinking blocks",
        "without `thinking` in the request the signatures can't travel, and Google's stand-in is "
        "sent in their place; "
        "images by address are fetched by the proxy",
    ),
    "moonshot": Guide(
        "Moonshot (Kimi)",
        "https://api.moonshot.ai",
        "sk-...",
        f"{_COMMON_FEATURES}, thinking with the reasoning given back, prefill",
        "while a model thinks, no call can be forced: the request is sent again without thinking",
    ),
    "glm": Guide(
        "GLM (Z.ai, BigModel)",
        "https://api.z.ai",
        "...",
        f"{_COMMON_FEATURES} (the schema goes into the prompt), thinking with the reasoning given "
        "back",
        "the coding plan has an address of its own: `https://api.z.ai/api/coding/paas/v4`; a call "
        "that the client requires "
        "is asked of the model in words; calls of tools stream in pieces with "
        '`UPSTREAM_EXTRA_BODY={"tool_stream": true}`',
    ),
    "minimax": Guide(
        "MiniMax",
        "https://api.minimax.io",
        "...",
        "text, streams, tools, images (M3), thinking given back",
        "M2 models always think; formats of answers, and calls that the client requires, are "
        "asked of the model in words",
    ),
    "qwen": Guide(
        "Qwen (DashScope, Model Studio)",
        "https://dashscope-intl.aliyuncs.com",
        "sk-...",
        f"{_COMMON_FEATURES}, thinking with a budget, prefill while the model doesn't think",
        "each region has a host and keys of its own; for marks of caching (they cost, and save) "
        "set "
        "`UPSTREAM_PROVIDER_SETTINGS=cache_control=true`",
    ),
    "nvidia": Guide(
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com",
        "nvapi-...",
        f"{_COMMON_FEATURES}, thinking",
        "a NIM of your own must be started with its switch for tools, else `tool_choice` is "
        "refused",
    ),
    "github": Guide(
        "GitHub Models",
        "https://models.github.ai",
        "ghp_...",
        _COMMON_FEATURES,
        "small limits of tokens for each request",
    ),
    "huggingface": Guide(
        "Hugging Face router",
        "https://router.huggingface.co",
        "hf_...",
        f"{_COMMON_FEATURES}, thinking",
        "`MODEL:PROVIDER` names the provider behind it",
    ),
    "perplexity": Guide(
        "Perplexity",
        "https://api.perplexity.ai",
        "pplx-...",
        "text, streams, images, structured outputs",
        "no tools",
    ),
    "generic": Guide(
        "Any other server",
        "https://HOST/v1",
        "...",
        "whatever it takes of Chat Completions; what it refuses is left out or changed, and "
        "remembered",
        "set `UPSTREAM_PROVIDER` where it is one of the kinds above behind another address, and "
        "`UPSTREAM_PROVIDER_SETTINGS` where it is not",
    ),
}

_HEAD = """# Upstreams

The kinds of servers that the proxy knows.
The host of `UPSTREAM_BASE_URL` selects a kind.
The proxy detects the kind of a server on your own machine or network when it starts.
`UPSTREAM_PROVIDER` names a kind for any address.
Each setting in the table below can be overridden:
`UPSTREAM_PROVIDER_SETTINGS=name=value;name=value`, or `provider_settings` in
[the file](configuration.md).
`UPSTREAM_HEADERS` adds headers, the URL's own query adds parameters, and `UPSTREAM_EXTRA_BODY` adds
fields.
When a model rejects a part of a request, the proxy changes the request, sends it again, and
remembers the change for that model.

`make docs` writes this page from the tables of the source.
"""


def render_page() -> str:
    """Return the page in Markdown."""
    profiles = (*PROFILES, GENERIC)
    return "\n".join(
        [
            _HEAD,
            *map(_render_section, profiles),
            "## Settings of providers",
            "",
            *_render_field_descriptions(),
            *_render_differences(profiles),
        ]
    )


def _render_section(profile: ProviderProfile) -> str:
    guide = GUIDES[profile.name]
    lines = [f"## {guide.title}", "", "```", f"UPSTREAM_BASE_URL={guide.url}"]
    if guide.api_key:
        lines.append(f"UPSTREAM_API_KEY={guide.api_key}")
    lines += [
        "```",
        "",
        f"`{profile.name}`: {_describe_selection(profile)}",
        "",
        f"Works: {guide.features}.",
        f"To know: {guide.notes}.",
        "",
    ]
    return "\n".join(lines)


def _describe_selection(profile: ProviderProfile) -> str:
    """Describe for which upstreams a profile is selected."""
    if profile is GENERIC:
        return "everything else"
    if not profile.hosts:
        return "detected by a probe, or set by `UPSTREAM_PROVIDER`"
    # A host with a leading dot stands for all of its subdomains.
    hosts = [f"*{host}" if host.startswith(".") else host for host in profile.hosts]
    return ", ".join(f"`{host}`" for host in hosts)


def _render_field_descriptions() -> Iterable[str]:
    """Yield a list item for each field of a profile that the configuration may override."""
    for name, description in FIELD_DESCRIPTIONS.items():
        yield f"- `{name}`: {description}"
    yield ""


def _render_differences(profiles: Iterable[ProviderProfile]) -> Iterable[str]:
    """Yield a table row for each profile with the fields that differ from OpenAI's."""
    yield "| Provider | Settings (where they are not OpenAI's) |"
    yield "| --- | --- |"
    openai = ProviderProfile("openai")
    for profile in profiles:
        differences = []
        for name in (each.name for each in dataclasses.fields(profile)):
            value = getattr(profile, name)
            if name in FIELD_DESCRIPTIONS and value != getattr(openai, name):
                differences.append(f"`{name}={_format_value(value)}`")
        yield f"| {profile.name} | {' '.join(differences)} |"
    yield ""


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "; ".join(f"{name}: {text}" for name, text in value)
    return str(value)


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output

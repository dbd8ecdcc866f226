"""Generate docs/upstreams.md: the setup of each provider, and its features.

The settings come from the table of provider profiles; this module adds a guide for each profile.
A test compares the page with both. `make docs` writes the page.
"""

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from anthropic_proxy.providers.profiles import GENERIC, PROFILES, ProviderProfile
from anthropic_proxy.providers.provider_profile import FIELD_DESCRIPTIONS

# The defaults of the profile describe OpenAI.
_OPENAI = ProviderProfile("openai")


class Guide(NamedTuple):
    """Setup and features of one provider."""

    title: str
    # value of UPSTREAM_BASE_URL
    url: str
    # value of UPSTREAM_API_KEY; None where the server needs none
    api_key: str | None
    # what a recording or the documentation proves to work, separated by commas
    features: str
    # sentences about limits, and about settings of the server
    notes: tuple[str, ...] = ()


_COMMON_FEATURES = "text, streams, tools, images, structured outputs"

GUIDES: Mapping[str, Guide] = {
    "openai": Guide(
        "OpenAI",
        "https://api.openai.com",
        "sk-...",
        f"{_COMMON_FEATURES}, PDFs, thinking, priority processing",
        (
            "Newer models accept tools together with thinking only in the Responses API.",
            (
                "The proxy changes to that API when OpenAI requires it, or at once with "
                "`UPSTREAM_API=responses`."
            ),
            "In the Responses API, `count_tokens` is exact.",
            "Cache marks become breakpoints, for models since GPT-5.6.",
        ),
    ),
    "azure": Guide(
        "Azure OpenAI",
        "https://NAME.openai.azure.com",
        "...",
        f"{_COMMON_FEATURES}, thinking, PDFs as text",
        (
            "The address above is the v1 API, where the model is the name of the deployment.",
            (
                "Older addresses of a deployment also work: "
                "`.../openai/deployments/DEPLOYMENT?api-version=2025-04-01-preview`."
            ),
            "With `UPSTREAM_API=responses` PDFs are sent as files, and `count_tokens` is exact.",
            "Cache marks become breakpoints, for models since GPT-5.6.",
            "A response that the content filter stops ends with `refusal`.",
            "For tokens of Entra ID set `UPSTREAM_PROVIDER_SETTINGS=auth=bearer`.",
        ),
    ),
    "openrouter": Guide(
        "OpenRouter",
        "https://openrouter.ai/api",
        "sk-or-...",
        f"{_COMMON_FEATURES}, PDFs, thinking with signatures, cache marks (`cache_control`), "
        "prefill",
        (
            "Put `provider`, `models` and `plugins` into `UPSTREAM_EXTRA_BODY`.",
            "Put the address of your app (`HTTP-Referer`) into `UPSTREAM_HEADERS`.",
            "Providers behind OpenRouter accept different fields.",
        ),
    ),
    "ollama": Guide(
        "Ollama",
        "http://localhost:11434",
        None,
        "text, streams, tools, images, JSON, thinking, prefill",
        (
            "Ollama silently cuts a prompt that is longer than the context.",
            (
                "Start it with `OLLAMA_CONTEXT_LENGTH=65536` or more, because its "
                "OpenAI-compatible API has no field for that."
            ),
            "It ignores `tool_choice`.",
        ),
    ),
    "llamacpp": Guide(
        "llama.cpp (llama-server)",
        "http://localhost:8080",
        None,
        "text, streams, tools, images, structured outputs, thinking with a budget, exact "
        "`count_tokens`, prefill",
        (
            "Tools need `--jinja`, images need `--mmproj`.",
            "The server uses its loaded model for every model name.",
        ),
    ),
    "vllm": Guide(
        "vLLM",
        "http://localhost:8000",
        None,
        f"{_COMMON_FEATURES}, thinking with a budget, exact `count_tokens`, prefill",
        (
            (
                "Tools need `--enable-auto-tool-choice` and `--tool-call-parser`, thinking needs "
                "`--reasoning-parser`."
            ),
        ),
    ),
    "sglang": Guide(
        "SGLang",
        "http://localhost:30000",
        None,
        f"{_COMMON_FEATURES}, thinking, prefill",
        ("Tools need `--tool-call-parser`, thinking needs `--reasoning-parser`.",),
    ),
    "lmstudio": Guide(
        "LM Studio",
        "http://localhost:1234",
        None,
        _COMMON_FEATURES,
        ("The choice of a named tool becomes `required`, with only that tool.",),
    ),
    "litellm": Guide(
        "LiteLLM",
        "http://localhost:4000",
        "sk-...",
        _COMMON_FEATURES,
        (
            "Other features depend on the provider behind LiteLLM.",
            "`drop_params: true` in its settings avoids rejected fields.",
        ),
    ),
    "deepseek": Guide(
        "DeepSeek",
        "https://api.deepseek.com",
        "sk-...",
        "text, streams, tools, structured outputs, thinking",
        (
            "The JSON schema of structured outputs goes into the prompt.",
            "The proxy returns reasoning to the upstream within tool loops.",
            "Images are not supported.",
            (
                "Prefill is a beta feature: set "
                "`UPSTREAM_BASE_URL=https://api.deepseek.com/beta/chat/completions` and "
                "`UPSTREAM_PROVIDER_SETTINGS=prefill=prefix`."
            ),
        ),
    ),
    "mistral": Guide(
        "Mistral",
        "https://api.mistral.ai",
        "...",
        f"{_COMMON_FEATURES}, thinking, prefill",
        ("The proxy maps ids of tool calls to nine characters.",),
    ),
    "groq": Guide(
        "Groq",
        "https://api.groq.com/openai",
        "gsk_...",
        f"{_COMMON_FEATURES}, thinking, prefill",
        ("A tool call that Groq finds malformed is an error that clients may retry.",),
    ),
    "together": Guide(
        "Together",
        "https://api.together.xyz",
        "...",
        f"{_COMMON_FEATURES}, thinking",
    ),
    "fireworks": Guide(
        "Fireworks",
        "https://api.fireworks.ai/inference",
        "fw_...",
        f"{_COMMON_FEATURES}, thinking",
    ),
    "cerebras": Guide(
        "Cerebras",
        "https://api.cerebras.ai",
        "csk-...",
        "text, streams, tools, structured outputs, thinking",
        ("Few models accept images.",),
    ),
    "xai": Guide(
        "xAI",
        "https://api.x.ai",
        "xai-...",
        f"{_COMMON_FEATURES}, thinking",
        ("xAI reports an invalid key as a 400, and so does the proxy.",),
    ),
    "gemini": Guide(
        "Gemini",
        "https://generativelanguage.googleapis.com",
        "AIza...",
        f"{_COMMON_FEATURES}, thinking",
        (
            "Thinking blocks contain the signatures of tool calls.",
            (
                "Without `thinking` in the request the proxy sends the placeholder that Google "
                "documents instead of a signature."
            ),
            "The proxy downloads images that are given by URL.",
        ),
    ),
    "moonshot": Guide(
        "Moonshot (Kimi)",
        "https://api.moonshot.ai",
        "sk-...",
        f"{_COMMON_FEATURES}, thinking, prefill",
        (
            "The proxy returns reasoning to the upstream.",
            (
                "A tool call cannot be forced while a model thinks: the proxy sends the request "
                "again without thinking."
            ),
        ),
    ),
    "glm": Guide(
        "GLM (Z.ai, BigModel)",
        "https://api.z.ai",
        "...",
        f"{_COMMON_FEATURES}, thinking",
        (
            "The address of the coding plan is `https://api.z.ai/api/coding/paas/v4`.",
            "JSON schemas and required tool calls go into the prompt.",
            "The proxy returns reasoning to the upstream.",
            'Tool calls are streamed with `UPSTREAM_EXTRA_BODY={"tool_stream": true}`.',
        ),
    ),
    "minimax": Guide(
        "MiniMax",
        "https://api.minimax.io",
        "...",
        "text, streams, tools, images (M3), thinking",
        (
            "M2 models always think.",
            "Response formats and required tool calls go into the prompt.",
            "The proxy returns reasoning to the upstream.",
        ),
    ),
    "qwen": Guide(
        "Qwen (DashScope, Model Studio)",
        "https://dashscope-intl.aliyuncs.com",
        "sk-...",
        f"{_COMMON_FEATURES}, thinking with a budget, prefill without thinking",
        (
            "Each region has its own host and keys.",
            (
                "`UPSTREAM_PROVIDER_SETTINGS=cache_control=true` enables cache marks, which have a "
                "separate price."
            ),
        ),
    ),
    "nvidia": Guide(
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com",
        "nvapi-...",
        f"{_COMMON_FEATURES}, thinking",
        (
            (
                "A self-hosted NIM must be started with its option for tools; otherwise it rejects "
                "`tool_choice`."
            ),
        ),
    ),
    "github": Guide(
        "GitHub Models",
        "https://models.github.ai",
        "ghp_...",
        _COMMON_FEATURES,
        ("The limits of tokens for each request are small.",),
    ),
    "huggingface": Guide(
        "Hugging Face router",
        "https://router.huggingface.co",
        "hf_...",
        f"{_COMMON_FEATURES}, thinking",
        ("The model name `MODEL:PROVIDER` selects the provider.",),
    ),
    "perplexity": Guide(
        "Perplexity",
        "https://api.perplexity.ai",
        "pplx-...",
        "text, streams, images, structured outputs",
        ("Tools are not supported.",),
    ),
    "generic": Guide(
        "Any other server",
        "https://HOST/v1",
        "...",
        "the parts of Chat Completions that the server accepts",
        (
            "The proxy omits or changes what the server rejects, and remembers it.",
            "If a provider above is at another address, set `UPSTREAM_PROVIDER`.",
            "Otherwise set `UPSTREAM_PROVIDER_SETTINGS` as needed.",
        ),
    ),
}

# Settings with several forms, and the meaning of each value.
VALUES: Mapping[str, Mapping[str, str]] = {
    "reasoning": {
        "openai": "`reasoning_effort` of any level, `none` without thinking",
        "openrouter": "`reasoning` with an effort, a budget or a switch",
        "template": "`reasoning_effort` up to `high`, and `chat_template_kwargs` to turn it off",
        "effort": "`reasoning_effort` up to `high`, `none` without thinking",
        "toggle": "`reasoning_effort` up to `high`, and `reasoning` to turn it off",
        "thinking": "`thinking` as a switch, and `reasoning_effort` `low`, `high` or `max`",
        "enable_thinking": "`enable_thinking` as a switch, and `thinking_budget`",
        "split": "`thinking` as a switch, and `reasoning_split`",
        "responses": "`reasoning_effort`, and fields of the Responses API to return reasoning",
        "none": "no fields",
    },
    "tool_choices": {
        "named": "all choices, also a tool by its name",
        "words": "all but a tool by its name: the proxy sends `required` with only that tool",
        "auto": "`auto` only: the prompt states a required call",
    },
    "answer_format": {
        "json_schema": "JSON schemas",
        "json_object": "JSON without a schema: the schema goes into the system prompt",
        "words": "no formats: the schema goes into the system prompt",
    },
    "prefill": {
        "continued": "the upstream continues the message as it is",
        "refused": "the proxy rejects the request, with the error of the Messages API",
        "continue_final_message": "with `continue_final_message` in the request",
        "prefix": "with `prefix` in the message",
        "partial": "with `partial` in the message",
    },
}

_HEAD = """# Upstreams

The proxy knows the differences between these providers.

- The host of `UPSTREAM_BASE_URL` selects a provider.
- The proxy detects the provider of a self-hosted server when it starts.
- `UPSTREAM_PROVIDER`, or `provider` in the [configuration file](configuration.md), selects a
  provider for any address.

The last part of this page lists the settings of each provider.
`UPSTREAM_PROVIDER_SETTINGS=name=value;name=value`, or `provider_settings` in the file, overrides
them.
`UPSTREAM_HEADERS` adds headers, the query of the URL adds parameters, and `UPSTREAM_EXTRA_BODY`
adds fields.
When an upstream rejects a part of a request, the proxy changes the request, sends it again, and
remembers the change for that model.

*Prefill* is an assistant message at the end of a conversation, which the response continues.

`make docs` generates this page from the tables of the source.
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
            *_render_settings(),
            *_render_values(),
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
        _wrap(f"Provider `{profile.name}`: {_describe_selection(profile)}."),
        "",
        _wrap(f"Supported: {guide.features}."),
        "",
    ]
    notes = [*guide.notes]
    if profile.prefill == "refused" and not any("prefill" in note.lower() for note in notes):
        notes.append("The proxy rejects prefill.")
    if notes:
        lines += [*map(_wrap, notes), ""]
    return "\n".join(lines)


def _wrap(sentence: str) -> str:
    return textwrap.fill(sentence, 100, break_long_words=False, break_on_hyphens=False)


def _describe_selection(profile: ProviderProfile) -> str:
    """Describe for which upstreams a profile is selected."""
    if profile is GENERIC:
        return "all other servers"
    if not profile.hosts:
        return "detected at the start, or set by `UPSTREAM_PROVIDER`"
    # A leading dot matches all subdomains.
    hosts = [f"*{host}" if host.startswith(".") else host for host in profile.hosts]
    return "hosts " + ", ".join(f"`{host}`" for host in hosts)


def _render_settings() -> Iterable[str]:
    """Yield a table with a row for each setting that the configuration may override."""
    yield "| Setting | Values | Default | Meaning |"
    yield "| --- | --- | --- | --- |"
    types = get_type_hints(ProviderProfile)
    for name, description in FIELD_DESCRIPTIONS.items():
        default = _format_value(getattr(_OPENAI, name))
        cells = (
            f"`{name}`",
            _describe_values(types[name]),
            f"`{default}`" if default else "",
            description,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _describe_values(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind) if value) + (
            ", or empty" if "" in get_args(kind) else ""
        )
    return _VALUES_BY_TYPE.get(kind, "list of name and value")


_VALUES_BY_TYPE = {bool: "`true`, `false`", str: "text"}


def _render_values() -> Iterable[str]:
    """Yield a table of values for each setting with several forms."""
    for name, descriptions in VALUES.items():
        yield from (f"### Values of `{name}`", "", "| Value | Request |", "| --- | --- |")
        for value, description in descriptions.items():
            yield f"| `{value}` | {description} |"
        yield ""


def _render_differences(profiles: Iterable[ProviderProfile]) -> Iterable[str]:
    """Yield a table row for each profile with the fields that differ from OpenAI's."""
    yield "### Settings of each provider"
    yield ""
    yield "| Provider | Settings that differ from the defaults |"
    yield "| --- | --- |"
    for profile in profiles:
        differences = []
        for name in (each.name for each in dataclasses.fields(profile)):
            value = getattr(profile, name)
            if name in FIELD_DESCRIPTIONS and value != getattr(_OPENAI, name):
                differences.append(f"`{name}={_format_value(value)}`")
        yield f"| `{profile.name}` | {' '.join(differences)} |"
    yield ""


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        # Names, or pairs of a name and a text.
        return "; ".join(item if isinstance(item, str) else ": ".join(item) for item in value)
    return str(value)


if __name__ == "__main__":
    print(render_page(), end="")  # noqa: T201 - the page is this module's output

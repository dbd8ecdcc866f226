"""The record type of provider profiles: how a kind of upstream differs from OpenAI's own API."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

MaxTokensField = Literal["max_completion_tokens", "max_tokens"]
ReasoningForm = Literal[
    "openai",
    "openrouter",
    "template",
    "effort",
    "toggle",
    "thinking",
    "enable_thinking",
    "split",
    "none",
    "responses",
]
PrefillMode = Literal["continued", "refused", "continue_final_message", "prefix", "partial"]

# platform.openai.com/docs/api-reference/chat. Fields that OpenAI and compatible servers have for
# sampling; the Responses API lacks them.
SAMPLING_FIELDS = ("frequency_penalty", "presence_penalty", "seed", "logit_bias")


@dataclass(frozen=True)
class ProviderProfile:
    """The properties of one kind of upstream. The defaults describe OpenAI's own API.

    The description of each field is published in docs/upstreams.md.
    """

    name: str
    hosts: Annotated[
        tuple[str, ...],
        "host names of this kind of upstream; a name that starts with a dot matches all subdomains",
    ] = ()

    # The address and the headers.
    api_path: Annotated[
        str,
        "path of the API on these hosts, for a base URL without a path",
    ] = "/v1"
    auth: Annotated[
        Literal["bearer", "api-key"],
        "header of the key: `Authorization: Bearer KEY`, or `api-key: KEY`",
    ] = "bearer"
    api_version: Annotated[
        str,
        "`api-version` for URLs of a deployment that have none; empty if the upstream needs none",
    ] = ""
    headers: Annotated[tuple[tuple[str, str], ...], "headers of every request"] = ()

    # Parameters of the request.
    max_tokens_field: Annotated[
        MaxTokensField, "request field that limits the tokens of the response"
    ] = "max_completion_tokens"
    sampling_top_k: Annotated[bool, "whether requests may contain `top_k`"] = False
    stream_options: Annotated[
        bool,
        "whether requests may contain `stream_options`; upstreams that reject it report usage "
        "without it",
    ] = True

    # Messages and reasoning.
    system_anywhere: Annotated[
        bool,
        "whether a system message may follow other messages. If not, its text becomes part of a "
        "user message, because many chat templates of local models reject such a message.",
    ] = True
    replays_reasoning: Annotated[
        bool,
        "whether assistant messages contain their earlier reasoning; OpenAI's API has no field for "
        "it",
    ] = False
    reasoning: Annotated[
        ReasoningForm,
        "request fields for thinking and effort; see [below](#values-of-reasoning)",
    ] = "openai"
    thinking_budget_field: Annotated[
        Literal["thinking_token_budget", "thinking_budget_tokens", ""],
        "request field for `budget_tokens` besides the effort; empty if there is none",
    ] = ""

    # Tools.
    tool_call_ids: Annotated[
        Literal["plain", "nine", "native", "numbered"],
        "form of tool call ids: up to 40 letters, digits, `_` and `-` (`plain`), or exactly 9 "
        "letters and digits (`nine`), or `functions.NAME:N` of Kimi K2 (`numbered`), or this form "
        "if the model wrote a call of the conversation in it, otherwise `plain` (`native`)",
    ] = "plain"
    tool_choices: Annotated[
        Literal["named", "words", "auto"],
        "tool choices that the upstream accepts; see [below](#values-of-tool_choices)",
    ] = "named"
    tool_signatures: Annotated[
        bool,
        "whether tool calls have a signature that the next request must return",
    ] = False
    tool_result_names: Annotated[
        bool, "whether tool messages must contain the name of the tool"
    ] = False

    # Other fields of the request.
    answer_format: Annotated[
        Literal["json_schema", "json_object", "words"],
        "response formats that the upstream accepts; see [below](#values-of-answer_format)",
    ] = "json_schema"
    cache_control: Annotated[
        bool, "whether text parts may contain `cache_control`, as in the Messages API"
    ] = False
    cache_breakpoints: Annotated[
        Literal["30m", "12h", ""],
        "longest lifetime of a `prompt_cache_breakpoint`, which content parts have for "
        "`cache_control`; empty if the upstream has no such field",
    ] = "30m"
    user_field: Annotated[
        Literal["safety_identifier", "user", ""],
        "request field for the end user; empty if there is none",
    ] = "safety_identifier"
    prompt_cache_key: Annotated[bool, "whether requests may contain `prompt_cache_key`"] = True
    extra_fields: Annotated[
        tuple[str, ...],
        "fields outside of the Messages API that a client may add for its server; the proxy omits "
        "others (a list, only in the configuration file)",
    ] = (*SAMPLING_FIELDS, "verbosity")
    counts_tokens: Annotated[
        bool,
        "whether the proxy looks for an endpoint of the server that counts tokens of Chat "
        "Completions requests; hosted services have none",
    ] = False
    counts_responses: Annotated[
        bool,
        "whether the upstream counts the input tokens of requests to the Responses API, with "
        "`/responses/input_tokens`",
    ] = True

    # Files and images.
    takes_files: Annotated[
        bool, "whether user messages may contain `file` parts; if not, a PDF becomes its text"
    ] = True
    responses_files: Annotated[
        bool, "whether the upstream accepts files in the Responses API, also in tool results"
    ] = True
    tool_parts: Annotated[
        bool,
        "whether tool messages may contain images and files; if not, the next user message "
        "contains them",
    ] = False
    fetches_image_urls: Annotated[
        bool,
        "whether the upstream downloads images by URL; if not, the proxy downloads them",
    ] = True

    prefill: Annotated[
        PrefillMode,
        "form of an assistant message at the end of the conversation; see "
        "[below](#values-of-prefill)",
    ] = "refused"
    service_tiers: Annotated[bool, "whether requests may contain `service_tier`"] = True


# Fields that select a profile and do not describe the server. The configuration cannot override
# them.
_IDENTITY_FIELDS = ("name", "hosts")
_FIELD_TYPES = get_type_hints(ProviderProfile)


def _read_descriptions() -> dict[str, str]:
    """Return the description of each field that the configuration may override."""
    descriptions = {}
    for name, hint in get_type_hints(ProviderProfile, include_extras=True).items():
        if name not in _IDENTITY_FIELDS:
            descriptions[name] = hint.__metadata__[0]
    return descriptions


FIELD_DESCRIPTIONS: Mapping[str, str] = _read_descriptions()
OVERRIDABLE_FIELDS: tuple[str, ...] = tuple(FIELD_DESCRIPTIONS)


def override_profile(profile: ProviderProfile, overrides: Mapping[str, Any]) -> ProviderProfile:
    """Return a copy of the profile with other values for some of its fields.

    Values may be strings, because environment variables are strings. Raises ValueError with the
    name of the field and the values that it accepts.
    """
    values = {name: _parse_override(name, value) for name, value in overrides.items()}
    return replace(profile, **values)


def _parse_override(name: str, value: Any) -> Any:
    if name not in OVERRIDABLE_FIELDS:
        names = ", ".join(OVERRIDABLE_FIELDS)
        raise ValueError(f"{name!r} is not a setting of a provider (known: {names})")
    try:
        return TypeAdapter(_FIELD_TYPES[name]).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name}: {reason}") from None

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


@dataclass(frozen=True)
class ProviderProfile:
    """The properties of one kind of upstream. The defaults describe OpenAI's own API.

    The description of each field is published in docs/upstreams.md.
    """

    name: str
    hosts: Annotated[
        tuple[str, ...],
        "host names of this kind of upstream; a name that starts with a dot matches every host "
        "below it.",
    ] = ()

    # The address and the headers.
    api_path: Annotated[
        str,
        "path of the API on these hosts, for a base URL without a path.",
    ] = "/v1"
    auth: Annotated[
        Literal["bearer", "api-key"],
        "header of the key: `Authorization: Bearer KEY`, or `api-key: KEY`.",
    ] = "bearer"
    api_version: Annotated[
        str,
        "the `api-version` for addresses of one deployment whose URL has none; empty where the "
        "upstream needs none.",
    ] = ""
    headers: Annotated[
        tuple[tuple[str, str], ...], "(name, value) pairs that are added to every request."
    ] = ()

    # Parameters of the request.
    max_tokens_field: Annotated[
        MaxTokensField, "the request field that limits the response, in tokens."
    ] = "max_completion_tokens"
    sampling_top_k: Annotated[bool, "whether the request may hold `top_k`."] = False
    stream_options: Annotated[
        bool,
        "whether the request may hold `stream_options`; upstreams that reject it send usage "
        "without it.",
    ] = True

    # Messages and reasoning.
    system_anywhere: Annotated[
        bool,
        "whether a system message may be between or after the others. Many chat templates of local "
        "models reject such a message, so elsewhere its text becomes part of a user message.",
    ] = True
    replays_reasoning: Annotated[
        bool,
        "whether an assistant message may hold the reasoning that it came with. OpenAI's API has "
        "no field for it.",
    ] = False
    reasoning: Annotated[
        ReasoningForm,
        "the form in which a request sets how much to think; see translate/request/thinking.py.",
    ] = "openai"

    # Tools.
    tool_call_ids: Annotated[
        Literal["plain", "nine"],
        "the form of a tool call's id: up to 40 plain characters, or exactly 9 letters and digits.",
    ] = "plain"
    tool_choices: Annotated[
        Literal["named", "words", "auto"],
        "the tool choices that the upstream accepts: all of them, also one tool by its name "
        "(`named`); all but a tool by its name (`words`); `auto` alone. The prompt states a choice "
        "that the upstream rejects; see translate/request/tool_choice.py.",
    ] = "named"
    tool_signatures: Annotated[
        bool,
        "whether a tool call has a signature that the next request must return with it; see "
        "translate/reasoning/tool_call_signatures.py.",
    ] = False
    tool_result_names: Annotated[
        bool, "whether a tool message must name the tool whose result it is."
    ] = False

    # Other fields of the request.
    answer_format: Annotated[
        Literal["json_schema", "json_object", "words"],
        "how a request states the format of the response: by its JSON schema; as any JSON object, "
        "or not at all, with the schema in the system prompt (`json_object`, `words`); see "
        "translate/request/response_format.py.",
    ] = "json_schema"
    cache_control: Annotated[
        bool, "whether a text part may mark the end of what is cached, as in the Messages API."
    ] = False
    user_field: Annotated[
        Literal["safety_identifier", "user", ""],
        "the request field for the end user; empty where there is none.",
    ] = "safety_identifier"
    prompt_cache_key: Annotated[
        bool, "whether the request may name the prompt cache that it shares."
    ] = True
    counts_tokens: Annotated[
        bool,
        "whether the proxy looks for an endpoint that counts a request's tokens; see "
        "gateway/token_counting.py. Services have none.",
    ] = False

    # Files and images.
    takes_files: Annotated[
        bool, "whether a user message may hold `file` parts; other upstreams get the text of a PDF."
    ] = True
    responses_files: Annotated[
        bool, "whether the upstream accepts files in the Responses API, also within tool results."
    ] = True
    tool_parts: Annotated[
        bool,
        "whether a tool message may hold images and files; for other upstreams a user message "
        "after it holds them.",
    ] = False
    fetches_image_urls: Annotated[
        bool,
        "whether the upstream fetches an image by its URL; the proxy fetches it for other "
        "upstreams.",
    ] = True

    prefill: Annotated[
        PrefillMode,
        "the form of an assistant message at the end of the conversation; see "
        "translate/request/prefill.py.",
    ] = "refused"
    service_tiers: Annotated[bool, "whether the request may hold `service_tier`."] = True


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
        known = ", ".join(OVERRIDABLE_FIELDS)
        raise ValueError(f"{name!r} is not a setting of a provider (known: {known})")
    try:
        return TypeAdapter(_FIELD_TYPES[name]).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name}: {reason}") from None

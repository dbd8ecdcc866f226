"""The profile of one kind of upstream server: how it differs from OpenAI's own API."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

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


def _describe(text: str) -> Mapping[str, str]:
    """Return field metadata with the description that docs/upstreams.md shows."""
    return {"description": text}


@dataclass(frozen=True)
class ProviderProfile:
    """What one kind of upstream accepts and sends. The defaults describe OpenAI's own API.

    The metadata of each field describes the field; docs/upstreams.md is generated from it.
    """

    name: str
    hosts: tuple[str, ...] = field(
        default=(),
        metadata=_describe(
            "host names of this kind of upstream; a name that starts with a dot matches every host below it."
        ),
    )
    api_path: str = field(
        default="/v1",
        metadata=_describe("path of the API on these hosts, for a base URL without a path."),
    )
    auth: Literal["bearer", "api-key"] = field(
        default="bearer",
        metadata=_describe("header of the key: `Authorization: Bearer KEY`, or `api-key: KEY`."),
    )
    api_version: str = field(
        default="",
        metadata=_describe(
            "the `api-version` for addresses of one deployment whose URL has none; empty where the upstream needs none."
        ),
    )
    headers: tuple[tuple[str, str], ...] = field(
        default=(), metadata=_describe("(name, value) pairs that are added to every request.")
    )
    max_tokens_field: MaxTokensField = field(
        default="max_completion_tokens",
        metadata=_describe("the request field that limits the response, in tokens."),
    )
    sampling_top_k: bool = field(
        default=False, metadata=_describe("whether the request may hold `top_k`.")
    )
    stream_options: bool = field(
        default=True,
        metadata=_describe(
            "whether the request may hold `stream_options`; upstreams that reject it send usage without it."
        ),
    )
    system_anywhere: bool = field(
        default=True,
        metadata=_describe(
            "whether a system message may stand between or after the others. Many chat templates of local models reject "
            "one, so elsewhere its text goes into a user message."
        ),
    )
    replays_reasoning: bool = field(
        default=False,
        metadata=_describe(
            "whether an assistant message may hold the reasoning that it came with. OpenAI's API has no field for it."
        ),
    )
    reasoning: ReasoningForm = field(
        default="openai",
        metadata=_describe(
            "the form in which a request says how much to think; see translate/request/thinking.py."
        ),
    )
    tool_call_ids: Literal["plain", "nine"] = field(
        default="plain",
        metadata=_describe(
            "the form of a tool call's id: up to 40 plain characters, or exactly 9 letters and digits."
        ),
    )
    tool_choices: Literal["named", "words", "auto"] = field(
        default="named",
        metadata=_describe(
            "the tool choices that the upstream accepts: all of them, also one tool by its name (`named`); all but a tool "
            "by its name (`words`); `auto` alone. The prompt states a choice that the upstream rejects; see "
            "translate/request/tool_choice.py."
        ),
    )
    tool_signatures: bool = field(
        default=False,
        metadata=_describe(
            "whether a tool call has a signature that the next request must return with it; see "
            "translate/reasoning/tool_call_signatures.py."
        ),
    )
    tool_result_names: bool = field(
        default=False,
        metadata=_describe("whether a tool message must name the tool whose result it is."),
    )
    answer_format: Literal["json_schema", "json_object", "words"] = field(
        default="json_schema",
        metadata=_describe(
            "how a request states the format of the response: by its JSON schema; as any JSON object, or not at all, with "
            "the schema in the system prompt (`json_object`, `words`); see translate/request/response_format.py."
        ),
    )
    cache_control: bool = field(
        default=False,
        metadata=_describe(
            "whether a text part may mark the end of what is cached, as in the Messages API."
        ),
    )
    user_field: Literal["safety_identifier", "user", ""] = field(
        default="safety_identifier",
        metadata=_describe("the request field for the end user; empty where there is none."),
    )
    prompt_cache_key: bool = field(
        default=True,
        metadata=_describe("whether the request may name the prompt cache that it shares."),
    )
    counts_tokens: bool = field(
        default=False,
        metadata=_describe(
            "whether the proxy looks for an endpoint that counts a request's tokens; see gateway/token_counting.py. "
            "Services have none."
        ),
    )
    takes_files: bool = field(
        default=True,
        metadata=_describe(
            "whether a user message may hold `file` parts; other upstreams get the text of a PDF."
        ),
    )
    responses_files: bool = field(
        default=True,
        metadata=_describe(
            "whether the upstream accepts files in the Responses API, also within tool results."
        ),
    )
    tool_parts: bool = field(
        default=False,
        metadata=_describe(
            "whether a tool message may hold images and files; for other upstreams a user message after it holds them."
        ),
    )
    fetches_image_urls: bool = field(
        default=True,
        metadata=_describe(
            "whether the upstream fetches an image by its URL; the proxy fetches it for other upstreams."
        ),
    )
    prefill: PrefillMode = field(
        default="refused",
        metadata=_describe(
            "the form of an assistant message at the end of the conversation; see translate/request/prefill.py."
        ),
    )
    service_tiers: bool = field(
        default=True, metadata=_describe("whether the request may hold `service_tier`.")
    )


# Fields that select a profile. They say nothing about the server, so no configuration overrides them.
_IDENTITY_FIELDS = ("name", "hosts")
_FIELD_TYPES = get_type_hints(ProviderProfile)

# Description of each field that the configuration may override, in the order of the record.
FIELD_DESCRIPTIONS: Mapping[str, str] = {
    each.name: each.metadata["description"]
    for each in fields(ProviderProfile)
    if each.name not in _IDENTITY_FIELDS
}
OVERRIDABLE_FIELDS: tuple[str, ...] = tuple(FIELD_DESCRIPTIONS)


def override_profile(profile: ProviderProfile, overrides: Mapping[str, Any]) -> ProviderProfile:
    """Return the profile with other values for some of its fields.

    Values may be texts, as environment variables are. Raises ValueError with the name of the field and the values it takes.
    """
    return replace(
        profile, **{name: _parse_override(name, value) for name, value in overrides.items()}
    )


def _parse_override(name: str, value: Any) -> Any:
    if name not in OVERRIDABLE_FIELDS:
        raise ValueError(
            f"{name!r} is not a fact of a provider profile (known: {', '.join(OVERRIDABLE_FIELDS)})"
        )
    try:
        return TypeAdapter(_FIELD_TYPES[name]).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name}: {reason}") from None

"""What differs between upstreams that all call themselves OpenAI-compatible: one record of facts about a kind of server."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class ProviderProfile:
    """Facts about one kind of upstream. The defaults are OpenAI's own API.

    hosts: host names it is known by; one that starts with a dot stands for every host below it.
    api_path: where its API stands on these hosts, for a base URL that does not say.
    auth: how its key is sent: `Authorization: Bearer KEY`, or `api-key: KEY`.
    api_version: the `api-version` that its older addresses want, where the URL has none; empty where there are none.
    headers: (name, value) pairs that every request gets.
    max_tokens_field: the request field that bounds the answer, in tokens.
    sampling_top_k: whether the request may hold `top_k`.
    stream_options: whether the request may hold `stream_options`; those that can't take it send usage without being asked.
    system_anywhere: whether a system message may stand between or after the others. Many chat templates of local
        models refuse one, so elsewhere its text goes into a user message.
    replays_reasoning: whether an assistant message may hold the reasoning that it came with. OpenAI's API has none.
    reasoning: the form in which a request says how much to think; see translate/request/thinking.py.
    tool_call_ids: what an id of a tool call may be: up to 40 plain characters, or exactly 9 letters and digits.
    tool_choices: which choices of tools it takes: all of them, also one tool by its name (`named`); all but that (`words`);
        `auto` alone. What it doesn't take is asked of the model in words; see translate/tool_choice.py.
    tool_signatures: whether a tool call has a signature that must come back with it; see translate/toolsignatures.py.
    tool_result_names: whether a tool message must name the tool that it is the result of.
    answer_format: how the format of an answer is asked for: by its JSON schema; as any JSON object, or not at all, with the
        schema in the system prompt (`json_object`, `words`); see translate/json_format.py.
    cache_control: whether texts may be marked as the end of what is cached, as in the Messages API.
    user_field: the field for the end user; empty where there is none.
    prompt_cache_key: whether the request may name the prompt cache that it shares.
    counts_tokens: whether it is worth asking for a way to count a request's tokens; see counting.py. Services have none.
    takes_files: whether a user message may hold `file` parts; the text of a PDF goes to those who don't.
    responses_files: whether it takes files when it is asked by the Responses API, also within results of tools.
    tool_parts: whether a tool message may hold images and files; a user message after it holds them for those who don't.
    fetches_image_urls: whether it fetches an image by its address; the proxy does it for those who don't.
    prefill: what becomes of an assistant message at the end of the conversation; see translate/prefill.py.
    service_tiers: whether the request may hold `service_tier`.
    """

    name: str
    hosts: tuple[str, ...] = ()
    api_path: str = "/v1"
    auth: Literal["bearer", "api-key"] = "bearer"
    api_version: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    sampling_top_k: bool = False
    stream_options: bool = True
    system_anywhere: bool = True
    replays_reasoning: bool = False
    reasoning: Literal[
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
    ] = "openai"
    tool_call_ids: Literal["plain", "nine"] = "plain"
    tool_choices: Literal["named", "words", "auto"] = "named"
    tool_signatures: bool = False
    tool_result_names: bool = False
    answer_format: Literal["json_schema", "json_object", "words"] = "json_schema"
    cache_control: bool = False
    user_field: Literal["safety_identifier", "user", ""] = "safety_identifier"
    prompt_cache_key: bool = True
    counts_tokens: bool = False
    takes_files: bool = True
    responses_files: bool = True
    tool_parts: bool = False
    fetches_image_urls: bool = True
    prefill: Literal["continued", "refused", "continue_final_message", "prefix", "partial"] = (
        "refused"
    )
    service_tiers: bool = True


# What names a row, and is no fact about the server.
_IDENTITY_FIELDS = ("name", "hosts")
_FIELD_TYPES = get_type_hints(ProviderProfile)
OVERRIDABLE_FIELDS: tuple[str, ...] = tuple(
    each.name for each in fields(ProviderProfile) if each.name not in _IDENTITY_FIELDS
)


def override_profile(profile: ProviderProfile, overrides: Mapping[str, Any]) -> ProviderProfile:
    """The dialect with other facts, whose values may be texts, as variables of the environment are. Raises ValueError that
    names the fact, and what is allowed.
    """
    return replace(
        profile, **{name: _parse_override(name, value) for name, value in overrides.items()}
    )


def _parse_override(name: str, value: Any) -> Any:
    if name not in OVERRIDABLE_FIELDS:
        raise ValueError(
            f"{name!r} is no fact of a dialect (known: {', '.join(OVERRIDABLE_FIELDS)})"
        )
    try:
        return TypeAdapter(_FIELD_TYPES[name]).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name}: {reason}") from None

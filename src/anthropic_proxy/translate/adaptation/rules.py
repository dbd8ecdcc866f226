"""Rules that map a refusal to the change that makes the upstream accept the request.

Servers differ by model and version in ways that no table can hold: the name of the token limit, the
largest response, the effort levels, fields that only reasoning models refuse. Their refusals (400,
422 and similar) say so. The change is applied at once, and remembered for the model when it helped,
so that only the first request pays for it.

The rules run in order; the first that returns an effective change decides. Only optional fields are
dropped; any other refusal stays an error for the caller. A refusal of some kind of requests only
(with thinking, with tools) is remembered for that kind.

Sources of the wordings: recorded transcripts and issue trackers of clients and servers; each has a
case in the tests.
"""

import re
from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.adaptation.changes import (
    EFFORT_LEVELS,
    TOKEN_LIMIT_FIELDS,
    RequestChange,
)
from anthropic_proxy.translate.adaptation.conditions import (
    THINKING_FIELDS,
    Condition,
    build_condition,
    forces_tool_call,
)
from anthropic_proxy.translate.adaptation.refusal_words import (
    REFUSAL_PATTERN,
    mentions_field,
    names_field,
    refused_param,
)
from anthropic_proxy.translate.adaptation.refused_messages import find_message_change
from anthropic_proxy.translate.upstream_errors import (
    UpstreamFailure,
    parse_context_sizes,
    parse_count,
)
from anthropic_proxy.wire.json_codec import JsonObject

_REFUSAL_STATUSES = frozenset({400, 404, 413, 422, 500, 501})

# Many models accept these only while they don't think. Few refusals say so.
_SAMPLING_FIELDS = ("temperature", "top_p", "top_k")

# Fields that a request can lose and still get a useful response.
_OPTIONAL_FIELDS = (
    *_SAMPLING_FIELDS,
    *THINKING_FIELDS,
    "reasoning_split",
    "parallel_tool_calls",
    "stream_options",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)
# Tokens. A shorter response is useless; an error about the long prompt serves the caller better.
_MIN_OUTPUT_TOKENS = 256


def find_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for `failure`, the refusal of `body`; None when no rule applies."""
    if failure.status not in _REFUSAL_STATUSES:
        return None
    for rule in _RULES:
        change = rule(failure, body)
        if change is not None and change.apply(body) != body:
            return change
    return None


_SUPPORTED_LEVELS = re.compile(
    r"(?:supported values are|should be|must be one of|one of|expected one of)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_OUTPUT_LIMIT = re.compile(
    r"at most (\d+) (?:completion |output )?tokens|cannot be greater than max_model_len=(\d+)"
    r"|tokens`? must be (?:less than or equal to|<=|at most) `?(\d+)"
    r"|range of max_\w*tokens (?:should be|is) \[\d+, ?(\d+)\]"
    r"|(?:supported )?range is from 1 \(inclusive\) to (\d+) \((?:in|ex)clusive\)"
    r"|max_\w*tokens: \d+ > (\d+)"
    r"|model(?:'s)? (?:output )?limit (?:of|is) (\d+)"
    r"|maximum (?:number of )?(?:output|completion) tokens(?: for this model)?(?: is|:| of) (\d+)",
    re.IGNORECASE,
)
_STRICT_REFUSED = re.compile(r"invalid schema for function|\bstrict\b", re.IGNORECASE)
# About one schema: the model takes others.
_SCHEMA_REFUSED = re.compile(
    r"invalid (json )?schema|schema conversion failed|unrecogni[sz]ed schema|(parse|compile) (the )?grammar",
    re.IGNORECASE,
)
_FORMAT_REFUSED = re.compile(
    r"response_format|json_schema|json_object|structured|json mode|response mime type"
)
_FORMAT_BESIDE_TOOLS_REFUSED = re.compile(
    r"(function|tool) (calling|use)|tools?\b.{0,40}(incompatible|cannot be)", re.IGNORECASE
)
_TOOL_LIMIT = re.compile(
    r"'tools\\*': array too long\. expected an array with maximum length (\d+)|tools' ?: maximum number of items is (\d+)"
    r"|tools have been provided but the maximum is (\d+)|at most (\d+) function declarations|more than (\d+) tools"
    r"|number of tools exceeds (\d+)|\"tools\"\],\"msg\":\"list should have at most (\d+) item",
    re.IGNORECASE,
)
_DESCRIPTION_LIMIT = re.compile(
    r"tools\[\d+\]\.function\.description\\*': string too long\. expected a string with maximum length (\d+)"
    r"|\"function\",\"description\"\],\"msg\":\"string should have at most (\d+) character",
    re.IGNORECASE,
)
# Wording of the refusal, the condition under which it holds, and the field and value that turn thinking off.
_THINKING_EXCLUSIONS: tuple[tuple[re.Pattern[str], str, str, Any], ...] = tuple(
    (re.compile(words, re.IGNORECASE | re.DOTALL), condition, field, value)
    for words, condition, field, value in (
        (
            "tool_choice.{0,60}required or object in thinking mode",
            "forced_call",
            "enable_thinking",
            False,
        ),
        (
            "tool_choice.{0,60}incompatible with thinking",
            "forced_call",
            "thinking",
            {"type": "disabled"},
        ),
        (
            "thinking mode does not support this tool_choice",
            "forced_call",
            "thinking",
            {"type": "disabled"},
        ),
        (
            "thinking may not be enabled when tool_choice forces",
            "forced_call",
            "reasoning_effort",
            None,
        ),
        (
            "enable[_ ]thinking.{0,60}(non-streaming|stream=false)",
            "stream",
            "enable_thinking",
            False,
        ),
    )
)
_THOUSANDS = re.compile(r"(?<=\d)[,_](?=\d{3})")


def _disable_reasoning_beside_tools(
    failure: UpstreamFailure, _: JsonObject
) -> RequestChange | None:
    """Set the effort to none beside tools: OpenAI's GPT-5.4 and later, on Chat Completions."""
    is_refused = (
        "reasoning_effort" in failure.text
        and "tools" in failure.text.lower()
        and "'none'" in failure.text
    )
    return (
        RequestChange("set", "reasoning_effort", "none", conditions=(("tools", True),))
        if is_refused
        else None
    )


def _disable_thinking(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Turn thinking off where the model can't combine it with the request, such as a forced call."""
    rule = next(
        (candidate for candidate in _THINKING_EXCLUSIONS if candidate[0].search(failure.text)), None
    )
    return (
        RequestChange(
            "not_thinking", rule[2], rule[3], conditions=(build_condition(rule[1], body),)
        )
        if rule
        else None
    )


def _excludes_thinking(failure: UpstreamFailure) -> bool:
    """Return whether the refusal is one that only `_disable_thinking` can resolve."""
    return any(rule[0].search(failure.text) for rule in _THINKING_EXCLUSIONS)


def _choose_supported_level(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    requested = body.get("reasoning_effort")
    match = (
        _SUPPORTED_LEVELS.search(failure.searchable_text)
        if requested and mentions_field(failure, "reasoning_effort")
        else None
    )
    names = re.findall(r"['\"`](\w+)['\"`]", match[1]) if match else []
    allowed = tuple(level for level in EFFORT_LEVELS if level in names and level != requested)
    return RequestChange("nearest", "reasoning_effort", allowed) if allowed else None


def _rename_token_limit(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Use the other name of the token limit."""
    field = next((name for name in TOKEN_LIMIT_FIELDS if name in body), None)
    if (
        field is None
        or not REFUSAL_PATTERN.search(failure.searchable_text)
        or not mentions_field(failure, field)
    ):
        return None
    return RequestChange("rename", field, TOKEN_LIMIT_FIELDS[1 - TOKEN_LIMIT_FIELDS.index(field)])


def _cap_output_tokens(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Cap the response at the model's maximum. Limits on prompt plus response are another case."""
    if parse_context_sizes(failure).limit:
        return None
    max_tokens = _parse_limit(_OUTPUT_LIMIT, failure.text) if "token" in failure.text.lower() else 0
    return (
        RequestChange("at_most", "max_tokens", max_tokens - ("exclusive" in failure.text))
        if max_tokens > 1
        else None
    )


def _fit_output_into_context(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Cap the response at what the prompt leaves of the context."""
    sizes = parse_context_sizes(failure)
    room = sizes.limit - sizes.prompt
    return (
        RequestChange("room", "max_tokens", room, is_lasting=False)
        if sizes.prompt and room >= _MIN_OUTPUT_TOKENS
        else None
    )


def _change_response_format(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    response_format = body.get("response_format")
    if not response_format or not _FORMAT_REFUSED.search(failure.searchable_text):
        return None
    if "tools" in body and _FORMAT_BESIDE_TOOLS_REFUSED.search(failure.text):
        return RequestChange("no_format", "response_format", conditions=(("tools", True),))
    change = "as_json_object" if response_format["type"] == "json_schema" else "no_format"
    return RequestChange(
        change, "response_format", is_lasting=not _SCHEMA_REFUSED.search(failure.text)
    )


def _drop_strict(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    is_refused = _STRICT_REFUSED.search(failure.text)
    return (
        RequestChange("not_strict", "tools", is_lasting=not _SCHEMA_REFUSED.search(failure.text))
        if is_refused
        else None
    )


def _change_tool_choice(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Replace a named tool by "required", or "required" by the only tool's name.

    Some servers reject the object form, others the word.
    """
    if (
        "tool_choice" not in failure.text
        or not forces_tool_call(body)
        or _excludes_thinking(failure)
    ):
        return None
    return RequestChange(
        "any_of_one" if isinstance(body["tool_choice"], dict) else "name_the_one", "tool_choice"
    )


def _limit_tools(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    limit = _parse_limit(_TOOL_LIMIT, failure.text)
    return RequestChange("fewer_tools", "tools", limit) if limit else None


def _shorten_descriptions(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    limit = _parse_limit(_DESCRIPTION_LIMIT, failure.text)
    return RequestChange("shorter_descriptions", "tools", limit) if limit else None


def _drop_top_p(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Drop `top_p` beside `temperature`: Claude's newer models accept one of them."""
    is_refused = re.search("`temperature` and `top_p` cannot both be", failure.text)
    return (
        RequestChange("drop", "top_p", conditions=(("temperature", True),)) if is_refused else None
    )


def _drop_refused_field(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    is_field_refused = REFUSAL_PATTERN.search(failure.searchable_text) and not _excludes_thinking(
        failure
    )
    present_fields = [name for name in _OPTIONAL_FIELDS if name in body]
    refused_field = next((name for name in present_fields if refused_param(failure) == name), None)
    for is_named in (names_field, mentions_field) if is_field_refused and not refused_field else ():
        refused_field = refused_field or next(
            (name for name in present_fields if is_named(failure, name)), None
        )
    return (
        RequestChange("drop", refused_field, conditions=_conditions_for_field(body, refused_field))
        if refused_field
        else None
    )


def _conditions_for_field(body: JsonObject, field: str) -> tuple[Condition, ...]:
    """Return the conditions under which a refusal of the field holds."""
    return (
        (build_condition("thinking", body),)
        if field in (*_SAMPLING_FIELDS, *THINKING_FIELDS)
        else ()
    )


def _parse_limit(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(_THOUSANDS.sub("", text))
    return parse_count(next(group for group in match.groups() if group)) if match else 0


_RULES: tuple[Callable[[UpstreamFailure, JsonObject], RequestChange | None], ...] = (
    find_message_change,
    _limit_tools,
    _shorten_descriptions,
    _disable_reasoning_beside_tools,
    _disable_thinking,
    _choose_supported_level,
    _cap_output_tokens,
    _fit_output_into_context,
    _rename_token_limit,
    _change_response_format,
    _change_tool_choice,
    _drop_strict,
    _drop_top_p,
    _drop_refused_field,
)

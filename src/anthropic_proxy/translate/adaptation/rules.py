"""What an upstream refuses of a request, and the change that makes it take the request.

Servers differ by model and version in ways that no table can know: a name for the token limit, a largest answer, the
levels of effort, a field that only reasoning models refuse. Their refusals (400, 422 and the like) say so. The change that
follows from one (see changes) is made at once, and remembered for the model when it helped, so that only its first request
pays for it.

The rules run in order; the first that has a change for the refusal decides. Only what the answer can do without is ever
dropped; everything else stays an error for the client. What is refused of some kind of requests only (those that think,
those with tools) is remembered for that kind.

Sources of the wordings: the recorded transcripts, and the reports of users in the issue trackers of clients and servers;
each has its case in the tests.
"""

import re
from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.adaptation.changes import LEVELS, LIMITS, Adjustment
from anthropic_proxy.translate.adaptation.conditions import (
    THINKING_FIELDS,
    Condition,
    fact,
    forces_a_call,
)
from anthropic_proxy.translate.adaptation.refusal_words import REFUSED, mentions, names, param
from anthropic_proxy.translate.adaptation.refused_messages import of_messages
from anthropic_proxy.translate.upstream_errors import (
    UpstreamFailure,
    parse_context_sizes,
    parse_count,
)
from anthropic_proxy.wire.json_codec import JsonObject

_REFUSALS = frozenset({400, 404, 413, 422, 500, 501})

# Many models take the first three only while they don't think, or think only where told so. Few refusals say that.
_SAMPLING = ("temperature", "top_p", "top_k")

# Fields without which the answer is still an answer to what was asked.
_OPTIONAL = (
    *_SAMPLING,
    *THINKING_FIELDS,
    "reasoning_split",
    "parallel_tool_calls",
    "stream_options",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)
# An answer that would be cut shorter than this, in tokens, is no use: better tell the client that its prompt is too long.
_LEAST_ANSWER = 256


def adjustment_for(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """The change that `failure`, the refusal of `body`, asks for; None when it asks for none that we can make."""
    if failure.status not in _REFUSALS:
        return None
    for rule in _RULES:
        found = rule(failure, body)
        if found is not None and found.apply(body) != body:
            return found
    return None


_LEVELS = re.compile(
    r"(?:supported values are|should be|must be one of|one of|expected one of)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_MOST = re.compile(
    r"at most (\d+) (?:completion |output )?tokens|cannot be greater than max_model_len=(\d+)"
    r"|tokens`? must be (?:less than or equal to|<=|at most) `?(\d+)"
    r"|range of max_\w*tokens (?:should be|is) \[\d+, ?(\d+)\]"
    r"|(?:supported )?range is from 1 \(inclusive\) to (\d+) \((?:in|ex)clusive\)"
    r"|max_\w*tokens: \d+ > (\d+)"
    r"|model(?:'s)? (?:output )?limit (?:of|is) (\d+)"
    r"|maximum (?:number of )?(?:output|completion) tokens(?: for this model)?(?: is|:| of) (\d+)",
    re.IGNORECASE,
)
_STRICT = re.compile(r"invalid schema for function|\bstrict\b", re.IGNORECASE)
# About one schema: the model takes others.
_BAD_SCHEMA = re.compile(
    r"invalid (json )?schema|schema conversion failed|unrecogni[sz]ed schema|(parse|compile) (the )?grammar",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"response_format|json_schema|json_object|structured|json mode|response mime type"
)
_BESIDE_TOOLS = re.compile(
    r"(function|tool) (calling|use)|tools?\b.{0,40}(incompatible|cannot be)", re.IGNORECASE
)
_MOST_TOOLS = re.compile(
    r"'tools\\*': array too long\. expected an array with maximum length (\d+)|tools' ?: maximum number of items is (\d+)"
    r"|tools have been provided but the maximum is (\d+)|at most (\d+) function declarations|more than (\d+) tools"
    r"|number of tools exceeds (\d+)|\"tools\"\],\"msg\":\"list should have at most (\d+) item",
    re.IGNORECASE,
)
_LONGEST_DESCRIPTION = re.compile(
    r"tools\[\d+\]\.function\.description\\*': string too long\. expected a string with maximum length (\d+)"
    r"|\"function\",\"description\"\],\"msg\":\"string should have at most (\d+) character",
    re.IGNORECASE,
)
# What a server takes only from a request that does not think, the fact that makes it one, and the server's way to say so.
_ONLY_WITHOUT_THINKING: tuple[tuple[re.Pattern[str], str, str, Any], ...] = tuple(
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


def _tools_without_reasoning(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """OpenAI's GPT-5.4 and later, on Chat Completions."""
    told = (
        "reasoning_effort" in failure.text
        and "tools" in failure.text.lower()
        and "'none'" in failure.text
    )
    return Adjustment("set", "reasoning_effort", "none", when=(("tools", True),)) if told else None


def _only_without_thinking(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """A call can't be forced while some models think, and the client relies on the call."""
    found = next((way for way in _ONLY_WITHOUT_THINKING if way[0].search(failure.text)), None)
    return (
        Adjustment("not_thinking", found[2], found[3], when=(fact(found[1], body),))
        if found
        else None
    )


def _is_about_thinking(failure: UpstreamFailure) -> bool:
    """Whether it is a matter of the rule above alone: where that does not help, nothing does."""
    return any(way[0].search(failure.text) for way in _ONLY_WITHOUT_THINKING)


def _other_level(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    wanted = body.get("reasoning_effort")
    levels = (
        _LEVELS.search(failure.searchable_text)
        if wanted and mentions(failure, "reasoning_effort")
        else None
    )
    named = re.findall(r"['\"`](\w+)['\"`]", levels[1]) if levels else []
    allowed = tuple(level for level in LEVELS if level in named and level != wanted)
    return Adjustment("nearest", "reasoning_effort", allowed) if allowed else None


def _other_limit(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """The other name for the token limit."""
    field = next((name for name in LIMITS if name in body), None)
    if field is None or not REFUSED.search(failure.searchable_text) or not mentions(failure, field):
        return None
    return Adjustment("rename", field, LIMITS[1 - LIMITS.index(field)])


def _smaller_answer(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """The largest answer of the model. A limit for prompt and answer together is another thing."""
    if parse_context_sizes(failure).limit:
        return None
    limit = _number(_MOST, failure.text) if "token" in failure.text.lower() else 0
    return (
        Adjustment("at_most", "max_tokens", limit - ("exclusive" in failure.text))
        if limit > 1
        else None
    )


def _room_for_the_answer(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """What the context leaves for the answer, where only both together are too long."""
    sizes = parse_context_sizes(failure)
    room = sizes.limit - sizes.prompt
    return (
        Adjustment("room", "max_tokens", room, lasts=False)
        if sizes.prompt and room >= _LEAST_ANSWER
        else None
    )


def _other_format(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    wanted = body.get("response_format")
    if not wanted or not _FORMAT.search(failure.searchable_text):
        return None
    if "tools" in body and _BESIDE_TOOLS.search(failure.text):
        return Adjustment("no_format", "response_format", when=(("tools", True),))
    change = "as_json_object" if wanted["type"] == "json_schema" else "no_format"
    return Adjustment(change, "response_format", lasts=not _BAD_SCHEMA.search(failure.text))


def _schema_as_it_is(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    told = _STRICT.search(failure.text)
    return (
        Adjustment("not_strict", "tools", lasts=not _BAD_SCHEMA.search(failure.text))
        if told
        else None
    )


def _other_choice(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """Some servers know the words for a choice, but not the object that names one tool; and some the other way round."""
    if "tool_choice" not in failure.text or not forces_a_call(body) or _is_about_thinking(failure):
        return None
    return Adjustment(
        "any_of_one" if isinstance(body["tool_choice"], dict) else "name_the_one", "tool_choice"
    )


def _fewer_tools(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    most = _number(_MOST_TOOLS, failure.text)
    return Adjustment("fewer_tools", "tools", most) if most else None


def _shorter_descriptions(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    most = _number(_LONGEST_DESCRIPTION, failure.text)
    return Adjustment("shorter_descriptions", "tools", most) if most else None


def _one_of_two(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """Claude's newer models."""
    told = re.search("`temperature` and `top_p` cannot both be", failure.text)
    return Adjustment("drop", "top_p", when=(("temperature", True),)) if told else None


def _without_the_field(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    is_told = REFUSED.search(failure.searchable_text) and not _is_about_thinking(failure)
    present = [name for name in _OPTIONAL if name in body]
    refused = next((name for name in present if param(failure) == name), None)
    for tells in (names, mentions) if is_told and not refused else ():
        refused = refused or next((name for name in present if tells(failure, name)), None)
    return Adjustment("drop", refused, when=_like(body, refused)) if refused else None


def _like(body: JsonObject, field: str) -> tuple[Condition, ...]:
    """For which requests a refusal of the field holds."""
    return (fact("thinking", body),) if field in (*_SAMPLING, *THINKING_FIELDS) else ()


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(_THOUSANDS.sub("", text))
    return parse_count(next(group for group in found.groups() if group)) if found else 0


_RULES: tuple[Callable[[UpstreamFailure, JsonObject], Adjustment | None], ...] = (
    of_messages,
    _fewer_tools,
    _shorter_descriptions,
    _tools_without_reasoning,
    _only_without_thinking,
    _other_level,
    _smaller_answer,
    _room_for_the_answer,
    _other_limit,
    _other_format,
    _other_choice,
    _schema_as_it_is,
    _one_of_two,
    _without_the_field,
)

"""The rules for refusals of Chat Completions requests.

Servers differ by model and version in ways that no table can hold: the name of the token limit, the
largest response, the effort levels, fields that only reasoning models refuse. Their refusals (400,
422 and similar) say so. The change is applied at once, and remembered for the model when it helped,
so that only the first request pays for it.

The rules run in their order; the first whose change has an effect decides. Only optional fields are
dropped; any other refusal stays an error for the caller. A refusal of some kind of requests only
(with thinking, with tools) is remembered for that kind.

Another refusal is a row here, and the refusal as a case in tests/cases/refusals. The wordings come
from recorded transcripts and from issue trackers of clients and servers.
"""

import re
from dataclasses import replace

from anthropic_proxy.translate.adaptation.changes import (
    EFFORT_LEVELS,
    THINKING_FIELDS,
    RequestChange,
)
from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    RefusalRule,
    find_rule_change,
    is_param,
    mentions_field,
    names_field,
    read_limit,
    wordings,
)
from anthropic_proxy.translate.reasoning.fields import REASONING_FIELDS
from anthropic_proxy.translate.upstream_errors import (
    CONTEXT_OVERFLOW,
    UpstreamFailure,
    parse_context_sizes,
    parse_count,
)
from anthropic_proxy.wire.json_codec import JsonObject

_REFUSAL_STATUSES = frozenset({400, 404, 413, 422, 500, 501})

# Tokens. A shorter response is useless; an error about the long prompt serves the caller better.
_MIN_OUTPUT_TOKENS = 256


def find_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for `failure`, the refusal of `body`; None when no rule applies."""
    if failure.status not in _REFUSAL_STATUSES:
        return None
    change = find_rule_change(RULES, failure, body)
    if change is None or failure.status < 500:
        return change
    # An outage may mention a field or a format, too: then the change is not for later requests.
    # Refusals of messages and of what they contain have wordings of their own.
    is_about_messages = change.field == "messages" or change.field not in body
    return replace(change, is_lasting=change.is_lasting and is_about_messages)


def _read_output_limit(match: re.Match[str], failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the model's limit on the response in tokens, 0 without one.

    Limits on prompt plus response are another case.
    """
    limit = parse_count(match)
    if limit <= 1 or parse_context_sizes(failure).limit:
        return 0
    if "exclusive" in failure.text:
        return limit - 1
    return limit


def _read_room(_match: re.Match[str], failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the tokens that the prompt leaves of the context; 0 when they are unknown or few."""
    sizes = parse_context_sizes(failure)
    room = sizes.limit - sizes.prompt
    if not sizes.prompt or room < _MIN_OUTPUT_TOKENS:
        return 0
    return room


def _read_other_levels(
    match: re.Match[str], _failure: UpstreamFailure, body: JsonObject
) -> tuple[str, ...]:
    """Return the effort levels that the refusal lists, without the refused one."""
    listed = re.findall(r"['\"`](\w+)['\"`]", match[1])
    refused = body.get("reasoning_effort")
    return tuple(level for level in EFFORT_LEVELS if level in listed and level != refused)


# A field, a value or a combination of them is refused.
_REFUSED = wordings(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|extra (inputs|fields)"
    r"|extra_forbidden|not permitted|(does|do) not support|do(es)?n't support|not allowed"
    r"|no endpoints found that (support|can handle)|isn't supported|may only be set|must be unset"
    r"|only [\w.=]+ is allowed|is deprecated|cannot be disabled|only works in|is restricted to"
    r"|requires adaptive thinking|must be a positive integer and not greater than|not enabled for"
)
_SCHEMA_REFUSED = wordings(
    r"invalid (json )?schema|schema conversion failed|unrecogni[sz]ed schema"
    r"|(parse|compile) (the )?grammar"
)
_STRICT_REFUSED = wordings(r"invalid schema for function|\bstrict\b")
_FORMAT_REFUSED = wordings(
    r"(?-i:response_format|json_schema|json_object|structured|json mode|response mime type)"
)
_SIGNATURE_REFUSED = wordings(
    r"missing (a )?`?thought_?signature|(corrupted|invalid) thought.?signature"
    r"|thought.?signature is (not valid|invalid)"
)

# Many models accept these only while they don't think. Few refusals say so.
_SAMPLING_FIELDS = ("temperature", "top_p", "top_k")

# Other fields that a request can lose and still get a useful response.
_OTHER_OPTIONAL_FIELDS = (
    "reasoning_split",
    "parallel_tool_calls",
    "stream_options",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)


def _build_drop_rules() -> list[RefusalRule]:
    """Return the rules that drop a refused field, in their order.

    The refused field is the one in `param`, whatever the wording, else one that the text names,
    else one whose alias it mentions.
    """
    rules = []
    for named_by, patterns, is_lasting in (
        (is_param, _REFUSED, True),
        # Perhaps only the value is refused, and another client's is accepted.
        (is_param, ANY_WORDING, False),
        (names_field, _REFUSED, True),
        (mentions_field, _REFUSED, True),
    ):
        for field in (*_SAMPLING_FIELDS, *THINKING_FIELDS):
            rules.append(
                RefusalRule(
                    patterns,
                    "drop",
                    field,
                    named_by=named_by,
                    shared="thinking",
                    is_lasting=is_lasting,
                )
            )
        for field in _OTHER_OPTIONAL_FIELDS:
            rules.append(
                RefusalRule(patterns, "drop", field, named_by=named_by, is_lasting=is_lasting)
            )
    return rules


# In the order in which they run.
RULES: tuple[RefusalRule, ...] = (
    # Mistral's models, wherever they run. Claude Code adds text after most tool results.
    RefusalRule(
        wordings(r"unexpected role '?user'? after role '?tool|roles must alternate"),
        "answer_between",
        "messages",
        "OK.",
    ),
    # DeepSeek and Moonshot require the reasoning of earlier turns. It is missing when another
    # server wrote the turn or when the caller cleared it. Not all of them accept an empty text.
    RefusalRule(
        wordings(
            r"reasoning_content.{0,60}(must be passed back|(is|are) missing)"
            r"|(missing|requires) .{0,20}reasoning_content"
        ),
        "give",
        "reasoning_content",
        " ",
    ),
    # Reasoning of earlier turns in a field of another server (Cerebras, Groq).
    *(
        RefusalRule(
            _REFUSED + wordings("messages|assistant"), "forget", field, named_by=mentions_field
        )
        for field in REASONING_FIELDS
    ),
    # Reasoning of earlier turns in the form of Mistral, which no other server accepts.
    RefusalRule(wordings("(?-i:content|thinking)"), "forget_parts", "content", "thinking"),
    # Models whose chat template has no system role.
    RefusalRule(
        wordings(
            r"role.{0,40}(does not support|not supported).{0,40}system"
            r"|system role (is )?not supported|unknown variant `system`"
            r"|developer instruction is not enabled"
        ),
        "as_user",
        "messages",
    ),
    # Gateways in front of Gemini.
    RefusalRule(
        wordings(
            r"function_response\.name: name cannot be empty"
            r"|tool message must have a 'name' field"
        ),
        "name_results",
        "messages",
    ),
    # Gemini, wherever it runs: a signature is missing, or is another project's or model's. The
    # server may accept those of the next conversation, unless the request had none.
    RefusalRule(
        _SIGNATURE_REFUSED,
        "without_signatures",
        "messages",
        requires="signatures",
        is_lasting=False,
    ),
    RefusalRule(_SIGNATURE_REFUSED, "without_signatures", "messages"),
    # The upstream then caches as it likes.
    RefusalRule(_REFUSED + wordings("cache_control"), "unmark", "messages", "cache_control"),
    RefusalRule(
        wordings(
            r"'tools\\*': array too long\. expected an array with maximum length (\d+)"
            r"|tools' ?: maximum number of items is (\d+)"
            r"|tools have been provided but the maximum is (\d+)"
            r"|at most (\d+) function declarations|more than (\d+) tools"
            r"|number of tools exceeds (\d+)"
            r"|\"tools\"\],\"msg\":\"list should have at most (\d+) item"
        ),
        "fewer_tools",
        "tools",
        read_value=read_limit,
    ),
    RefusalRule(
        wordings(
            r"tools\[\d+\]\.function\.description\\*': string too long\."
            r" expected a string with maximum length (\d+)"
            r"|\"function\",\"description\"\],\"msg\":\"string should have at most (\d+) character"
        ),
        "shorter_descriptions",
        "tools",
        read_value=read_limit,
    ),
    # OpenAI's GPT-5.4 and later, on Chat Completions.
    RefusalRule(
        wordings("reasoning_effort", "tools", "'none'"),
        "set",
        "reasoning_effort",
        "none",
        requires="tools",
    ),
    # Models that cannot combine thinking with a forced call or a whole response. Final: without
    # the forced call, the response would be useless.
    RefusalRule(
        wordings("tool_choice.{0,60}required or object in thinking mode"),
        "not_thinking",
        "enable_thinking",
        value=False,
        shared="forced_call",
        is_final=True,
    ),
    RefusalRule(
        wordings(
            "tool_choice.{0,60}incompatible with thinking"
            "|thinking mode does not support this tool_choice"
        ),
        "not_thinking",
        "thinking",
        {"type": "disabled"},
        shared="forced_call",
        is_final=True,
    ),
    RefusalRule(
        wordings("thinking may not be enabled when tool_choice forces"),
        "not_thinking",
        "reasoning_effort",
        shared="forced_call",
        is_final=True,
    ),
    RefusalRule(
        wordings("enable[_ ]thinking.{0,60}(non-streaming|stream=false)"),
        "not_thinking",
        "enable_thinking",
        value=False,
        shared="stream",
        is_final=True,
    ),
    RefusalRule(
        wordings(r"(?:supported values are|should be|one of)(.*)"),
        "nearest",
        "reasoning_effort",
        read_value=_read_other_levels,
        named_by=mentions_field,
    ),
    RefusalRule(
        wordings(
            r"at most (\d+) (?:completion |output )?tokens"
            r"|cannot be greater than max_model_len=(\d+)"
            r"|tokens`? must be (?:less than or equal to|<=|at most) `?(\d+)"
            r"|range of max_\w*tokens (?:should be|is) \[\d+, ?(\d+)\]"
            r"|(?:supported )?range is from 1 \(inclusive\) to (\d+) \((?:in|ex)clusive\)"
            r"|max_\w*tokens: \d+ > (\d+)|model(?:'s)? (?:output )?limit (?:of|is) (\d+)"
            r"|maximum (?:number of )?(?:output|completion) tokens(?: for this model)?"
            r"(?: is|:| of) (\d+)",
            "token",
        ),
        "at_most",
        "max_tokens",
        read_value=_read_output_limit,
    ),
    RefusalRule((CONTEXT_OVERFLOW,), "room", "max_tokens", read_value=_read_room, is_lasting=False),
    # The other name of the token limit.
    RefusalRule(_REFUSED, "rename", "max_tokens", "max_completion_tokens", named_by=mentions_field),
    RefusalRule(_REFUSED, "rename", "max_completion_tokens", "max_tokens", named_by=mentions_field),
    # Response formats: as any JSON object where schemas are refused, else in the prompt. Where one
    # schema is refused, the model may accept others.
    RefusalRule(
        _FORMAT_REFUSED
        + wordings(r"(function|tool) (calling|use)|tools?\b.{0,40}(incompatible|cannot be)"),
        "no_format",
        "response_format",
        requires="tools",
    ),
    RefusalRule(
        _FORMAT_REFUSED + _SCHEMA_REFUSED, "as_json_object", "response_format", is_lasting=False
    ),
    RefusalRule(_FORMAT_REFUSED, "as_json_object", "response_format"),
    RefusalRule(
        _FORMAT_REFUSED + _SCHEMA_REFUSED, "no_format", "response_format", is_lasting=False
    ),
    RefusalRule(_FORMAT_REFUSED, "no_format", "response_format"),
    # Some servers reject a tool by its name, others the word "required".
    RefusalRule(wordings("tool_choice"), "any_of_one", "tool_choice"),
    RefusalRule(wordings("tool_choice"), "name_the_one", "tool_choice"),
    RefusalRule(_STRICT_REFUSED + _SCHEMA_REFUSED, "not_strict", "tools", is_lasting=False),
    RefusalRule(_STRICT_REFUSED, "not_strict", "tools"),
    # Claude's newer models accept one of the two.
    RefusalRule(
        wordings("`temperature` and `top_p` cannot both be"),
        "drop",
        "top_p",
        requires="temperature",
    ),
    *_build_drop_rules(),
)

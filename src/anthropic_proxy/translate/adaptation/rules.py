"""The rules for refusals of Chat Completions requests.

Servers differ by model and version more than a table can describe: in the name of the token limit,
the maximum response length, the effort levels, and fields that only reasoning models refuse. The
texts of their refusals (400, 422 and similar) name the reason. The proxy changes the request and
sends it again. If the upstream accepts it, the proxy remembers the change for the model, so only
the first request is sent twice.

The first rule whose change has an effect applies. Only optional fields are dropped; other refusals
remain errors for the client. A refusal that concerns only some requests (with thinking, with tools)
is remembered only for such requests.

To support another refusal, add a rule here and the refusal as a case in tests/cases/refusals. The
patterns come from recorded responses and from issue trackers of clients and servers.
"""

import re
from dataclasses import replace

from anthropic_proxy.translate.adaptation.changes import (
    EFFORT_LEVELS,
    THINKING_FIELDS,
    RequestChange,
    get_output_limit,
)
from anthropic_proxy.translate.adaptation.output_rules import (
    OUTPUT_LIMIT_RULES,
    UNKNOWN_OUTPUT_LIMIT_RULE,
)
from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    REFUSAL_STATUSES,
    RefusalRule,
    find_rule_change,
    is_param,
    mentions_field,
    names_field,
    read_limit,
    wordings,
)
from anthropic_proxy.translate.adaptation.stream_rules import STREAM_RULES
from anthropic_proxy.translate.adaptation.tool_rules import REFUSED_TOOL_RULES, TOOL_SCHEMA_RULES
from anthropic_proxy.translate.context_overflow import parse_context_sizes
from anthropic_proxy.translate.reasoning.fields import DETAILS, REASONING_FIELDS, SIGNED_FIELDS
from anthropic_proxy.translate.reasoning.thinking_history import MISSING_THINKING, REFUSED_THINKING
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

# A shorter response is useless; the error about the long prompt is more helpful to the client.
_MIN_OUTPUT_TOKENS = 256


def find_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for `failure`, the refusal of `body`, or None if no rule applies."""
    if failure.status not in REFUSAL_STATUSES:
        return None
    change = find_rule_change(RULES, failure, body)
    if change is None or failure.status < 500:
        return change
    # The error of an outage may also mention a field or a format, so later requests are not
    # changed. Refusals of messages and their content have specific texts.
    is_about_messages = change.field == "messages" or change.field not in body
    return replace(change, is_lasting=change.is_lasting and is_about_messages)


def _read_room(_match: re.Match[str], failure: UpstreamFailure, body: JsonObject) -> int:
    """Return the tokens of the context that the prompt leaves; 0 if unknown or too few."""
    sizes = parse_context_sizes(failure, get_output_limit(body))
    room = sizes.window - sizes.prompt
    if not sizes.prompt or sizes.is_lower_bound or room < _MIN_OUTPUT_TOKENS:
        return 0
    return room


def _read_other_levels(
    match: re.Match[str], _failure: UpstreamFailure, body: JsonObject
) -> tuple[str, ...]:
    """Return the effort levels that the refusal lists, without the refused level."""
    listed = re.findall(r"['\"`](\w+)['\"`]", match[1])
    refused = body.get("reasoning_effort")
    return tuple(level for level in EFFORT_LEVELS if level in listed and level != refused)


# Refusals of a field, a value or a combination of them.
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
_GRAMMAR_REFUSED = wordings(r"(?:parse|compile|initiali[sz]e) (?:the )?(?:json schema )?grammar")
_STRICT_REFUSED = wordings(r"invalid schema for function|\bstrict\b")
_FORMAT_REFUSED = wordings(
    r"(?-i:response_format|json_schema|json_object|structured|json mode|response mime type)"
)
_SIGNATURE_REFUSED = wordings(
    r"missing (a )?`?thought_?signature|(corrupted|invalid) thought.?signature"
    r"|thought.?signature is (not valid|invalid)"
)

# Texts that must be strings: NVIDIA NIM (Python), DashScope, servers in Go and Rust, pydantic,
# chat templates, OpenAI.
_STRING_REQUIRED = wordings(
    r"expected str instance, list found|field's type should be `?str|can only concatenate str"
    r"|unsupported types string and sequence|invalid type: (?:sequence|map), expected a string"
    r"|'list' object has no attribute '(?:strip|lstrip|rstrip|split|startswith|lower|replace)'"
)
_CONTENT_STRING_REQUIRED = wordings(
    "content",
    r"(?:must|should) be a (?:valid )?string|str type expected|not of type '?string"
    r"|expected (?:a )?string,? (?:but )?(?:got|received) (?:an? )?(?:array|list|object)"
    r"|cannot unmarshal (?:array|object)|string_type|(?:is not|expected) (?:a |type )?string\b"
    r"|should be str\b|mismatch type string with value array|string.{0,10} from array value",
)
# Null in messages with tool calls.
_CONTENT_REQUIRED = wordings(
    "content",
    r"(?:got|received|type:?|was|is) (?:null|none)\b|none is not an allowed value"
    r"|\"input\":null|null.{0,40}content"
    r"|content[`'\"\]]{0,3} ?(?:field )?(?:is required|cannot be null)",
)

# Many models accept these only without thinking, but few refusals state this.
_SAMPLING_FIELDS = ("temperature", "top_p", "top_k")

# Other fields without which the response is still useful.
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
    """Return the rules that drop a refused field, in order.

    The refused field is the value of `param` with any text, else a field that the text names, else
    a field with an alias in the text.
    """
    rules = []
    for named_by, patterns, is_lasting in (
        (is_param, _REFUSED, True),
        # Perhaps only this value is refused, and the values of other clients are accepted.
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


# In order of evaluation.
RULES: tuple[RefusalRule, ...] = (
    # Mistral's models on any server. Claude Code adds text after most tool results.
    RefusalRule(
        wordings(r"unexpected role '?user'? after role '?tool|roles must alternate"),
        "separate_tool_results",
        "messages",
        "OK.",
    ),
    # DeepSeek and Moonshot require the reasoning of earlier turns. It is missing if another server
    # generated the turn or if the client removed it. Some models refuse an empty text.
    RefusalRule(
        wordings(
            r"reasoning_content.{0,60}(must be passed back|(is|are) missing)"
            r"|(missing|requires) .{0,20}reasoning_content"
        ),
        "add_to_assistant",
        "reasoning_content",
        " ",
    ),
    # Encrypted reasoning of another organization or server, behind gateways such as OpenRouter. The
    # next conversation may have none.
    RefusalRule(
        wordings(
            r"invalid_encrypted_content"
            r"|encrypted[ _]content.{0,200}(could not be (verified|decrypted)|was not issued)"
        ),
        "drop_from_assistant",
        DETAILS,
        is_lasting=False,
    ),
    RefusalRule(_CONTENT_REQUIRED, "fill_content", "messages"),
    RefusalRule(_STRING_REQUIRED, "join_texts", "messages"),
    RefusalRule(_CONTENT_STRING_REQUIRED, "join_texts", "messages"),
    RefusalRule(_CONTENT_STRING_REQUIRED, "fill_content", "messages"),
    # Reasoning of earlier turns in a field of another server (refused by Cerebras, Groq).
    *(
        RefusalRule(
            _REFUSED + wordings("messages|assistant"),
            "drop_from_assistant",
            field,
            named_by=mentions_field,
        )
        for field in REASONING_FIELDS
    ),
    # Claude behind gateways: signatures of another provider. The next conversation may have none.
    *(
        RefusalRule((REFUSED_THINKING,), "drop_from_assistant", field, is_lasting=False)
        for field in SIGNED_FIELDS
    ),
    # Claude behind gateways: another upstream generated the calls of an open tool loop.
    RefusalRule((MISSING_THINKING,), "disable_thinking", "reasoning_effort", is_lasting=False),
    # Reasoning of earlier turns in Mistral's format, which other servers refuse.
    RefusalRule(wordings("(?-i:content|thinking)"), "drop_assistant_parts", "content", "thinking"),
    # Models whose chat template has no system role.
    RefusalRule(
        wordings(
            r"role.{0,40}(does not support|not supported).{0,40}system"
            r"|system role (is )?not supported|unknown variant `system`"
            r"|developer instruction is not enabled"
        ),
        "merge_system_into_user",
        "messages",
    ),
    # Mistral's models on any server, such as vLLM.
    RefusalRule(
        wordings(r"tool call id was .{0,300}length of 9"), "change_call_ids", "messages", "nine"
    ),
    # Calls with ids of Kimi K2, after a switch to Claude (Anthropic and Bedrock behind gateways) or
    # to a model of OpenAI.
    RefusalRule(
        wordings(
            r"(tool_?use_?id|tool_use\.id|tool_call_?id|tool_calls.{0,20}\bid\b)"
            r".{0,200}(\bpattern\b|string too long)"
        ),
        "change_call_ids",
        "messages",
        "plain",
    ),
    # Gateways in front of Gemini.
    RefusalRule(
        wordings(
            r"function_response\.name: name cannot be empty"
            r"|tool message must have a 'name' field"
        ),
        "add_tool_names",
        "messages",
    ),
    # Gemini on any server: a signature is missing, or belongs to another project or model. If the
    # request had signatures, the server may accept those of the next conversation.
    RefusalRule(
        _SIGNATURE_REFUSED,
        "reset_signatures",
        "messages",
        requires="signatures",
        is_lasting=False,
    ),
    RefusalRule(_SIGNATURE_REFUSED, "reset_signatures", "messages"),
    # OpenAI's models before GPT-5.6 cache without breakpoints, and some have only one lifetime.
    RefusalRule(
        wordings(r"prompt_cache_breakpoint.{0,80}\bttl\b|\bttl\b.{0,80}prompt_cache_breakpoint"),
        "drop_cache_ttls",
        "messages",
    ),
    RefusalRule(
        wordings(r"prompt_cache_(?:breakpoint|options)"), "drop_cache_breakpoints", "messages"
    ),
    # Without cache_control, the upstream decides itself what to cache.
    RefusalRule(
        _REFUSED + wordings("cache_control"), "drop_from_parts", "messages", "cache_control"
    ),
    RefusalRule(
        wordings(
            r"'tools\\*': array too long\. expected an array with maximum length (\d+)"
            r"|tools' ?: maximum number of items is (\d+)"
            r"|tools have been provided but the maximum is (\d+)"
            r"|at most (\d+) function declarations|more than (\d+) tools"
            r"|number of tools exceeds (\d+)"
            r"|\"tools\"\],\"msg\":\"list should have at most (\d+) item"
        ),
        "limit_tools",
        "tools",
        read_value=read_limit,
    ),
    RefusalRule(
        wordings(
            r"tools\[\d+\]\.function\.description\\*': string too long\."
            r" expected a string with maximum length (\d+)"
            r"|\"function\",\"description\"\],\"msg\":\"string should have at most (\d+) character"
        ),
        "shorten_descriptions",
        "tools",
        read_value=read_limit,
    ),
    *STREAM_RULES,
    # OpenAI's GPT-5.4 and later, on Chat Completions.
    RefusalRule(
        wordings("reasoning_effort", "tools", "'none'"),
        "set",
        "reasoning_effort",
        "none",
        requires="tools",
    ),
    # Models that cannot combine thinking with a forced tool call or a response that is not
    # streamed. The rules are final: without the forced call, the response would be useless.
    RefusalRule(
        wordings("tool_choice.{0,60}required or object in thinking mode"),
        "disable_thinking",
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
        "disable_thinking",
        "thinking",
        {"type": "disabled"},
        shared="forced_call",
        is_final=True,
    ),
    RefusalRule(
        wordings("thinking may not be enabled when tool_choice forces"),
        "disable_thinking",
        "reasoning_effort",
        shared="forced_call",
        is_final=True,
    ),
    RefusalRule(
        wordings("enable[_ ]thinking.{0,60}(non-streaming|stream=false)"),
        "disable_thinking",
        "enable_thinking",
        value=False,
        shared="stream",
        is_final=True,
    ),
    RefusalRule(
        wordings(r"(?:supported values are|should be|one of)(.*)"),
        "choose_nearest_effort",
        "reasoning_effort",
        read_value=_read_other_levels,
        named_by=mentions_field,
    ),
    *OUTPUT_LIMIT_RULES,
    RefusalRule(
        ANY_WORDING,
        "fit_output_to_context",
        "max_tokens",
        read_value=_read_room,
        is_lasting=False,
    ),
    # The other name of the token limit.
    RefusalRule(_REFUSED, "rename", "max_tokens", "max_completion_tokens", named_by=mentions_field),
    RefusalRule(_REFUSED, "rename", "max_completion_tokens", "max_tokens", named_by=mentions_field),
    UNKNOWN_OUTPUT_LIMIT_RULE,
    # If a server refuses JSON schemas, request any JSON object; if it refuses this too, put the
    # schema into the prompt. If only this schema is invalid, the model may accept others.
    RefusalRule(
        _FORMAT_REFUSED
        + wordings(r"(function|tool) (calling|use)|tools?\b.{0,40}(incompatible|cannot be)"),
        "move_format_to_prompt",
        "response_format",
        requires="tools",
    ),
    RefusalRule(
        _FORMAT_REFUSED + _SCHEMA_REFUSED,
        "use_json_object_format",
        "response_format",
        is_lasting=False,
    ),
    RefusalRule(_FORMAT_REFUSED, "use_json_object_format", "response_format"),
    RefusalRule(
        _FORMAT_REFUSED + _SCHEMA_REFUSED,
        "move_format_to_prompt",
        "response_format",
        is_lasting=False,
    ),
    RefusalRule(_FORMAT_REFUSED, "move_format_to_prompt", "response_format"),
    # Some servers refuse a choice by name, others the word "required".
    RefusalRule(wordings("tool_choice"), "offer_only_chosen_tool", "tool_choice"),
    RefusalRule(wordings("tool_choice"), "choose_only_tool", "tool_choice"),
    RefusalRule(_STRICT_REFUSED + _SCHEMA_REFUSED, "drop_strict", "tools", is_lasting=False),
    RefusalRule(_STRICT_REFUSED, "drop_strict", "tools"),
    *TOOL_SCHEMA_RULES,
    # A grammar that fails with simple tools may be the one of the response.
    RefusalRule(_GRAMMAR_REFUSED, "use_json_object_format", "response_format", is_lasting=False),
    # Newer Claude models accept only one of the two.
    RefusalRule(
        wordings("`temperature` and `top_p` cannot both be"),
        "drop",
        "top_p",
        requires="temperature",
    ),
    # vLLM without a reasoning configuration has several texts for this. The effort remains.
    RefusalRule(
        wordings("thinking_token_budget"), "drop", "thinking_token_budget", shared="thinking"
    ),
    *_build_drop_rules(),
    *REFUSED_TOOL_RULES,
)

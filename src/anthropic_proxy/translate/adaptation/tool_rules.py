"""The rules for refusals of tools: their schemas, and the tools themselves as a last resort.

All tools of a session are in each of its requests, so one tool that an upstream refuses would
block the session. Most servers check the schemas against their own subset of JSON Schema.
"""

import re
from collections.abc import Iterator
from typing import Any

from anthropic_proxy.translate.adaptation.refusal_rule import RefusalRule, get_rule_text, wordings
from anthropic_proxy.translate.adaptation.schema_changes import DROPPABLE_KEYWORDS
from anthropic_proxy.translate.adaptation.tool_limits import (
    get_fingerprint,
    get_name,
    leave_out_tool,
)
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

# Refusals of the schema of the response, which `rules.py` has.
_ABOUT_FORMAT = re.compile(r"response_format|text\.format|json_schema\b|structured output")

# Refusals of calls and results in the conversation, of the choice, and failed generations of the
# model (Groq: "parameters for tool Bash did not match schema").
_NOT_ABOUT_DEFINITIONS = re.compile(
    r"tool_use_failed|failed_generation|did not match schema|call validation"
    r"|tool_calls?\b|tool_call_id|tool_choice|tool result|role.{0,10}tool",
    re.IGNORECASE,
)

# Each group names keywords.
_KEYWORD_WORDINGS = wordings(
    # Gemini, of each unknown keyword, and of `format` and `enum`.
    r"unknown name \\?\"(\$?\w{1,40})",
    r"\.(\w{1,40}): only .{0,80}(?:supported|allowed) for",
    # OpenAI ("'uniqueItems' is not permitted"), Groq ("minItems is not supported").
    r"(\$?\w{1,40})['\"`]? (?:is|are) (?:not|un) ?(?:permitted|supported|allowed)",
    # Cerebras ("Unsupported JSON schema fields: {'minItems', 'items'}").
    r"(?:unsupported|unimplemented|unrecognized|unknown|unexpected|invalid|forbidden|additional)"
    r"[\w ]{0,40}(?:keyword|field|attribute|key)s?\b[\w ]{0,40}[:=({\[ ]{1,4}"
    r"([\w$'\"`, ]{1,200})",
    r"keyword:? ['\"`]?(\$?\w{1,40})",
    r"(?:unsupported|unimplemented|unknown) ['\"`]?(\$?\w{1,40})",
    # Anthropic ("For 'integer' type, properties maximum, minimum are not supported").
    r"propert(?:y|ies) ([\w$'\"`, ]{1,200}?) (?:is|are) not (?:permitted|supported|allowed)",
    # pydantic, in the location of an error.
    r"\"(\$?\w{1,40})\"\],\s?\"msg\":\"extra (?:inputs|fields)",
)
_WORD = re.compile(r"\$?\w+")

_TOOL_INDEX = re.compile(
    r"function_declarations\[(\d{1,4})\]|tools(?:\[|\.|\",\s?)(\d{1,4})(?:\]|\.|,)", re.IGNORECASE
)
_TOOL_NAME = re.compile(
    r"(?:(?:function|tool)(?: name| named)?:?|(?:schema|definition|parameters) (?:of|for))"
    r" ?['\"`]?(?=([A-Za-z0-9_-]{1,64}))",  # matches overlap: "tool schema of NAME"
    re.IGNORECASE,
)
_SCHEMA_PATH = re.compile(r"at path '([^']{1,300})'", re.IGNORECASE)


def _is_about_tools(failure: UpstreamFailure, _field: str) -> bool:
    text = get_rule_text(failure)
    return not _ABOUT_FORMAT.search(text) and not _NOT_ABOUT_DEFINITIONS.search(text)


def _is_about_definition(failure: UpstreamFailure, field: str) -> bool:
    return failure.status in (400, 422) and _is_about_tools(failure, field)


def _read_keywords(
    _match: re.Match[str], failure: UpstreamFailure, _body: JsonObject
) -> tuple[str, ...]:
    """Return the keywords that the refusal names, in alphabetical order."""
    text = get_rule_text(failure)
    named: set[str] = set()
    for wording in _KEYWORD_WORDINGS:
        for match in wording.finditer(text):
            named.update(_WORD.findall(match[1]))
    return tuple(sorted(named & DROPPABLE_KEYWORDS))


def _read_tool(
    _match: re.Match[str], failure: UpstreamFailure, body: JsonObject
) -> tuple[str, str] | None:
    """Return name and fingerprint of the first named tool that may be left out."""
    for tool in _iterate_named_tools(get_rule_text(failure), body.get("tools", [])):
        refused = (get_name(tool), get_fingerprint(tool))
        if leave_out_tool(body, refused) is not body:
            return refused
    return None


def _iterate_named_tools(text: str, tools: list[JsonObject]) -> Iterator[JsonObject]:
    """Yield the tools that a refusal names: by position, by name, or by a path in its schema."""
    for match in _TOOL_INDEX.finditer(text):
        # `tools[0].function_declarations[7]` has both.
        has_declarations = "function_declarations" in text
        index = match[1] if has_declarations else match[2]
        if index is not None and int(index) < len(tools):
            yield tools[int(index)]
    by_name = {get_name(tool): tool for tool in tools}
    for match in _TOOL_NAME.finditer(text):
        if match[1] in by_name:
            yield by_name[match[1]]
    path = _SCHEMA_PATH.search(text)
    if path is not None:
        names = [name for name in path[1].split(".") if name != "root"]
        for tool in tools:
            if names and _has_path(tool["function"]["parameters"], names):
                yield tool


def _has_path(schema: Any, names: list[str]) -> bool:
    for name in names:
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, dict) and name in schema:
            schema = schema[name]
        else:
            return False
    return True


def _schema_rule(pattern: str, change: str) -> RefusalRule:
    # No field of the request has this name, so these changes are also remembered after a 500:
    # LM Studio returns one around the error of llama.cpp.
    return RefusalRule(wordings(pattern), change, "parameters", named_by=_is_about_tools)


# In order of evaluation.
TOOL_SCHEMA_RULES: tuple[RefusalRule, ...] = (
    # Moonshot.
    _schema_rule(
        r"using (?:anyof|oneof), type should be defined in (?:anyof|oneof) items",
        "move_types_into_branches",
    ),
    # Moonshot; OpenAI.
    _schema_rule(
        r"conflicting keywords found after \$ref expansion|\$ref cannot have keywords",
        "drop_reference_siblings",
    ),
    # Moonshot ("required property 'x' is not defined in properties"); Gemini ("required[1]:
    # property is not defined").
    _schema_rule(
        r"required property .{0,100} is not defined|required\[\d{1,4}\]: property is not defined"
        r"|required.{0,80}(?:undefined|unknown|missing) propert",
        "prune_required",
    ),
    # OpenAI; Gemini ("properties[tags].items: missing field").
    _schema_rule(
        r"array schema missing items|items: missing field|\barrays? .{0,60}missing.{0,20}items",
        "define_items",
    ),
    # OpenAI; Volcengine.
    _schema_rule(
        r"object schema missing properties|\bobjects? .{0,60}missing.{0,20}properties",
        "define_properties",
    ),
    # Gemini, of `type: ["string", "null"]`.
    _schema_rule(
        r"unknown name \\?\"type\\?\".{0,200}proto field is not repeating"
        r"|type.{0,40}must be a string.{0,40}(?:array|list)",
        "use_single_types",
    ),
    # Moonshot; Gemini; OpenAI ("[...] is not of type 'object', 'boolean'").
    _schema_rule(
        r"items must be an object|unknown name \\?\"items\\?\".{0,200}proto field is not repeating"
        r"|unknown name \\?\"prefixItems|\] is not of type 'object', 'boolean'",
        "use_uniform_items",
    ),
    RefusalRule(
        wordings(
            r"not (?:permitted|supported|allowed)|un(?:supported|recognized|known|implemented)"
            r"|unexpected|invalid|extra (?:inputs|fields)|forbidden|: only ",
            r"schema|parameters|function_declarations|keyword|in context=|grammar|\btools?\b",
        ),
        "drop_schema_keywords",
        "parameters",
        read_value=_read_keywords,
        named_by=_is_about_tools,
    ),
    # llama.cpp, LM Studio, vLLM, SGLang, Cerebras.
    _schema_rule(
        r"(?:pars(?:e|ing)|compil(?:e|ing)|build|initiali[sz]e|invalid|convert\w*|unsupported)"
        r" (?:the |a )?(?:json schema |tool.calling )?grammar"
        r"|schema conversion failed|failed to (?:convert|compile|parse) (?:the )?(?:json )?schema"
        r"|number of repetitions exceeds|pattern must start with '\^'"
        r"|not supported by (?:xgrammar|outlines|guidance|llguidance|lm.format.enforcer)",
        "simplify_schemas",
    ),
)

# A tool that is refused for another reason, or although its schema was changed. A session with the
# other tools is better than none.
REFUSED_TOOL_RULES: tuple[RefusalRule, ...] = (
    RefusalRule(
        wordings(
            r"schema|parameters|function_declarations|invalid_function|tool definition"
            r"|(?:function|tool)(?:s?\W{1,3}\d{1,4}\W{1,3}\w{0,20}\W{0,3})?.?name"
            r"|function.{1,4}description",
            r"invalid|not (?:a )?(?:valid|permitted|supported|allowed)|un(?:supported|recognized"
            r"|known|expected)|missing|must|should|too (?:long|many|large|deep)|does not|exceeds"
            r"|fail|only|could not",
        ),
        "leave_out_tool",
        "tools",
        read_value=_read_tool,
        named_by=_is_about_definition,
    ),
)

"""Refusals that require the Responses API, and refusals of the Responses API.

Some fields have other names in the Responses API. With the names of Chat Completions, the rules in
`translate/adaptation` also apply to refusals of this API. This module has the rules for refusals
that only this API has: first those of a field, then those of an item of the input. The last rule
is about reasoning of earlier turns: any refusal of the input is sent again without it, because
otherwise each later turn of the conversation would be refused too.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    REFUSAL_STATUSES,
    RefusalRule,
    find_rule_change,
    get_rule_text,
    is_param,
    wordings,
)
from anthropic_proxy.translate.context_overflow import is_context_overflow
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.upstream_failure import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# Texts of OpenAI for GPT-5.4 and later with tools, of OpenAI for models without Chat Completions
# (two texts; the second recommends the API for completion models), of Azure, and of GitHub Copilot
# (two texts).
_RESPONSES_API_REQUIRED = re.compile(
    r"\buse (the )?/?v1/responses"
    r"|only supported in /?v1/responses"
    r"|not a chat model and thus not supported in the /?v1/chat/completions"
    r"|chatCompletion operation does not work with the specified model"
    r"|not accessible via the /chat/completions endpoint|unsupported_api_for_model",
    re.IGNORECASE,
)

# Field names of this API, with their names in Chat Completions.
_CHAT_FIELDS = {
    "reasoning.effort": "reasoning_effort",
    "text.format": "response_format",
    "text.verbosity": "verbosity",
    "input": "messages",
}
_FIELD_PATHS = re.compile(r"\b(?:reasoning\.effort|text\.(?:format|verbosity))\b")


def requires_responses_api(failure: UpstreamFailure) -> bool:
    """Return whether a refusal of Chat Completions states that the Responses API is required."""
    if failure.status not in (400, 404):
        return False
    return _RESPONSES_API_REQUIRED.search(failure.searchable_text) is not None


def to_chat_failure(failure: UpstreamFailure) -> UpstreamFailure:
    """Return the refusal with the field names of Chat Completions."""
    text = _FIELD_PATHS.sub(lambda path: _CHAT_FIELDS[path[0]], failure.text)
    error = failure.error
    param = string_or_empty(error.get("param"))
    for path, name in _CHAT_FIELDS.items():
        # Also a path below `text.format`. Paths below `input` name an item.
        if param == path or (path != "input" and param.startswith(f"{path}.")):
            error = {**error, "param": name}
    if text == failure.text and error is failure.error:
        return failure
    return replace(failure, text=text, error=error)


def find_responses_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for a refusal that only the Responses API has, or None.

    `body` is the Chat Completions request from which the refused request was built.
    """
    if failure.status not in REFUSAL_STATUSES:
        return None
    change = find_rule_change(_RULES, failure, body) or _find_item_change(failure, body)
    if change is not None and failure.status >= 500:
        # The error of an outage may also name a field.
        return replace(change, is_lasting=False)
    return change


def find_reasoning_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for a refusal that no other rule matches, or None.

    The reason may be the reasoning of earlier turns, in any wording.
    """
    if not _may_concern_reasoning(failure):
        return None
    return _find_effective(_FORGET_REASONING, body)


def _is_about_summary(failure: UpstreamFailure, _field: str) -> bool:
    return is_param(failure, "reasoning.summary")


# Refusals of a field. FastAPI: "Extra inputs are not permitted"; serde: "unknown field `store`".
_FIELD_REFUSED = wordings(
    r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|invalid|extra|additional)"
    r" (?:request |body )?(?:parameter|argument|field|propert|input|keyword|key|name|option|value)"
    r"|extra_forbidden|not permitted|unsupported_parameter|unknown_parameter"
    r"|(?:is|are)(?: not|n't) (?:a |an )?(?:supported|allowed|valid|recogni[sz]ed|known)"
    r"|(?:not|un)[ _-]?supported|(?:does not|doesn't) (?:support|accept|exist|have)"
)
# A value instead of a field: the number is a limit, which other rules read.
_NO_LIMIT = wordings(
    r"\A(?!.*\d{3})|(?:unsupported|unknown|extra|unexpected)[ _](?:param|input|arg)"
)


def _is_named(failure: UpstreamFailure, field: str) -> bool:
    """Return whether a refusal names a field as such; some names are ordinary words.

    The name is the parameter, quoted, or after a word such as "parameter", or the text begins with
    it. It may be followed by the position of an item.
    """
    name = re.escape(field)
    pattern = (
        rf"['\"`]{name}(?:\[\d+\])?['\"`]"
        r"|\b(?:parameters?|arguments?|fields?|propert(?:y|ies)|inputs?|names?|keys?|keywords?)"
        rf"(?: is| are)?:? {name}(?![\w-])"
        rf"|\A{name} (?:is|isn't|cannot|must not)\b"
        rf"| {name}(?:\[\d+\])?\Z"
    )
    return re.search(pattern, _get_text_and_param(failure), re.IGNORECASE) is not None


def _get_text_and_param(failure: UpstreamFailure) -> str:
    """Return the text of a refusal, which ends with its `param` if there is one."""
    return get_rule_text(replace(failure, error={"param": failure.error.get("param")}))


# The paths `tools[0].strict`, `tools.0.strict` and `"tools",0,"function","strict"`.
_STRICT_PATH = wordings(r"tools['\"]?[\[.,] ?\d+.{0,40}\bstrict\b")
_DETAIL_PATH = wordings(r"(?:input|content|output)['\"]?[\[.,] ?\d+.{0,40}\bdetail\b")

# In order of evaluation.
_RULES = (
    # Summaries are not available to unverified organizations, nor with all models.
    RefusalRule(wordings(r"reasoning summaries|reasoning\.summary"), "drop", "reasoning"),
    RefusalRule(ANY_WORDING, "drop", "reasoning", named_by=_is_about_summary),
    # Models without reasoning, and servers without encrypted reasoning.
    RefusalRule(wordings("encrypted content is not supported"), "drop", "include"),
    RefusalRule(
        wordings(r"(?<!\w)reasoning\.encrypted_content")
        + wordings(r"invalid|not supported|unsupported|unknown|unrecogni[sz]ed|not allowed"),
        "drop",
        "include",
    ),
    RefusalRule(_FIELD_REFUSED, "drop", "include", named_by=_is_named),
    # The ChatGPT backend of Codex (RayBytes/ChatMock#103) has no limit on the response.
    RefusalRule(
        _FIELD_REFUSED + _NO_LIMIT + wordings("max_output_tokens"),
        "drop_output_limit",
        "max_output_tokens",
    ),
    RefusalRule(_FIELD_REFUSED, "omit_store", "store", named_by=_is_named),
    RefusalRule(_FIELD_REFUSED + _STRICT_PATH, "omit_strict", "tools", requires="tools"),
    RefusalRule(_FIELD_REFUSED + _DETAIL_PATH, "omit_detail", "messages", requires="images"),
    # The ChatGPT backend of Codex.
    RefusalRule(
        wordings(
            r"instructions (?:are|is|must be|field) (?:required|missing|set|provided)"
            r"|(?:missing|requires?) (?:the )?(?:required )?(?:parameter|field)?:? ?"
            r"['\"`]?instructions\b"
            r"|system messages? (?:are|is) not (?:allowed|supported|permitted)"
        ),
        "use_instructions",
        "messages",
    ),
    # Ids of calls of another model.
    RefusalRule(
        wordings(r"call_id.{0,200}(?:\bpattern\b|string too long)"),
        "change_call_ids",
        "messages",
        "plain",
    ),
    # Outputs of tools that are no strings; pydantic names the type of the item.
    RefusalRule(
        wordings(
            r"function_?call_?output.{0,200}"
            r"(?:valid string|string_type|(?:expected|must be|should be|not) an? string)"
        ),
        "move_tool_parts",
        "messages",
    ),
)

# Reasoning of another organization or server. The next conversation may have none.
_FORGET_REASONING = RequestChange("drop_from_assistant", DETAILS, is_lasting=False)
# Servers that do not know the items of reasoning, or their fields.
_OMIT_REASONING = RequestChange("drop_from_assistant", DETAILS)
_OMIT_PHASE = RequestChange("drop_from_details", "phase")
_MOVE_TOOL_PARTS = RequestChange("move_tool_parts", "messages")
_USE_INSTRUCTIONS = RequestChange("use_instructions", "messages")

# Ids of reasoning, and texts of OpenAI, Azure (earendil-works/pi PR#5524), Copilot and
# can1357/oh-my-pi#11928.
_REPLAYED_REASONING = re.compile(
    r"(?<!reasoning\.)encrypted[_ ]content|\brs_\w"
    r"|items are not persisted when `?store|reasoning item"
    r"|'reasoning' was provided without its required following",
    re.IGNORECASE,
)
_UNKNOWN_REASONING = re.compile(
    r"(?:unknown|unsupported|unrecogni[sz]ed|unexpected) (?:parameter|argument|field|property|key)"
    r"|extra (?:inputs|fields)|not permitted|'reasoning'\. supported values"
    r"|(?:unknown|unsupported|invalid) (?:item |input )?(?:item )?type",
    re.IGNORECASE,
)
_PHASE = re.compile(r"\bphase\b", re.IGNORECASE)

# The paths `input[2].phase`, `input.2.phase` and `"input",2,"phase"`.
_ITEM_PATH = re.compile(r"\binput['\"]?(?:\[|[.,] ?)(\d{1,6})\b(.{0,80})", re.DOTALL)


def _find_item_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for the refusal of an item of the input, or None."""
    if _has_other_cause(failure):
        return None
    text = get_rule_text(failure)
    change = None
    if _REPLAYED_REASONING.search(text):
        change = _choose_reasoning_change(text)
    item, path = _find_named_item(text, body)
    choose = _ITEM_CHANGES.get(item.get("type", ""))
    if choose is not None:
        change = choose(item, path, text) or change
    return None if change is None else _find_effective(change, body)


def _find_named_item(text: str, body: JsonObject) -> tuple[JsonObject, str]:
    """Return the item that a refusal names by its position, and the text after the position."""
    match = _ITEM_PATH.search(text)
    if match is None:
        return {}, ""
    try:
        items = to_responses_request(body)["input"]
    except ApiError:
        return {}, ""
    index = int(match[1])
    return (items[index], match[2]) if index < len(items) else ({}, "")


def _choose_reasoning_change(text: str) -> RequestChange:
    return _OMIT_REASONING if _UNKNOWN_REASONING.search(text) else _FORGET_REASONING


def _choose_message_change(item: JsonObject, path: str, _text: str) -> RequestChange | None:
    if "phase" in item and _PHASE.search(path):
        return _OMIT_PHASE
    if item["role"] == "system" and re.search(r"\brole\b", path):
        return _USE_INSTRUCTIONS
    return None


def _choose_output_change(item: JsonObject, path: str, _text: str) -> RequestChange | None:
    is_refused = isinstance(item["output"], list) and "output" in path
    return _MOVE_TOOL_PARTS if is_refused else None


# By the type of the refused item.
_ITEM_CHANGES: dict[str, Callable[[JsonObject, str, str], RequestChange | None]] = {
    "reasoning": lambda _item, _path, text: _choose_reasoning_change(text),
    "message": _choose_message_change,
    "function_call_output": _choose_output_change,
}


def _find_effective(change: RequestChange, body: JsonObject) -> RequestChange | None:
    """Return the change if it has an effect on the request, or None."""
    return None if change.apply(body) == body else change


_REASONING_NAMED = re.compile(
    r"\b(?:reasoning|encrypted|phase|thinking|thought)|\brs_", re.IGNORECASE
)
# Refusals with these causes are the same without the reasoning. A policy of the upstream applies to
# the complete conversation, so a request that it refused must not be sent with less.
_OTHER_CAUSE = re.compile(
    r"polic(?:y|ies)|content_filter|content management|moderation|safety|flagged|misalignment"
    r"|invalid_prompt|\bimage|quota|billing|credit|rate[ _-]?limit|too many requests|api[ _-]?key"
    r"|model_not_found",
    re.IGNORECASE,
)


def _has_other_cause(failure: UpstreamFailure) -> bool:
    return is_context_overflow(failure) or _OTHER_CAUSE.search(failure.searchable_text) is not None


def _may_concern_reasoning(failure: UpstreamFailure) -> bool:
    """Return whether a refusal of unknown wording may be about reasoning of earlier turns."""
    if failure.status not in (400, 404, 422) or _has_other_cause(failure):
        return False
    text = get_rule_text(failure)
    param = string_or_empty(failure.error.get("param"))
    # The item at a position is no reasoning: `_find_item_change` handles those.
    is_about_input = param.startswith("input") and _ITEM_PATH.search(param) is None
    return is_about_input or _REASONING_NAMED.search(text) is not None

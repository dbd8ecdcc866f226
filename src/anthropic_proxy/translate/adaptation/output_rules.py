"""The rules for the limits of an upstream on `max_tokens`."""

import re

from anthropic_proxy.translate.adaptation.refusal_rule import RefusalRule, get_rule_text, wordings
from anthropic_proxy.translate.context_overflow import is_context_overflow, parse_context_sizes
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    drop_thousands_separators,
    parse_count,
)
from anthropic_proxy.wire.json_codec import JsonObject

# In tokens. Models that DeepSeek and others released since 2024 accept this length.
_COMMON_LIMIT = 8192
# In tokens. OpenAI's minimum is 16.
_MAX_MINIMUM = 4096

_RATE_LIMIT = re.compile(r"per minute|per day|rate.?limit|\bTPM\b", re.IGNORECASE)
_LESS_THAN = re.compile(r"(?:less|lower|smaller) than \d", re.IGNORECASE)

_FIELD = r"(?:max_\w{0,20}tokens|max(?:imum)? ?tokens|maxoutputtokens)"
_LIMIT_NAMED = wordings(
    r"at most (\d+) (?:completion |output )?tokens"
    r"|cannot be greater than max_model_len=(\d+)"
    r"|tokens`? must be (?:less than or equal to|<=|at most) `?(\d+)"
    r"|range of max_\w*tokens (?:should be|is) \[\d+, ?(\d+)\]"
    r"|(?:supported )?range is from 1 \(inclusive\) to (\d+) \((?:in|ex)clusive\)"
    r"|max_\w*tokens: \d+ > (\d+)|model(?:'s)? (?:output )?limit (?:of|is) (\d+)"
    r"|maximum (?:number of )?(?:output|completion) tokens(?: for this model)?"
    r"(?: is|:| of) (\d+)"
    # OpenAI and Volcengine ("Expected a value <= 16384"), pydantic, Groq.
    rf"|{_FIELD}.{{0,160}}?(?:<=|\u2264|less than or equal to|at most"
    r"|(?:can|must|may|should) ?not (?:exceed|be (?:greater|larger|more|higher) than)|up to)"
    r" ?[`'\"]?(\d{3,})"
    # Gateways: "64000 exceeds maximum output token limit: 32000".
    rf"|{_FIELD}.{{0,80}}?exceeds?.{{0,60}}?(?:limit|max|allowed)\D{{0,40}}(\d{{3,}})"
    # GLM: "Please restrict it to [1,16384]".
    rf"|{_FIELD}.{{0,160}}?(?:[\[(]\d{{1,6}}, ?|between \d{{1,6}} and |\d{{1,6}} to )(\d{{3,}})"
    rf"|maximum (?:allowed )?(?:value|limit) (?:for|of) [`'\"]?{_FIELD}[`'\"]?"
    r"(?: is|:) ?(\d{3,})"
    rf"|{_FIELD}.{{0,120}}?maximum (?:allowed |supported )?(?:value |limit )?(?:is|of|:)"
    r" ?(\d{3,})"
    rf"|{_FIELD}.{{0,120}}?(?:less|lower|smaller) than (\d{{3,}})"
    rf"|{_FIELD}.{{0,80}}?(?<!be )(?:greater|larger|higher|more) than\D{{0,60}}(\d{{3,}})"
    rf"|{_FIELD}[`'\"]? ?> ?(\d{{3,}})",
    "token",
)
_MINIMUM_NAMED = wordings(
    rf"{_FIELD}.{{0,160}}?(?:>=|\u2265|greater than or equal to|at least"
    r"|(?:can|must) ?not be (?:less|lower|smaller) than|minimum(?: value)?(?: is| of|:))"
    r" ?[`'\"]?(\d{1,6})\b"
    rf"|{_FIELD}.{{0,160}}?(?:[\[(](\d{{1,6}}), ?\d|between (\d{{1,6}}) and \d)"
)
_REFUSED = wordings(
    rf"invalid (?:param(?:eter)?:? )?[`'\"]?{_FIELD}"
    rf"|{_FIELD}[`'\"]?(?: value| param(?:eter)?)?:?(?: is| \d{{1,9}})?"
    r" (?:too (?:large|big|high|long)|illegal|out of range|invalid|not valid|exceeds)"
)


# OpenAI's GPT-5, whose reasoning has used all of `max_tokens` before the response.
_LIMIT_REACHED = re.compile(
    r"could not finish the message because max_\w{0,20}tokens or model output limit was reached",
    re.IGNORECASE,
)


def is_output_limit_reached(failure: UpstreamFailure) -> bool:
    """Return whether the failure is a response that ended at its token limit without content."""
    return _LIMIT_REACHED.search(failure.text) is not None


def _read_limit(match: re.Match[str], failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the model's limit on the response in tokens, or 0.

    Other rules handle limits on the sum of prompt and response.
    """
    limit = parse_count(match)
    if limit <= 1 or parse_context_sizes(failure).limit or _RATE_LIMIT.search(failure.text):
        return 0
    if "exclusive" in failure.text or _LESS_THAN.search(match[0]):
        return limit - 1
    return limit


def _read_minimum(match: re.Match[str], failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the model's minimum, or 0 for an implausible one."""
    minimum = parse_count(match)
    if minimum > _MAX_MINIMUM or is_context_overflow(failure):
        return 0
    return minimum


def _read_common_limit(_match: re.Match[str], failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the limit to try, or 0 if the refusal names its limit or is about another one."""
    if is_context_overflow(failure) or _RATE_LIMIT.search(failure.text):
        return 0
    if _LIMIT_NAMED[0].search(drop_thousands_separators(get_rule_text(failure))):
        return 0
    return _COMMON_LIMIT


# In order of evaluation.
OUTPUT_LIMIT_RULES: tuple[RefusalRule, ...] = (
    RefusalRule(_LIMIT_NAMED, "limit_output", "max_tokens", read_value=_read_limit),
    RefusalRule(_MINIMUM_NAMED, "raise_output", "max_tokens", read_value=_read_minimum),
)

# Refusals that do not contain the limit, such as DeepSeek's "Invalid max_tokens param".
UNKNOWN_OUTPUT_LIMIT_RULE = RefusalRule(
    _REFUSED, "limit_output", "max_tokens", read_value=_read_common_limit
)

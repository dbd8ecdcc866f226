"""The type of refusal rules, and the function that evaluates them.

A refusal is an error response of the upstream about a part of the request, not the stop reason
`refusal` of a model. A rule recognizes a refusal by its text and names the change that makes the
upstream accept the request. The rules for Chat Completions are in `rules.py`, those for the
Responses API in `responses_api/refusals.py`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from anthropic_proxy.translate.adaptation.changes import Condition, RequestChange, build_condition
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    drop_thousands_separators,
    parse_count,
)
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class RefusalRule:
    """A rule that maps refusals to a change of the request."""

    # patterns (see `wordings`), all of which must match the refusal
    patterns: tuple[re.Pattern[str], ...]
    # name of the change, a key of a table in `changes.py`
    change: str
    # the changed field
    field: str
    # argument of the change
    value: Any = None
    # reads the argument from the match of the first pattern, the refusal and the request; the rule
    # is skipped if the argument is 0 or empty
    read_value: Callable[[re.Match[str], UpstreamFailure, JsonObject], Any] | None = None
    # checks that the refusal names the field: `is_param`, `names_field`, `mentions_field` or
    # `names_no_other_field`
    named_by: Callable[[UpstreamFailure, str], bool] | None = None
    # property (see `changes.py`) that the refused request must have; the change concerns only
    # requests with this property
    requires: str = ""
    # property of the refused request; the change concerns only requests with the same value
    shared: str = ""
    # whether the change applies to all requests of the model, not only to this request
    is_lasting: bool = True
    # whether later rules are skipped even if the change has no effect on the request
    is_final: bool = False


def wordings(*patterns: str) -> tuple[re.Pattern[str], ...]:
    """Compile patterns that ignore case, and in which `.` matches line breaks."""
    return tuple(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in patterns)


# HTTP statuses of refusals.
REFUSAL_STATUSES = frozenset({400, 404, 413, 422, 500, 501})

# In characters.
_MAX_PARAM_LENGTH = 500

# For rules that match any refusal that names the field.
ANY_WORDING = wordings("")


def read_limit(match: re.Match[str], _failure: UpstreamFailure, _body: JsonObject) -> int:
    """Return the limit in the refusal, or 0."""
    return parse_count(match)


def get_rule_text(failure: UpstreamFailure) -> str:
    """Return the text in which rules search.

    It includes `param`, which may be the path of a tool, or the reason itself (Xiaomi MiMo).
    """
    param = failure.error.get("param")
    if not isinstance(param, str):
        return failure.searchable_text
    return f"{failure.searchable_text} {param[:_MAX_PARAM_LENGTH]}"


def find_rule_change(
    rules: Iterable[RefusalRule], failure: UpstreamFailure, body: JsonObject
) -> RequestChange | None:
    """Return the change of the first rule that matches `failure`, the refusal of `body`.

    Rules whose change has no effect on `body` are skipped. Returns None if no rule applies.
    """
    text = drop_thousands_separators(get_rule_text(failure))

    @cache  # many rules share a pattern
    def search(pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.search(text)

    for rule in rules:
        match = search(rule.patterns[0])
        if match is None or not all(map(search, rule.patterns[1:])):
            continue
        change = _build_change(rule, match, failure, body)
        if change is None or change.apply(body) == body:
            if rule.is_final:
                return None
            continue
        # The slowest check comes last: most fields are absent from the request.
        if rule.named_by is None or rule.named_by(failure, rule.field):
            return change
    return None


def _build_change(
    rule: RefusalRule, match: re.Match[str], failure: UpstreamFailure, body: JsonObject
) -> RequestChange | None:
    value = rule.value
    if rule.read_value is not None:
        value = rule.read_value(match, failure, body)
        if not value:
            return None
    conditions: list[Condition] = []
    if rule.requires:
        conditions.append((rule.requires, True))
    if rule.shared:
        conditions.append(build_condition(rule.shared, body))
    return RequestChange(rule.change, rule.field, value, rule.is_lasting, tuple(conditions))


# Not the reason itself, which some servers write into `param`.
_FIELD_NAME = re.compile(r"[\w.\[\]]+")

# Other names of fields in refusals.
_ALIASES = {
    "reasoning_effort": ("think", "thinking", "reasoning", "reasoningEffort"),
    "chat_template_kwargs": ("enable_thinking",),
    "stream_options": ("stream options",),
}
# Many refusals contain the word "user", but few refer to the field.
_USER_FIELD = re.compile(
    r"['\"`]user['\"`]|(parameter|argument|field|property|supplied)s?:? user\b", re.IGNORECASE
)


def is_param(failure: UpstreamFailure, field: str) -> bool:
    """Return whether the `param` of an OpenAI-shaped error is `field`."""
    return failure.error.get("param") == field


def names_no_other_field(failure: UpstreamFailure, field: str) -> bool:
    """Return whether `param` is not the name of another field than `field` and the model's."""
    param = failure.error.get("param")
    if not isinstance(param, str) or param in (field, "model"):
        return True
    return _FIELD_NAME.fullmatch(param[:_MAX_PARAM_LENGTH]) is None


def names_field(failure: UpstreamFailure, field: str) -> bool:
    """Return whether the refusal names `field`, in `param` or in its text."""
    if is_param(failure, field):
        return True
    if field == "user":
        return bool(_USER_FIELD.search(failure.searchable_text))
    return _contains_word(failure, field)


def mentions_field(failure: UpstreamFailure, field: str) -> bool:
    """Return whether the refusal names `field` or one of its aliases."""
    if names_field(failure, field):
        return True
    return any(_contains_word(failure, alias) for alias in _ALIASES.get(field, ()))


def _contains_word(failure: UpstreamFailure, word: str) -> bool:
    pattern = rf"(?<![\w-]){word}(?![\w-])"
    return bool(re.search(pattern, failure.searchable_text, re.IGNORECASE))

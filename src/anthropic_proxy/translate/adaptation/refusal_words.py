"""Read the text of a refusal: whether it refuses a field, and which one."""

import re
from typing import Any

from anthropic_proxy.translate.upstream_errors import UpstreamFailure

# Other names for fields in refusals.
_ALIASES = {
    "reasoning_effort": ("think", "thinking", "reasoning", "reasoningEffort"),
    "chat_template_kwargs": ("enable_thinking",),
}

# Many refusals mention users and their messages; few mean the field.
_USER_FIELD_PATTERN = re.compile(
    r"['\"`]user['\"`]|(parameter|argument|field|property|supplied)s?:? user\b", re.IGNORECASE
)

REFUSAL_PATTERN = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|extra (inputs|fields)|extra_forbidden|not permitted"
    r"|(does|do) not support|do(es)?n't support|not allowed|no endpoints found that (support|can handle)|isn't supported"
    r"|may only be set|must be unset|only [\w.=]+ is allowed|is deprecated|cannot be disabled|only works in"
    r"|is restricted to|requires adaptive thinking|must be a positive integer and not greater than|not enabled for",
    re.IGNORECASE,
)


def refused_param(failure: UpstreamFailure) -> Any:
    """Return the field that an OpenAI-shaped error names, or None."""
    return failure.error.get("param")


def names_field(failure: UpstreamFailure, field: str) -> bool:
    """Return whether the refusal names `field`, in `param` or in its text."""
    if refused_param(failure) == field:
        return True
    return (
        bool(_USER_FIELD_PATTERN.search(failure.searchable_text))
        if field == "user"
        else _contains_word(failure, field)
    )


def mentions_field(failure: UpstreamFailure, field: str) -> bool:
    """Return whether the refusal names `field` or one of its aliases."""
    return names_field(failure, field) or any(
        _contains_word(failure, name) for name in _ALIASES.get(field, ())
    )


def _contains_word(failure: UpstreamFailure, name: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){name}(?![\w-])", failure.searchable_text, re.IGNORECASE))

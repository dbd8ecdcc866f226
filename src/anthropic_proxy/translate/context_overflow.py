"""Context overflows: refusals of requests that are longer than the context of the model."""

import re
from dataclasses import dataclass

from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    drop_thousands_separators,
    parse_count,
)

CONTEXT_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|too_many_prompt_tokens|maximum context length"
    r"|max context length|exceeds the (available )?context|prompt (is )?too long"
    r"|total length of all messages is too long|reduce the length of the messages"
    r"|input is too long|input token count .{0,200} exceeds|greater than the context length"
    r"|context length of only|`inputs` (tokens \+ `max_new_tokens` must be|must have less than)",
    re.IGNORECASE,
)
_CONTEXT_LIMIT = re.compile(
    r"context (?:length|window) (?:is|of)(?: only)? (\d+)|context size \((\d+)"
    r"|model with (\d+) maximum context|`max_new_tokens` must be <= (\d+)",
    re.IGNORECASE,
)
_PROMPT_LENGTH = re.compile(
    r"request has (\d+) input tokens"
    r"|requested (?:about )?\d+ tokens \((\d+) (?:in the messages|of text input)"
    r"|resulted in (\d+) tokens|contains at least (\d+)|request \((\d+) tokens"
    r"|total of \d+ tokens: (\d+)|prompt contains (\d+) tokens|keep the first (\d+) tokens"
    r"|given: (\d+)|requested (?:about )?(\d+) tokens",
    re.IGNORECASE,
)
_COMPLETION_LENGTH = re.compile(
    r"(\d+) (?:in|tokens for) the completion|is too large: (\d+)|(\d+) `max_new_tokens`"
)


@dataclass(frozen=True)
class ContextSizes:
    """Sizes in the text of a context overflow, in tokens; 0 if unknown."""

    prompt: int = 0
    # the context window
    limit: int = 0
    # the requested completion
    completion: int = 0


def parse_context_sizes(failure: UpstreamFailure) -> ContextSizes:
    """Parse the sizes in a context overflow; all are 0 for other failures."""
    if not is_context_overflow(failure):
        return ContextSizes()
    text = drop_thousands_separators(failure.text)
    return ContextSizes(
        # The fields are llama.cpp's.
        prompt=_parse_count_field(failure, "n_prompt_tokens") or _find_count(_PROMPT_LENGTH, text),
        limit=_parse_count_field(failure, "n_ctx") or _find_count(_CONTEXT_LIMIT, text),
        completion=_find_count(_COMPLETION_LENGTH, text),
    )


def is_context_overflow(failure: UpstreamFailure) -> bool:
    if failure.status not in (400, 413, 422, 500):
        return False
    return CONTEXT_OVERFLOW.search(failure.searchable_text) is not None


def _parse_count_field(failure: UpstreamFailure, name: str) -> int:
    value = failure.error.get(name)
    if not isinstance(value, int):
        return 0
    return value


def _find_count(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    if match is None:
        return 0
    return parse_count(match)

"""Read refusals about the choice of the API, and refusals by the Responses API.

The Responses API names fields that Chat Completions calls otherwise; with Chat Completions' names,
the rules of translate/adaptation apply to its refusals as well. Refusals without a counterpart
there have rules here.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.upstream_errors import UpstreamFailure, parse_count
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# OpenAI's GPT-5.4 and later with tools, its models that know no Chat Completions at all (in two wordings, of which the
# second names another API, for completion models of old), Azure's and GitHub Copilot's.
_RESPONSES_API_REQUIRED = re.compile(
    r"\buse (the )?/?v1/responses|only supported in /?v1/responses"
    r"|not a chat model and thus not supported in the /?v1/chat/completions"
    r"|chatCompletion operation does not work with the specified model"
    r"|not accessible via the /chat/completions endpoint|unsupported_api_for_model",
    re.IGNORECASE,
)


def requires_responses_api(failure: UpstreamFailure) -> bool:
    """Return whether a refusal by Chat Completions says that the model needs the Responses API."""
    return failure.status in (400, 404) and bool(
        _RESPONSES_API_REQUIRED.search(failure.searchable_text)
    )


# The names of this API's fields in Chat Completions.
_CHAT_FIELDS = {
    "reasoning.effort": "reasoning_effort",
    "text.format": "response_format",
    "text.verbosity": "verbosity",
    "input": "messages",
}


def to_chat_failure(failure: UpstreamFailure) -> UpstreamFailure:
    """Return the refusal with its field under the name that Chat Completions uses."""
    param = _CHAT_FIELDS.get(string_or_empty(failure.error.get("param")))
    return replace(failure, error={**failure.error, "param": param}) if param else failure


def find_responses_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change of `body`, the Chat Completions request, for a refusal that only the
    Responses API has.
    """
    changes = (rule(failure) for rule in _RULES)
    return next(
        (change for change in changes if change is not None and change.apply(body) != body), None
    )


_SUMMARY = re.compile(r"reasoning summaries|reasoning\.summary", re.IGNORECASE)
_NO_ENCRYPTION = re.compile(r"encrypted content is not supported", re.IGNORECASE)
_OLD_REASONING = re.compile(
    r"invalid_encrypted_content|encrypted content (.{0,200}could not be (verified|decrypted)|is not supported)"
    r"|items are not persisted when `?store|'reasoning' was provided without its required following",
    re.IGNORECASE | re.DOTALL,
)
_OUTPUT_LIMIT = re.compile(r"max_output_tokens.{0,60}value <= (\d+)", re.DOTALL)


def _drop_summary(failure: UpstreamFailure) -> RequestChange | None:
    """Drop the summary: unverified organizations get none, and not all models write one."""
    is_refused = failure.error.get("param") == "reasoning.summary" or _SUMMARY.search(failure.text)
    return RequestChange("drop", "reasoning") if is_refused else None


def _drop_encryption(failure: UpstreamFailure) -> RequestChange | None:
    """Drop the request for encrypted reasoning, for models that don't reason."""
    return RequestChange("drop", "include") if _NO_ENCRYPTION.search(failure.text) else None


def _forget_reasoning(failure: UpstreamFailure) -> RequestChange | None:
    """Drop reasoning of another organization or server. The next conversation may hold none."""
    return (
        RequestChange("forget", DETAILS, is_lasting=False)
        if _OLD_REASONING.search(failure.searchable_text)
        else None
    )


def _cap_output_tokens(failure: UpstreamFailure) -> RequestChange | None:
    match = _OUTPUT_LIMIT.search(failure.text)
    limit = parse_count(match[1]) if match else 0
    return RequestChange("at_most", "max_tokens", limit) if limit else None


_RULES: tuple[Callable[[UpstreamFailure], RequestChange | None], ...] = (
    _drop_summary,
    _drop_encryption,
    _forget_reasoning,
    _cap_output_tokens,
)

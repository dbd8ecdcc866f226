"""Read refusals about the choice of the API, and refusals by the Responses API.

Some fields have another name in the Responses API. Under Chat Completions' names, the rules of
`translate/adaptation` apply to its refusals as well. Refusals without a counterpart there have
rules here.
"""

import re
from dataclasses import replace

from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    RefusalRule,
    find_rule_change,
    is_param,
    read_limit,
    wordings,
)
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.upstream_errors import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty

# OpenAI's GPT-5.4 and later with tools; OpenAI's models without Chat Completions (two wordings, of
# which the second recommends the API of completion models); Azure; GitHub Copilot (two wordings).
_RESPONSES_API_REQUIRED = re.compile(
    r"\buse (the )?/?v1/responses"
    r"|only supported in /?v1/responses"
    r"|not a chat model and thus not supported in the /?v1/chat/completions"
    r"|chatCompletion operation does not work with the specified model"
    r"|not accessible via the /chat/completions endpoint|unsupported_api_for_model",
    re.IGNORECASE,
)

# The names of this API's fields in Chat Completions.
_CHAT_FIELDS = {
    "reasoning.effort": "reasoning_effort",
    "text.format": "response_format",
    "text.verbosity": "verbosity",
    "input": "messages",
}


def requires_responses_api(failure: UpstreamFailure) -> bool:
    """Return whether a refusal by Chat Completions says that the model needs the Responses API."""
    if failure.status not in (400, 404):
        return False
    return _RESPONSES_API_REQUIRED.search(failure.searchable_text) is not None


def to_chat_failure(failure: UpstreamFailure) -> UpstreamFailure:
    """Return the refusal with its field under the name that Chat Completions uses."""
    param = _CHAT_FIELDS.get(string_or_empty(failure.error.get("param")))
    if param is None:
        return failure
    return replace(failure, error={**failure.error, "param": param})


def find_responses_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for a refusal that only the Responses API has; None when no rule applies.

    `body` is the Chat Completions request from which the refused request was built.
    """
    return find_rule_change(_RULES, failure, body)


def _is_about_summary(failure: UpstreamFailure, _field: str) -> bool:
    return is_param(failure, "reasoning.summary")


# In the order in which they run.
_RULES = (
    # Unverified organizations get no summary, and not all models write one.
    RefusalRule(wordings(r"reasoning summaries|reasoning\.summary"), "drop", "reasoning"),
    RefusalRule(ANY_WORDING, "drop", "reasoning", named_by=_is_about_summary),
    # Models that don't reason.
    RefusalRule(wordings("encrypted content is not supported"), "drop", "include"),
    # Reasoning of another organization or server. The next conversation may hold none.
    RefusalRule(
        wordings(
            r"invalid_encrypted_content"
            r"|encrypted content (.{0,200}could not be (verified|decrypted)|is not supported)"
            r"|items are not persisted when `?store"
            r"|'reasoning' was provided without its required following"
        ),
        "drop_from_assistant",
        DETAILS,
        is_lasting=False,
    ),
    RefusalRule(
        wordings(r"max_output_tokens.{0,60}value <= (\d+)"),
        "limit_output",
        "max_tokens",
        read_value=read_limit,
    ),
)

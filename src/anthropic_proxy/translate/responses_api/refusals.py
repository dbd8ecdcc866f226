"""Refusals that require the Responses API, and refusals of the Responses API.

Some fields have other names in the Responses API. With the names of Chat Completions, the rules in
`translate/adaptation` also apply to refusals of this API. This module has the rules for refusals
that only this API has.
"""

import re
from dataclasses import replace

from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.refusal_rule import (
    ANY_WORDING,
    RefusalRule,
    find_rule_change,
    is_param,
    wordings,
)
from anthropic_proxy.translate.reasoning.fields import DETAILS
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


def requires_responses_api(failure: UpstreamFailure) -> bool:
    """Return whether a refusal of Chat Completions states that the Responses API is required."""
    if failure.status not in (400, 404):
        return False
    return _RESPONSES_API_REQUIRED.search(failure.searchable_text) is not None


def to_chat_failure(failure: UpstreamFailure) -> UpstreamFailure:
    """Return the refusal with the field name of Chat Completions."""
    param = _CHAT_FIELDS.get(string_or_empty(failure.error.get("param")))
    if param is None:
        return failure
    return replace(failure, error={**failure.error, "param": param})


def find_responses_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change for a refusal that only the Responses API has, or None.

    `body` is the Chat Completions request from which the refused request was built.
    """
    return find_rule_change(_RULES, failure, body)


def _is_about_summary(failure: UpstreamFailure, _field: str) -> bool:
    return is_param(failure, "reasoning.summary")


# In order of evaluation.
_RULES = (
    # Summaries are not available to unverified organizations, nor with all models.
    RefusalRule(wordings(r"reasoning summaries|reasoning\.summary"), "drop", "reasoning"),
    RefusalRule(ANY_WORDING, "drop", "reasoning", named_by=_is_about_summary),
    # Models without reasoning.
    RefusalRule(wordings("encrypted content is not supported"), "drop", "include"),
    # Reasoning of another organization or server. The next conversation may have none.
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
)

"""Read refusals about the choice of the API, and refusals by the Responses API.

The Responses API names fields that Chat Completions calls otherwise; with Chat Completions' names,
the rules of translate/adaptation apply to its refusals as well. Refusals without a counterpart
there have rules here.
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
        "forget",
        DETAILS,
        is_lasting=False,
    ),
    RefusalRule(
        wordings(r"max_output_tokens.{0,60}value <= (\d+)"),
        "at_most",
        "max_tokens",
        read_value=read_limit,
    ),
)

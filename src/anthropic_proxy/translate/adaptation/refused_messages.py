"""Rules for refusals of the messages of a request.

Each rule returns a change for the refusals that it recognizes, else None.
"""

import re
from collections.abc import Callable

from anthropic_proxy.translate.adaptation.changes import RequestChange, has_part
from anthropic_proxy.translate.adaptation.refusal_words import REFUSAL_PATTERN, mentions_field
from anthropic_proxy.translate.reasoning.fields import REASONING_FIELDS
from anthropic_proxy.translate.reasoning.tool_call_signatures import has_call_signature
from anthropic_proxy.translate.upstream_errors import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

_REASONING_MISSING = re.compile(
    r"reasoning_content.{0,60}(must be passed back|(is|are) missing)|(missing|requires) .{0,20}reasoning_content",
    re.IGNORECASE | re.DOTALL,
)
_SYSTEM_ROLE_REFUSED = re.compile(
    r"role.{0,40}(does not support|not supported).{0,40}system|system role (is )?not supported"
    r"|unknown variant `system`|developer instruction is not enabled",
    re.IGNORECASE,
)
# Mistral's models, wherever they run.
_USER_AFTER_TOOL_REFUSED = re.compile(
    r"unexpected role '?user'? after role '?tool|roles must alternate", re.IGNORECASE
)
_TOOL_NAME_MISSING = re.compile(
    r"function_response\.name: name cannot be empty|tool message must have a 'name' field",
    re.IGNORECASE,
)
# Gemini, wherever it runs: there is none, or it is another project's or model's.
_SIGNATURE_INVALID = re.compile(
    r"missing (a )?`?thought_?signature|(corrupted|invalid) thought.?signature|thought.?signature is (not valid|invalid)",
    re.IGNORECASE,
)


def find_message_change(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Return the change of the messages for the refusal of `body`, or None."""
    changes = (rule(failure, body) for rule in _RULES)
    return next(
        (change for change in changes if change is not None and change.apply(body) != body), None
    )


def _drop_reasoning(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Drop reasoning of earlier turns in a field of another server (Cerebras, Groq)."""
    if not REFUSAL_PATTERN.search(failure.searchable_text) or not re.search(
        r"messages|assistant", failure.text
    ):
        return None
    present_fields = [
        name for name in REASONING_FIELDS if any(name in message for message in body["messages"])
    ]
    refused_field = next((name for name in present_fields if mentions_field(failure, name)), None)
    return RequestChange("forget", refused_field) if refused_field else None


def _drop_thinking_parts(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Drop reasoning of earlier turns in the form of Mistral, which no other server accepts."""
    if not re.search(r"content|thinking", failure.searchable_text):
        return None
    has_thinking = any(has_part(message, "thinking") for message in body["messages"])
    return RequestChange("forget_parts", "content", "thinking") if has_thinking else None


def _add_reasoning(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Add the reasoning that DeepSeek and Moonshot require, as a space where it is missing.

    It is missing when another server wrote the turn or when the caller cleared it. Not all of these
    servers accept an empty text.
    """
    return (
        RequestChange("give", "reasoning_content", " ")
        if _REASONING_MISSING.search(failure.text)
        else None
    )


def _drop_system_role(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    return (
        RequestChange("as_user", "messages") if _SYSTEM_ROLE_REFUSED.search(failure.text) else None
    )


def _drop_cache_marks(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Drop cache marks; the upstream then caches as it likes."""
    is_refused = REFUSAL_PATTERN.search(failure.searchable_text) and "cache_control" in failure.text
    return RequestChange("unmark", "messages", "cache_control") if is_refused else None


def _insert_assistant_messages(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Separate tool results from a user message; Claude Code adds text after most tool results."""
    return (
        RequestChange("answer_between", "messages", "OK.")
        if _USER_AFTER_TOOL_REFUSED.search(failure.searchable_text)
        else None
    )


def _add_tool_names(failure: UpstreamFailure, _: JsonObject) -> RequestChange | None:
    """Name the tool of each result, for gateways in front of Gemini."""
    is_refused = _TOOL_NAME_MISSING.search(failure.text)
    return RequestChange("name_results", "messages") if is_refused else None


def _drop_signatures(failure: UpstreamFailure, body: JsonObject) -> RequestChange | None:
    """Drop tool call signatures; lasting only when the refused request had none.

    The server may accept the signatures of the next conversation.
    """
    is_lasting = not any(map(has_call_signature, body["messages"]))
    is_refused = _SIGNATURE_INVALID.search(failure.text)
    return (
        RequestChange("without_signatures", "messages", is_lasting=is_lasting)
        if is_refused
        else None
    )


_RULES: tuple[Callable[[UpstreamFailure, JsonObject], RequestChange | None], ...] = (
    _insert_assistant_messages,
    _add_reasoning,
    _drop_reasoning,
    _drop_thinking_parts,
    _drop_system_role,
    _add_tool_names,
    _drop_signatures,
    _drop_cache_marks,
)

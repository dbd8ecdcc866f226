"""What an upstream refuses of the messages of a request, and the change that makes it take them.

Each rule has a change for the refusals that it knows, and None for others.
"""

import re
from collections.abc import Callable

from anthropic_proxy.translate.adaptation.changes import Adjustment, has_part
from anthropic_proxy.translate.adaptation.refusal_words import REFUSED, mentions
from anthropic_proxy.translate.reasoning.fields import REASONING_FIELDS
from anthropic_proxy.translate.reasoning.tool_call_signatures import has_call_signature
from anthropic_proxy.translate.upstream_errors import UpstreamFailure
from anthropic_proxy.wire.json_codec import JsonObject

_NO_REASONING = re.compile(
    r"reasoning_content.{0,60}(must be passed back|(is|are) missing)|(missing|requires) .{0,20}reasoning_content",
    re.IGNORECASE | re.DOTALL,
)
_NO_SYSTEM = re.compile(
    r"role.{0,40}(does not support|not supported).{0,40}system|system role (is )?not supported"
    r"|unknown variant `system`|developer instruction is not enabled",
    re.IGNORECASE,
)
# Mistral's models, wherever they run.
_NOT_AFTER_TOOL = re.compile(
    r"unexpected role '?user'? after role '?tool|roles must alternate", re.IGNORECASE
)
_NO_NAME = re.compile(
    r"function_response\.name: name cannot be empty|tool message must have a 'name' field",
    re.IGNORECASE,
)
# Gemini, wherever it runs: there is none, or it is another project's or model's.
_NO_SIGNATURE = re.compile(
    r"missing (a )?`?thought_?signature|(corrupted|invalid) thought.?signature|thought.?signature is (not valid|invalid)",
    re.IGNORECASE,
)


def of_messages(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """The change of the messages that the refusal of `body` asks for."""
    found = (rule(failure, body) for rule in _RULES)
    return next(
        (change for change in found if change is not None and change.apply(body) != body), None
    )


def _without_old_reasoning(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """The reasoning of earlier turns, in a field that the server before this one had (Cerebras, Groq)."""
    if not REFUSED.search(failure.searchable_text) or not re.search(
        r"messages|assistant", failure.text
    ):
        return None
    present = [
        name for name in REASONING_FIELDS if any(name in message for message in body["messages"])
    ]
    refused = next((name for name in present if mentions(failure, name)), None)
    return Adjustment("forget", refused) if refused else None


def _without_thinking_parts(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """The reasoning of earlier turns in the form of Mistral, which no other server takes."""
    if not re.search(r"content|thinking", failure.searchable_text):
        return None
    present = any(has_part(message, "thinking") for message in body["messages"])
    return Adjustment("forget_parts", "content", "thinking") if present else None


def _with_old_reasoning(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """DeepSeek and Moonshot want it back, and it may be gone: another server's, or cleared to save context. They take a
    space in its place, but not all an empty text.
    """
    return (
        Adjustment("give", "reasoning_content", " ") if _NO_REASONING.search(failure.text) else None
    )


def _without_system(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    return Adjustment("as_user", "messages") if _NO_SYSTEM.search(failure.text) else None


def _without_marks(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """Of caching, which is then the upstream's own matter."""
    told = REFUSED.search(failure.searchable_text) and "cache_control" in failure.text
    return Adjustment("unmark", "messages", "cache_control") if told else None


def _with_an_answer_between(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """Claude Code says something behind the results of most turns."""
    return (
        Adjustment("answer_between", "messages", "OK.")
        if _NOT_AFTER_TOOL.search(failure.searchable_text)
        else None
    )


def _with_names_of_results(failure: UpstreamFailure, _: JsonObject) -> Adjustment | None:
    """Gateways in front of Gemini."""
    told = _NO_NAME.search(failure.text)
    return Adjustment("name_results", "messages") if told else None


def _without_signatures(failure: UpstreamFailure, body: JsonObject) -> Adjustment | None:
    """Those of the next conversation may be known to the server; where there are none at all, there won't be any."""
    lasts = not any(map(has_call_signature, body["messages"]))
    told = _NO_SIGNATURE.search(failure.text)
    return Adjustment("without_signatures", "messages", lasts=lasts) if told else None


_RULES: tuple[Callable[[UpstreamFailure, JsonObject], Adjustment | None], ...] = (
    _with_an_answer_between,
    _with_old_reasoning,
    _without_old_reasoning,
    _without_thinking_parts,
    _without_system,
    _with_names_of_results,
    _without_signatures,
    _without_marks,
)

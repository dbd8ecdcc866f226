"""What is passed through to an upstream that speaks the Messages API itself, and what of its answer: as much as can be.

The client's bytes go on as they came, and so do the answer's. There are three exceptions, each only where it is met: the
route names another model, the configuration adds fields, or the conversation holds blocks that this proxy has signed,
which nobody else can read: Anthropic refuses a request with a foreign signature.
"""

import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.errors import TYPE_BY_STATUS, NativeError
from anthropic_proxy.translate.compaction_blocks import without_compaction_blocks
from anthropic_proxy.translate.reasoning.signatures import MARK, is_ours
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.json_edit import with_members
from anthropic_proxy.wire.sse import Decoder

UPSTREAM_REQUEST_ID = "anthropic-proxy-upstream-request-id"

# Headers of answers. The upstream's organization is the proxy's own affair.
_PASSED_BACK = frozenset({"content-type", "retry-after", "retry-after-ms", "x-should-retry"})
_RATE_LIMITS = "anthropic-ratelimit-"

# The API's own types of errors; other servers have put names of classes into its envelope.
_ERROR_TYPE = re.compile(r"[a-z][a-z_]*")
_STATUS_BY_TYPE = {name: status for status, name in TYPE_BY_STATUS.items()}

_INPUT_TOKENS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

_SIGNED = {"thinking": "signature", "redacted_thinking": "data"}


def payload(raw: bytes, request: JsonObject, model: str, extra_body: Mapping[str, Any]) -> bytes:
    """The body for the upstream. raw: the client's; request: the same, parsed. model: the upstream's name for it.
    extra_body: fields that the configuration adds, in place of the request's own.
    """
    changed: JsonObject = {} if model == request["model"] else {"model": model}
    if MARK in raw:
        messages = _without_ours(request["messages"])
        changed |= {} if messages is request["messages"] else {"messages": messages}
    changed |= extra_body
    return with_members(raw, changed) if changed else raw


def response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an answer that go on to the client; its id goes on under a name of its own."""
    passed = {
        name: value
        for name, value in headers.items()
        if name in _PASSED_BACK or name.startswith(_RATE_LIMITS)
    }
    upstream_id = headers.get("request-id")
    return passed | ({UPSTREAM_REQUEST_ID: upstream_id} if upstream_id else {})


def message_usage(raw: bytes) -> tuple[JsonObject, str | None, int]:
    """Usage, stop reason and number of tool calls of a Message."""
    message = loads_object(raw) or {}
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    calls = sum(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
    return _object(message.get("usage")), message.get("stop_reason"), calls


def stream_usage(told: bytes) -> tuple[JsonObject, str | None]:
    """Usage and stop reason of a stream, from its events that have any: what comes later wins."""
    usage: JsonObject = {}
    stop_reason = None
    for payload in Decoder().feed(told):
        event = loads_object(payload) or {}
        usage |= _object(event.get("usage") or _object(event.get("message")).get("usage"))
        stop_reason = _object(event.get("delta")).get("stop_reason") or stop_reason
    return usage, stop_reason


def tells_input(usage: JsonObject) -> bool:
    """Whether a usage has the tokens of the input."""
    return any(_count(usage.get(name)) for name in _INPUT_TOKENS)


def usage_so_far(usage: JsonObject, input_estimate: int, output_estimate: int) -> JsonObject:
    """Usage of a stream that its client left, or that broke off. usage: as it was told until then, which is all of the
    input, but for servers that tell 0 at first, and hardly any of the output: message_delta, at the end, has that.
    """
    inputs = {} if tells_input(usage) else {"input_tokens": input_estimate}
    return (
        usage | inputs | {"output_tokens": max(_count(usage.get("output_tokens")), output_estimate)}
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def error_of(status: int, headers: Mapping[str, str], raw: bytes) -> NativeError | None:
    """The error that an answer of `status` >= 400 is, if it has the API's form."""
    envelope = _envelope(raw) if status >= 400 else None
    return (
        None if envelope is None else NativeError(status, raw, envelope, response_headers(headers))
    )


def is_error(raw: bytes) -> bool:
    """Return whether a body is an error in the API's envelope, whatever its status."""
    # A member of this name is rare in a Message, and quotes in a model's text are escaped: this spares most of the parsing.
    return b'"error"' in raw and _envelope(raw) is not None


def stream_error(event: bytes) -> NativeError | None:
    """The error that the data of an event is, if it is one."""
    envelope = _envelope(event)
    if envelope is None:
        return None
    return NativeError(_STATUS_BY_TYPE.get(envelope["error"]["type"], 500), event, envelope)


def _envelope(raw: bytes) -> JsonObject | None:
    parsed = loads_object(raw)
    if parsed is None or parsed.get("type") != "error":
        return None
    error = parsed.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return parsed if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None


def _without_ours(messages: list[JsonObject]) -> list[JsonObject]:
    """The conversation without thinking that this proxy signed, and with its summaries as texts; itself if it has none."""
    if _is_regular(messages) and any(
        _is_our_summary(block) for message in messages for block in _blocks(message)
    ):
        messages = without_compaction_blocks({"messages": messages})["messages"]
    if not any(_is_our_thought(block) for message in messages for block in _blocks(message)):
        return messages
    return [kept for kept in map(_without_our_thoughts, messages) if kept is not None]


def _without_our_thoughts(message: JsonObject) -> JsonObject | None:
    """None when nothing else was in it: the API takes no empty message, but two of one role in a row."""
    content = _blocks(message)
    kept = [block for block in content if not _is_our_thought(block)]
    if len(kept) == len(content):
        return message
    return {**message, "content": kept} if kept else None


def _is_our_thought(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and kind in _SIGNED and is_ours(block.get(_SIGNED[kind]))


def _is_our_summary(block: JsonObject) -> bool:
    return block["type"] == "compaction" and is_ours(block.get("signature"))


def _is_regular(messages: list[JsonObject]) -> bool:
    """Whether all blocks have a type, as they have in a checked request; this one may not have been checked."""
    return all(
        isinstance(block, dict) and "type" in block
        for message in messages
        for block in _blocks(message)
    )


def _blocks(message: JsonObject) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []

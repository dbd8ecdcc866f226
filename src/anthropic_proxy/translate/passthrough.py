"""Pass requests through to an upstream that speaks the Messages API, and read its responses.

The caller's bytes and the response's bytes stay unchanged, with three exceptions: the route names another model, the
configuration adds fields, or the conversation holds blocks that this proxy has signed. Anthropic refuses a request with
a foreign signature.
"""

import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.errors import TYPE_BY_STATUS, PassthroughError
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.reasoning.signatures import SIGNATURE_MARK, is_proxy_signature
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.json_edit import replace_members
from anthropic_proxy.wire.sse import SSEDecoder

UPSTREAM_REQUEST_ID = "anthropic-proxy-upstream-request-id"

# Headers of answers. The upstream's organization is the proxy's own affair.
_FORWARDED_HEADERS = frozenset({"content-type", "retry-after", "retry-after-ms", "x-should-retry"})
_RATE_LIMIT_PREFIX = "anthropic-ratelimit-"

# The API's own types of errors; other servers have put names of classes into its envelope.
_ERROR_TYPE = re.compile(r"[a-z][a-z_]*")
_STATUS_BY_TYPE = {name: status for status, name in TYPE_BY_STATUS.items()}

_INPUT_TOKENS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

_SIGNATURE_FIELDS = {"thinking": "signature", "redacted_thinking": "data"}


def build_request_body(
    raw: bytes, request: JsonObject, model: str, extra_body: Mapping[str, Any]
) -> bytes:
    """Build the body for the upstream from the caller's body `raw`, whose parsed form is `request`.

    `model` is the upstream's model name. `extra_body` holds configured fields, which replace the request's own.
    """
    changes: JsonObject = {} if model == request["model"] else {"model": model}
    if SIGNATURE_MARK in raw:
        messages = _drop_proxy_blocks(request["messages"])
        changes |= {} if messages is request["messages"] else {"messages": messages}
    changes |= extra_body
    return replace_members(raw, changes) if changes else raw


def filter_response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the response headers that are forwarded to the caller; the request id gets a name of its own."""
    caller_headers = {
        name: value
        for name, value in headers.items()
        if name in _FORWARDED_HEADERS or name.startswith(_RATE_LIMIT_PREFIX)
    }
    upstream_id = headers.get("request-id")
    return caller_headers | ({UPSTREAM_REQUEST_ID: upstream_id} if upstream_id else {})


def parse_message_usage(raw: bytes) -> tuple[JsonObject, str | None, int]:
    """Return usage, stop reason and number of tool calls of a Message."""
    message = loads_object(raw) or {}
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    calls = sum(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
    return _object_or_empty(message.get("usage")), message.get("stop_reason"), calls


def parse_stream_usage(events: bytes) -> tuple[JsonObject, str | None]:
    """Return usage and stop reason of a stream from the events that hold them; later values win."""
    usage: JsonObject = {}
    stop_reason = None
    for data in SSEDecoder().feed(events):
        event = loads_object(data) or {}
        usage |= _object_or_empty(
            event.get("usage") or _object_or_empty(event.get("message")).get("usage")
        )
        stop_reason = _object_or_empty(event.get("delta")).get("stop_reason") or stop_reason
    return usage, stop_reason


def has_input_tokens(usage: JsonObject) -> bool:
    """Return whether a usage reports input tokens."""
    return any(_int_or_zero(usage.get(name)) for name in _INPUT_TOKENS)


def estimate_usage(usage: JsonObject, input_estimate: int, output_estimate: int) -> JsonObject:
    """Return the usage of an incomplete stream, whose `usage` is what its events reported.

    Most servers report the input at the start (some report 0), and the output only in message_delta, at the end.
    """
    inputs = {} if has_input_tokens(usage) else {"input_tokens": input_estimate}
    return (
        usage
        | inputs
        | {"output_tokens": max(_int_or_zero(usage.get("output_tokens")), output_estimate)}
    )


def _int_or_zero(value: object) -> int:
    return value if isinstance(value, int) else 0


def _object_or_empty(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def parse_native_error(
    status: int, headers: Mapping[str, str], raw: bytes
) -> PassthroughError | None:
    """Return the error of a response of `status` >= 400, if it has the API's form."""
    envelope = _parse_envelope(raw) if status >= 400 else None
    return (
        None
        if envelope is None
        else PassthroughError(status, raw, envelope, filter_response_headers(headers))
    )


def is_error_body(raw: bytes) -> bool:
    """Return whether a body is an error in the API's envelope, whatever its status."""
    # A member of this name is rare in a Message, and quotes in a model's text are escaped: this spares most of the parsing.
    return b'"error"' in raw and _parse_envelope(raw) is not None


def parse_event_error(event: bytes) -> PassthroughError | None:
    """Return the error in the data of an event, if it is one."""
    envelope = _parse_envelope(event)
    if envelope is None:
        return None
    return PassthroughError(_STATUS_BY_TYPE.get(envelope["error"]["type"], 500), event, envelope)


def _parse_envelope(raw: bytes) -> JsonObject | None:
    parsed = loads_object(raw)
    if parsed is None or parsed.get("type") != "error":
        return None
    error = parsed.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return parsed if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None


def _drop_proxy_blocks(messages: list[JsonObject]) -> list[JsonObject]:
    """Remove thinking that this proxy signed, and replace its summaries with text; return `messages` if there is none."""
    if _has_typed_blocks(messages) and any(
        _is_proxy_summary(block) for message in messages for block in _get_blocks(message)
    ):
        messages = expand_compaction_blocks({"messages": messages})["messages"]
    if not any(_is_proxy_thinking(block) for message in messages for block in _get_blocks(message)):
        return messages
    return [message for message in map(_drop_proxy_thinking, messages) if message is not None]


def _drop_proxy_thinking(message: JsonObject) -> JsonObject | None:
    """Return None when nothing else is in it: the API accepts no empty message, but two of one role in a row."""
    content = _get_blocks(message)
    rest = [block for block in content if not _is_proxy_thinking(block)]
    if len(rest) == len(content):
        return message
    return {**message, "content": rest} if rest else None


def _is_proxy_thinking(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    return (
        isinstance(kind, str)
        and kind in _SIGNATURE_FIELDS
        and is_proxy_signature(block.get(_SIGNATURE_FIELDS[kind]))
    )


def _is_proxy_summary(block: JsonObject) -> bool:
    return block["type"] == "compaction" and is_proxy_signature(block.get("signature"))


def _has_typed_blocks(messages: list[JsonObject]) -> bool:
    """Return whether all blocks have a type, as in a checked request; this request may be unchecked."""
    return all(
        isinstance(block, dict) and "type" in block
        for message in messages
        for block in _get_blocks(message)
    )


def _get_blocks(message: JsonObject) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []

"""Requests and responses of upstreams that implement the Messages API.

The bytes of requests and responses stay unchanged, with four exceptions: the route names another
model, the configuration adds fields, the conversation contains blocks that this proxy signed, or
the upstream has refused its thinking (see `reasoning/thinking_history.py`). Anthropic rejects
requests with signatures of others.
"""

import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.errors import TYPE_BY_STATUS, ApiError, PassthroughError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks, get_blocks
from anthropic_proxy.translate.reasoning.signatures import SIGNATURE_MARK, is_proxy_signature
from anthropic_proxy.translate.reasoning.thinking_history import (
    CHANGED_FIELDS,
    UNCHANGED,
    ThinkingPolicy,
    change_thinking,
    drop_blocks,
    is_proxy_thinking,
)
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    find_chunk_error,
)
from anthropic_proxy.wire.json_codec import JsonObject, loads_object
from anthropic_proxy.wire.json_edit import remove_members, replace_members
from anthropic_proxy.wire.sse import SSEDecoder, is_error_event, parse_data

UPSTREAM_REQUEST_ID = "anthropic-proxy-upstream-request-id"

# Response headers for clients. `anthropic-organization-id` would reveal the operator's account.
_FORWARDED_HEADERS = frozenset({"content-type", "retry-after", "retry-after-ms", "x-should-retry"})
_RATE_LIMIT_PREFIX = "anthropic-ratelimit-"

# The form of the API's error types. Other servers use the same envelope with class names.
_ERROR_TYPE = re.compile(r"[a-z][a-z_]*")
_STATUS_BY_TYPE = {name: status for status, name in TYPE_BY_STATUS.items()}

_INPUT_TOKENS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

# The texts on which Claude Code 2.1 removes an image.
_API_IMAGE_TEXTS = re.compile(
    r"could not process image|image exceeds|image dimensions exceed"
    r"|image does not match the provided media type",
    re.IGNORECASE,
)


def build_request_body(
    raw: bytes,
    request: JsonObject,
    model: str,
    extra_body: Mapping[str, Any],
    policy: ThinkingPolicy = UNCHANGED,
) -> bytes:
    """Build the upstream's request body from the client's body.

    `raw` is the client's body and `request` its parsed form. `model` is the upstream's model name.
    `extra_body` contains configured fields, which replace fields of the request. `policy` contains
    the changes of thinking that the upstream requires.
    """
    changes: JsonObject = {}
    removed: list[str] = []
    if model != request["model"]:
        changes["model"] = model
    changes |= extra_body
    if policy is not UNCHANGED or SIGNATURE_MARK in raw:
        edited = edit_conversation({**request, **extra_body}, policy)
        for name in CHANGED_FIELDS:
            if name not in edited:
                changes.pop(name, None)
                if name in request:
                    removed.append(name)
            elif edited[name] is not request.get(name):
                changes[name] = edited[name]
    body = replace_members(raw, changes) if changes else raw
    return remove_members(body, removed) if removed else body


def edit_conversation(request: JsonObject, policy: ThinkingPolicy) -> JsonObject:
    """Return the request with the conversation and the thinking that the upstream accepts.

    Thinking blocks of this proxy are removed, and its compaction blocks become text.
    """
    messages = request["messages"]
    if _has_proxy_summary(messages):
        messages = expand_compaction_blocks({"messages": messages})["messages"]
    kept = drop_blocks(messages, is_proxy_thinking)
    edited = {**request, "messages": kept}
    return change_thinking(edited, policy, has_lost_thinking=kept is not messages)


def filter_response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the response headers for the client.

    The upstream's request id is in the header UPSTREAM_REQUEST_ID.
    """
    forwarded: dict[str, str] = {}
    for name, value in headers.items():
        if name in _FORWARDED_HEADERS or name.startswith(_RATE_LIMIT_PREFIX):
            forwarded[name] = value
    upstream_id = headers.get("request-id")
    if upstream_id:
        forwarded[UPSTREAM_REQUEST_ID] = upstream_id
    return forwarded


def parse_message_usage(raw: bytes) -> tuple[JsonObject, str | None, int]:
    """Return the usage, the stop reason and the number of tool calls of a Message."""
    message = loads_object(raw) or {}
    calls = 0
    for block in get_blocks(message):
        if isinstance(block, dict) and block.get("type") == "tool_use":
            calls += 1
    return _object_or_empty(message.get("usage")), message.get("stop_reason"), calls


def parse_stream_usage(events: bytes) -> tuple[JsonObject, str | None]:
    """Return the usage and the stop reason from events of a stream; later values win."""
    usage: JsonObject = {}
    stop_reason = None
    for data in SSEDecoder().feed(events):
        event = loads_object(data) or {}
        message = _object_or_empty(event.get("message"))
        usage |= _object_or_empty(event.get("usage") or message.get("usage"))
        stop_reason = _object_or_empty(event.get("delta")).get("stop_reason") or stop_reason
    return usage, stop_reason


def has_input_tokens(usage: JsonObject) -> bool:
    """Return whether a usage reports input tokens."""
    return any(_int_or_zero(usage.get(name)) for name in _INPUT_TOKENS)


def estimate_usage(usage: JsonObject, input_estimate: int, output_estimate: int) -> JsonObject:
    """Return the usage of an incomplete stream, whose events reported `usage`.

    Most servers report input tokens at the start (some report 0), and output tokens only at the
    end, in message_delta. The estimates replace missing values.
    """
    estimated = dict(usage)
    if not has_input_tokens(usage):
        estimated["input_tokens"] = input_estimate
    reported_output = _int_or_zero(usage.get("output_tokens"))
    estimated["output_tokens"] = max(reported_output, output_estimate)
    return estimated


def _int_or_zero(value: object) -> int:
    return value if isinstance(value, int) else 0


def _object_or_empty(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def parse_native_error(
    status: int, headers: Mapping[str, str], raw: bytes
) -> PassthroughError | None:
    """Return the error of a response with `status` >= 400 if it has the API's format."""
    envelope = _parse_envelope(raw) if status >= 400 else None
    if envelope is None:
        return None
    return PassthroughError(status, raw, envelope, filter_response_headers(headers))


def is_error_body(raw: bytes) -> bool:
    """Return whether a body is an error in the API's envelope, for any status."""
    # Most bodies need no parsing: a Message rarely has a member with this name, and quotes in text
    # are escaped.
    return b'"error"' in raw and _parse_envelope(raw) is not None


def parse_message(raw: bytes) -> JsonObject | None:
    """Return the Message in the body of a successful response; None if it is none."""
    message = loads_object(raw)
    if message is None or message.get("type", "message") != "message":
        return None
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        return None
    # MiniMax sends an empty message with its error.
    return None if find_chunk_error(message) is not None else message


def parse_success_error(raw: bytes, upstream: UpstreamIdentity) -> ApiError | None:
    """Return the error in a body with status 200 that is no Message, or in an `error` event.

    Returns None if it states no error. An error in the format of the API is forwarded, unless it
    contains a secret, or clients would not recognize it.
    """
    native_error = parse_event_error(raw)
    mapped_error = upstream_errors.parse_error_data(raw, upstream)
    if native_error is None or mapped_error is None:
        return mapped_error
    text = raw.decode("utf-8", "surrogateescape")
    if upstream.redact(text) != text or needs_mapping(mapped_error.failure):
        return mapped_error
    native_error.adopt(mapped_error)
    return native_error


def parse_stream_error(raw_event: bytes, upstream: UpstreamIdentity) -> ApiError | None:
    """Return the error that a complete event of a stream reports; None if it reports none."""
    lines = raw_event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").strip(b"\n")
    payload = parse_data(lines) or b""
    if is_error_event(lines):
        error = parse_success_error(payload, upstream)
        return error or upstream_errors.parse_error_event(payload, upstream)
    event = loads_object(payload)
    # Other events of the API may contain errors of tools.
    if event is None or event.get("type", "error") != "error" or find_chunk_error(event) is None:
        return None
    return parse_success_error(payload, upstream)


def needs_mapping(failure: UpstreamFailure) -> bool:
    """Return whether clients would not recognize an error in the format of the Messages API."""
    if upstream_errors.needs_mapping(failure):
        return True
    # Claude Code removes the image from the conversation only if the error has one of these texts.
    if _API_IMAGE_TEXTS.search(failure.text):
        return False
    return _API_IMAGE_TEXTS.match(upstream_errors.to_api_error(failure).message) is not None


def parse_event_error(event: bytes) -> PassthroughError | None:
    """Return the error if the data of an event is one."""
    envelope = _parse_envelope(event)
    if envelope is None:
        return None
    return PassthroughError(_STATUS_BY_TYPE.get(envelope["error"]["type"], 500), event, envelope)


def _parse_envelope(raw: bytes) -> JsonObject | None:
    parsed = loads_object(raw)
    if parsed is None or parsed.get("type") != "error":
        return None
    kind = _object_or_empty(parsed.get("error")).get("type")
    if not isinstance(kind, str) or not _ERROR_TYPE.fullmatch(kind):
        return None
    return parsed


def _has_proxy_summary(messages: list[JsonObject]) -> bool:
    """Return whether the messages contain a compaction block of this proxy.

    Returns False if a block has no type, which is possible in requests that were not validated.
    """
    has_summary = False
    for message in messages:
        for block in get_blocks(message):
            if not isinstance(block, dict) or "type" not in block:
                return False
            if block["type"] == "compaction" and is_proxy_signature(block.get("signature")):
                has_summary = True
    return has_summary

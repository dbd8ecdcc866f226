"""The request side of the Messages API: what a client may send, checked once at the door.

A checked request is a plain dict in the wire's own shape. The models name only what the proxy reads: fields and content
blocks that they don't know pass through untouched, since clients send new ones every month and a 400 for something that
can be ignored would cost Claude Code six requests. What is named is checked, so that the code inside need not.

Source: the request types of the official SDK (anthropic 2.10) and recorded requests of Claude Code.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from anthropic_proxy.wire import collector
from anthropic_proxy.wire.anthropic.content import Content
from anthropic_proxy.wire.anthropic.context import CompactionConfig, ContextManagement
from anthropic_proxy.wire.anthropic.tools import McpServer, Tool, ToolChoice
from anthropic_proxy.wire.anthropic.unions import ALLOW_EXTRA, ALLOW_EXTRA_LAZY, Items
from anthropic_proxy.wire.json_codec import JsonObject, loads_strict, repair_json_surrogates
from anthropic_proxy.wire.quoting import shorten


class InvalidRequestError(ValueError):
    """The body is no JSON, or not of the API's shape; the text names the path as the API does. `details` may hold an
    `error_code` that clients act on.
    """

    def __init__(self, text: str, details: JsonObject | None = None) -> None:
        super().__init__(text)
        self.details = details


@ALLOW_EXTRA
class TurnMessage(TypedDict):
    role: Literal["user", "assistant", "system"]
    content: Content


@ALLOW_EXTRA
class SystemMessage(TypedDict):
    """clear_at "next_user_message": the text is for the user's turn before it alone."""

    role: Literal["system"]
    content: NotRequired[Content | None]
    clear_at: NotRequired[str | None]


def _message_tag(message: Any) -> str:
    return (
        "system_message"
        if isinstance(message, dict) and message.get("role") == "system"
        else "turn"
    )


Message = Annotated[
    Annotated[TurnMessage, Tag("turn")] | Annotated[SystemMessage, Tag("system_message")],
    Discriminator(_message_tag),
]


@ALLOW_EXTRA
class Thinking(TypedDict):
    type: str
    budget_tokens: NotRequired[int | None]
    display: NotRequired[str | None]


@ALLOW_EXTRA
class OutputFormat(TypedDict):
    type: Literal["json_schema"]
    schema: JsonObject


@ALLOW_EXTRA
class OutputConfig(TypedDict):
    effort: NotRequired[str | None]
    format: NotRequired[OutputFormat | None]


@ALLOW_EXTRA
class Metadata(TypedDict):
    user_id: NotRequired[str | None]


@ALLOW_EXTRA
class Diagnostics(TypedDict):
    previous_message_id: NotRequired[str | None]


@ALLOW_EXTRA_LAZY
class CountTokensRequest(TypedDict):
    """`POST /v1/messages/count_tokens`: a request without what only matters to the answer."""

    model: Annotated[str, Field(min_length=1)]
    messages: Items[Message]
    system: NotRequired[Content | None]
    tools: NotRequired[Items[Tool] | None]
    tool_choice: NotRequired[ToolChoice | None]
    mcp_servers: NotRequired[Items[McpServer] | None]
    thinking: NotRequired[Thinking | None]
    output_config: NotRequired[OutputConfig | None]
    output_format: NotRequired[OutputFormat | None]
    metadata: NotRequired[Metadata | None]
    context_management: NotRequired[ContextManagement | None]
    compaction: NotRequired[CompactionConfig | None]


# Characters. The proxy itself searches the response for the sequences. To prepare that takes up to 2 us and some memory
# for each character, while other requests wait.
_MAX_STOP_SEQUENCE_CHARACTERS = 16_384


def _check_total_length(sequences: list[str]) -> list[str]:
    if sum(map(len, sequences)) > _MAX_STOP_SEQUENCE_CHARACTERS:
        limit = {"limit": _MAX_STOP_SEQUENCE_CHARACTERS}
        raise PydanticCustomError(
            "too_long", "at most {limit} characters are permitted in all sequences together", limit
        )
    return sequences


_StopSequences = Annotated[
    Items[Annotated[str, Field(min_length=1)]], AfterValidator(_check_total_length)
]


@ALLOW_EXTRA
class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`. `max_tokens` in tokens; thinking counts toward it."""

    max_tokens: Annotated[int, Field(ge=0)]
    stream: NotRequired[bool | None]
    stop_sequences: NotRequired[_StopSequences | None]
    temperature: NotRequired[Annotated[float, Field(ge=0, le=1)] | None]
    top_p: NotRequired[Annotated[float, Field(ge=0, le=1)] | None]
    top_k: NotRequired[Annotated[int, Field(ge=0)] | None]
    service_tier: NotRequired[str | None]
    speed: NotRequired[str | None]
    diagnostics: NotRequired[Diagnostics | None]


@ALLOW_EXTRA_LAZY
class _RoutableRequest(TypedDict):
    """The fields that routing needs."""

    model: Annotated[str, Field(min_length=1)]
    messages: Items[JsonObject]
    stream: NotRequired[bool | None]
    thinking: NotRequired[JsonObject | None]


_MESSAGES = TypeAdapter(MessagesRequest)
_COUNT_TOKENS = TypeAdapter(CountTokensRequest)
_ROUTABLE = TypeAdapter(_RoutableRequest)


def build_request_schemas(ref_template: str) -> JsonObject:
    """Return the JSON Schemas of the requests and their parts by name. `ref_template` is the form of a `$ref`."""
    adapters = (("messages", _MESSAGES), ("count_tokens", _COUNT_TOKENS))
    _, result = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters], ref_template=ref_template
    )
    definitions: JsonObject = result["$defs"]
    return definitions


# Gone with version 2026-10-21 of the API, which refuses them in these words (its migration guide).
_SAMPLING_REMOVED_IN = "2026-10-21"
_SAMPLING_PARAMETERS = ("temperature", "top_p", "top_k")

# The `error_code` for a conversation in which nothing was said.
NOTHING_TO_SUMMARIZE = "compaction_nothing_to_summarize"

# Characters of a problem.
_MAX_PROBLEM_CHARACTERS = 500

# Tags of our own unions: the API does not have them in its paths.
_UNION_TAGS = {"string", "blocks", "other", "turn", "system_message", "typed", "other_reference"}


def parse_messages_request(raw: bytes, version: str = "") -> JsonObject:
    """Parse and check the body of `POST /v1/messages`. Raises InvalidRequestError.

    `version` is the header `anthropic-version`; without one (curl) what every version has had is taken.
    """
    return _check_version(_require_messages(_parse_request(_MESSAGES, raw)), version)


def parse_count_tokens_request(raw: bytes, version: str = "") -> JsonObject:
    """Parse and check the body of `POST /v1/messages/count_tokens`. Raises InvalidRequestError."""
    return _check_version(_require_messages(_parse_request(_COUNT_TOKENS, raw)), version)


@dataclass(frozen=True)
class RequestBody:
    """The body of a request."""

    raw: bytes
    # The checked request; with a `problem` it is checked only as far as routing needs.
    request: JsonObject
    # Why the request can't be translated. An upstream that speaks the Messages API may accept it all the same.
    problem: InvalidRequestError | None = None


def parse_messages_body(raw: bytes, version: str = "") -> RequestBody:
    """Parse as `parse_messages_request` does, but raise InvalidRequestError only for a body that can't be routed."""
    return _parse_body(raw, partial(parse_messages_request, raw, version))


def parse_count_tokens_body(raw: bytes, version: str = "") -> RequestBody:
    """Parse as `parse_count_tokens_request` does, but raise InvalidRequestError only for a body that can't be routed."""
    return _parse_body(raw, partial(parse_count_tokens_request, raw, version))


def _parse_body(raw: bytes, parse: Callable[[], JsonObject]) -> RequestBody:
    with collector.pause_garbage_collection():
        try:
            return RequestBody(raw, parse())
        except InvalidRequestError as problem:
            try:
                return RequestBody(raw, _validate(_ROUTABLE, raw), problem)
            except ValidationError:
                raise problem from None


def _require_messages(request: JsonObject) -> JsonObject:
    if not request["messages"]:
        details = {"error_code": NOTHING_TO_SUMMARIZE} if request.get("compaction") else None
        raise InvalidRequestError("messages: at least one message is required", details)
    return request


def _check_version(request: JsonObject, version: str) -> JsonObject:
    if version < _SAMPLING_REMOVED_IN:
        return request
    names = [name for name in _SAMPLING_PARAMETERS if request.get(name) is not None]
    problems = [f"{name}: Extra inputs are not permitted" for name in names]
    for message_index, message in enumerate(request["messages"]):
        content = message.get("content")
        for block_index, block in enumerate(content if isinstance(content, list) else ()):
            path = f"messages.{message_index}.content.{block_index}"
            if message["role"] == "assistant" and block["type"] == "document":
                problems.append(f"{path}: document blocks are not permitted in assistant messages")
            if message["role"] == "user" and block["type"] == "text" and block.get("citations"):
                problems.append(f"{path}.text.citations: Extra inputs are not permitted")
    if problems:
        raise InvalidRequestError("; ".join(problems[:3]))
    return request


def _parse_request(adapter: TypeAdapter[Any], raw: bytes) -> JsonObject:
    try:
        return _validate(adapter, raw)
    except ValidationError as error:
        raise InvalidRequestError(
            "; ".join(map(_describe_error, error.errors(include_url=False)[:3]))
        ) from error


def _validate(adapter: TypeAdapter[Any], raw: bytes) -> JsonObject:
    # Checked while it is parsed, a text would be copied for each union that it stands within, to look at its type.
    with suppress(ValueError):
        request: JsonObject = adapter.validate_python(loads_strict(raw))
        return request
    # Errors are told in the words of JSON.
    return _validate_json(adapter, raw)


def _validate_json(adapter: TypeAdapter[Any], raw: bytes) -> JsonObject:
    try:
        request: JsonObject = adapter.validate_json(raw)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        request = adapter.validate_json(_repair_or_raise(raw, error))
    return request


def _repair_or_raise(raw: bytes, error: ValidationError) -> bytes:
    try:
        return repair_json_surrogates(raw)
    except ValueError:
        raise error from None


def _describe_error(error: ErrorDetails) -> str:
    if error["type"] == "json_invalid" and "recursion limit" in error["msg"]:
        return "The request body is nested too deeply: at most 200 objects and arrays may stand within each other"
    if error["type"] == "json_invalid":
        return "The request body is not valid JSON: " + error["msg"].removeprefix("Invalid JSON: ")
    path = ".".join(str(step) for step in error["loc"] if step not in _UNION_TAGS)
    # Some messages quote the value.
    problem = shorten(error["msg"], _MAX_PROBLEM_CHARACTERS)
    return f"{path}: {problem}" if path else f"The request body is not an object: {problem}"

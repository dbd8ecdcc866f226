"""Parse and validate the bodies of Messages API requests, once per request.

A validated request is a dict in the wire format. The models contain only the fields that the proxy
uses; unknown fields and content blocks are accepted unchanged. New versions of clients often send
new fields, and after a 400 for an ignorable field Claude Code would send six requests. Code that
receives a validated request can rely on the fields of the models.

Source: the request types of the official SDK (anthropic 2.10) and recorded requests of Claude Code.
"""

from collections.abc import Callable, Iterator
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
    """The body is not JSON, or does not match the schema of the API.

    The text contains the path in the same form as errors of the API.
    """

    def __init__(self, text: str, details: JsonObject | None = None) -> None:
        super().__init__(text)
        # may contain an `error_code` that clients act on
        self.details = details


@ALLOW_EXTRA
class TurnMessage(TypedDict):
    role: Literal["user", "assistant", "system"]
    content: Content


@ALLOW_EXTRA
class SystemMessage(TypedDict):
    """A system message in the conversation.

    With clear_at "next_user_message", its text applies only to the user turn before it.
    """

    role: Literal["system"]
    content: NotRequired[Content | None]
    clear_at: NotRequired[str | None]


def _message_tag(message: Any) -> str:
    if isinstance(message, dict) and message.get("role") == "system":
        return "system_message"
    return "turn"


InputMessage = Annotated[
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
    """The body of `POST /v1/messages/count_tokens`: the fields that determine the input."""

    model: Annotated[str, Field(min_length=1)]
    messages: Items[InputMessage]
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


# The proxy searches the response for the sequences. The preparation takes up to 2 us and some
# memory per character, and blocks other requests.
_MAX_STOP_SEQUENCE_CHARACTERS = 16_384


def _check_total_length(sequences: list[str]) -> list[str]:
    if sum(map(len, sequences)) > _MAX_STOP_SEQUENCE_CHARACTERS:
        limit = {"limit": _MAX_STOP_SEQUENCE_CHARACTERS}
        raise PydanticCustomError(
            "too_long", "all sequences together may have at most {limit} characters", limit
        )
    return sequences


_StopSequences = Annotated[
    Items[Annotated[str, Field(min_length=1)]], AfterValidator(_check_total_length)
]


@ALLOW_EXTRA
class MessagesRequest(CountTokensRequest):
    """The body of `POST /v1/messages`. Thinking counts toward `max_tokens`."""

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
    """Return the JSON Schemas of the requests and their parts by name.

    `ref_template` is the format string of a `$ref`.
    """
    _, result = TypeAdapter.json_schemas(
        [("messages", "validation", _MESSAGES), ("count_tokens", "validation", _COUNT_TOKENS)],
        ref_template=ref_template,
    )
    definitions: JsonObject = result["$defs"]
    return definitions


# Version 2026-10-21 of the API removed these fields. The error texts are from its migration guide.
_SAMPLING_REMOVED_IN = "2026-10-21"
_SAMPLING_PARAMETERS = ("temperature", "top_p", "top_k")

# The `error_code` for a compaction request without messages.
NOTHING_TO_SUMMARIZE = "compaction_nothing_to_summarize"

# The maximum number of problems in one error message.
_MAX_PROBLEMS = 3
_MAX_PROBLEM_CHARACTERS = 500

# Tags of unions of this package, which the API does not have in its paths.
_UNION_TAGS = {"string", "blocks", "other", "turn", "system_message", "typed", "other_reference"}


def parse_messages_request(raw: bytes, version: str = "") -> JsonObject:
    """Parse and validate the body of `POST /v1/messages`. Raises InvalidRequestError.

    `version` is the header `anthropic-version`. Without it (for example with curl), the fields of
    all versions are accepted.
    """
    return _parse_request(_MESSAGES, raw, version)


def parse_count_tokens_request(raw: bytes, version: str = "") -> JsonObject:
    """Parse and validate the body of `POST /v1/messages/count_tokens`.

    Raises InvalidRequestError.
    """
    return _parse_request(_COUNT_TOKENS, raw, version)


@dataclass(frozen=True)
class RequestBody:
    """The body of a request."""

    raw: bytes
    # the validated request; with a `problem`, only the fields that routing needs are validated
    request: JsonObject
    # the reason why it cannot be translated; upstreams with the Messages API may accept it
    problem: InvalidRequestError | None = None


def parse_messages_body(raw: bytes, version: str = "") -> RequestBody:
    """Parse as `parse_messages_request`, but accept any body that can be routed.

    Raises InvalidRequestError for other bodies.
    """
    return _parse_body(raw, partial(parse_messages_request, raw, version))


def parse_count_tokens_body(raw: bytes, version: str = "") -> RequestBody:
    """Parse as `parse_count_tokens_request`, but accept any body that can be routed.

    Raises InvalidRequestError for other bodies.
    """
    return _parse_body(raw, partial(parse_count_tokens_request, raw, version))


def _parse_body(raw: bytes, parse: Callable[[], JsonObject]) -> RequestBody:
    """Validate a complete body, or only the fields that routing needs if it is invalid.

    If both fail, the error of the complete validation is raised, because it has more details.
    """
    with collector.pause_garbage_collection():
        try:
            return RequestBody(raw, parse())
        except InvalidRequestError as problem:
            try:
                routable_request = _validate(_ROUTABLE, *_parse_json(raw))
            except (InvalidRequestError, ValidationError):
                raise problem from None
            return RequestBody(raw, routable_request, problem)


def _parse_request(adapter: TypeAdapter[Any], raw: bytes, version: str) -> JsonObject:
    """Parse and validate a body.

    Raises InvalidRequestError for the first failed check: JSON, schema, at least one message,
    fields of the version.
    """
    document, text = _parse_json(raw)
    try:
        request = _validate(adapter, document, text)
    except ValidationError as error:
        details = error.errors(include_url=False)[:_MAX_PROBLEMS]
        raise InvalidRequestError("; ".join(map(_describe_error, details))) from error
    _require_messages(request)
    _reject_removed_fields(request, version)
    return request


def _parse_json(raw: bytes) -> tuple[Any, bytes]:
    """Return the document and its JSON text, with unpaired surrogates replaced.

    Raises InvalidRequestError. Its text refers to the repaired JSON if surrogates can be replaced,
    else to the client's JSON.
    """
    try:
        return loads_strict(raw), raw
    except ValueError as error:
        parse_error = error
    try:
        repaired = repair_json_surrogates(raw)
    except ValueError:
        raise InvalidRequestError(_describe_json_error(parse_error)) from parse_error
    try:
        return loads_strict(repaired), repaired
    except ValueError as error:
        raise InvalidRequestError(_describe_json_error(error)) from error


def _validate(adapter: TypeAdapter[Any], document: Any, text: bytes) -> JsonObject:
    """Return the validated document; `text` is its JSON. Raises ValidationError."""
    request: JsonObject
    try:
        # `validate_json` would copy a text for each union that contains it, to check its type.
        request = adapter.validate_python(document)
    except ValidationError:
        # This fails too, but its messages use JSON terms: "object", not "dictionary".
        request = adapter.validate_json(text)
    return request


def _require_messages(request: JsonObject) -> None:
    if not request["messages"]:
        details = {"error_code": NOTHING_TO_SUMMARIZE} if request.get("compaction") else None
        raise InvalidRequestError("messages: at least one message is required", details)


def _reject_removed_fields(request: JsonObject, version: str) -> None:
    """Raise InvalidRequestError for fields that the version does not have."""
    if version < _SAMPLING_REMOVED_IN:
        return
    problems = []
    for name in _SAMPLING_PARAMETERS:
        if request.get(name) is not None:
            problems.append(f"{name}: Extra inputs are not permitted")
    for index, message in enumerate(request["messages"]):
        problems += _find_removed_block_fields(message, f"messages.{index}.content")
    if problems:
        raise InvalidRequestError("; ".join(problems[:_MAX_PROBLEMS]))


def _find_removed_block_fields(message: JsonObject, path: str) -> Iterator[str]:
    content = message.get("content")
    if not isinstance(content, list):
        return
    role = message["role"]
    for index, block in enumerate(content):
        if role == "assistant" and block["type"] == "document":
            yield f"{path}.{index}: document blocks are not permitted in assistant messages"
        if role == "user" and block["type"] == "text" and block.get("citations"):
            yield f"{path}.{index}.text.citations: Extra inputs are not permitted"


def _describe_json_error(error: ValueError) -> str:
    if "recursion limit" in str(error):
        return "The request body is nested too deeply: the maximum is 200 levels"
    return f"The request body is not valid JSON: {error}"


def _describe_error(error: ErrorDetails) -> str:
    path = ".".join(str(step) for step in error["loc"] if step not in _UNION_TAGS)
    # Some messages contain the value.
    problem = shorten(error["msg"], _MAX_PROBLEM_CHARACTERS)
    return f"{path}: {problem}" if path else f"The request body is not an object: {problem}"

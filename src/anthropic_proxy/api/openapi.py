"""`GET /openapi.json`: all that this server answers, as OpenAPI 3.1 has it.

A test compares it with the application's rules. Requests are described by the models that check them, and of answers the
parts that are always there, as their blocks grow with the API. The forms that begin with `/v1/v1`, for clients whose base
URL ends in `/v1`, are left out.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quart import Blueprint, Response

from anthropic_proxy import __version__
from anthropic_proxy.errors import TYPE_BY_STATUS
from anthropic_proxy.wire.anthropic.request import build_request_schemas
from anthropic_proxy.wire.json_codec import JsonObject, dumps

PATH = "/openapi.json"

_REFS = "#/components/schemas/{model}"
_JSON, _TEXT, _EVENTS = "application/json", "text/plain", "text/event-stream"
_STRING: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}


def _object(**fields: JsonObject) -> JsonObject:
    return {"type": "object", "required": list(fields), "properties": fields}


def _enum(*values: Any) -> JsonObject:
    return {"enum": list(values)}


def _list_of(items: JsonObject) -> JsonObject:
    return {"type": "array", "items": items}


def _or_null(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> JsonObject:
    return {"$ref": _REFS.format(model=name)}


_RESPONSE_SCHEMAS = {
    "Error": _object(
        type=_enum("error"),
        error=_object(type=_STRING, message=_STRING),
        request_id=_or_null(_STRING),
    ),
    "Message": _object(
        id=_STRING,
        type=_enum("message"),
        role=_enum("assistant"),
        model=_STRING,
        content=_list_of(_object(type=_STRING)),
        stop_reason=_or_null(_STRING),
        stop_sequence=_or_null(_STRING),
        usage=_object(input_tokens=_COUNT, output_tokens=_COUNT),
    ),
    "TokenCount": _object(input_tokens=_COUNT),
    "Model": _object(type=_enum("model"), id=_STRING, display_name=_STRING, created_at=_STRING),
    "Models": _object(
        data=_list_of(_ref("Model")),
        has_more={"type": "boolean"},
        first_id=_or_null(_STRING),
        last_id=_or_null(_STRING),
    ),
    "Hello": _object(message=_enum("hello")),
    "Server": _object(name=_enum("anthropic-proxy"), version=_STRING),
}


@dataclass(frozen=True)
class _Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    # Media type -> schema, for status 200.
    responses: JsonObject
    # Name of the schema of the request body.
    request_schema: str | None = None
    # In the query and the path.
    parameters: tuple[JsonObject, ...] = ()
    needs_key: bool = False
    # Of errors.
    statuses: tuple[int, ...] = ()
    # Whether status 503 reports that the server is not ready.
    can_be_unready: bool = False

    @property
    def id(self) -> str:
        """The name of the operation in generated clients, such as `post_v1_messages`."""
        words = re.findall(r"\w+", self.path) or ["root"]
        return "_".join([self.method, *(word.replace(".", "_") for word in words)])

    @property
    def tag(self) -> str:
        if not self.path.startswith("/v1/"):
            return "Operations"
        return "Models" if self.path.startswith("/v1/models") else "Messages"


_TAGS = {
    "Messages": "Conversations with models",
    "Models": "The models that can be asked for",
    "Operations": "Probes, metrics and this description; none needs a key",
}
_EXAMPLE: JsonObject = {
    "model": "claude-sonnet-4-5",
    "messages": [{"role": "user", "content": "Hello"}],
}
_EXAMPLES: Mapping[str, JsonObject] = {
    "MessagesRequest": {**_EXAMPLE, "max_tokens": 1024},
    "CountTokensRequest": _EXAMPLE,
}


def _parameter(
    name: str, description: str, schema: JsonObject = _STRING, location: str = "query"
) -> JsonObject:
    return {
        "name": name,
        "in": location,
        "description": description,
        "required": location == "path",
        "schema": schema,
    }


_VERSION = _parameter(
    "anthropic-version", "version of the API, such as 2023-06-01", location="header"
)
_DEBUG = _parameter(
    "debug", "1: with what is known of the upstreams of each model", _enum("0", "1")
)
_UPSTREAM_STATUSES = tuple(TYPE_BY_STATUS)
_OK = {_TEXT: _STRING}

_OPERATIONS = (
    _Operation("get", "/", "Name and version", {_JSON: _ref("Server")}),
    _Operation("get", "/api/hello", "Whether a client is connected", {_JSON: _ref("Hello")}),
    _Operation("get", "/health", "Whether the process answers", _OK),
    _Operation("get", "/livez", "Whether the process answers", _OK),
    _Operation("get", "/startupz", "Whether the server has started", _OK),
    _Operation("get", "/readyz", "Whether requests should come here", _OK, can_be_unready=True),
    _Operation(
        "get",
        "/metrics",
        "Metrics for Prometheus",
        _OK | {"application/openmetrics-text": _STRING},
    ),
    _Operation("get", PATH, "This description", {_JSON: {"type": "object"}}),
    _Operation(
        "post",
        "/v1/messages",
        "Answer a conversation, whole or, with `stream`, as events",
        {_JSON: _ref("Message"), _EVENTS: _STRING},
        "MessagesRequest",
        (_VERSION,),
        needs_key=True,
        statuses=_UPSTREAM_STATUSES,
    ),
    _Operation(
        "post",
        "/v1/messages/count_tokens",
        "Count the tokens of a conversation",
        {_JSON: _ref("TokenCount")},
        "CountTokensRequest",
        (_VERSION,),
        needs_key=True,
        statuses=_UPSTREAM_STATUSES,
    ),
    _Operation(
        "get",
        "/v1/models",
        "The models that may be asked for",
        {_JSON: _ref("Models")},
        parameters=(
            _parameter(
                "limit", "how many at most", {"type": "integer", "minimum": 1, "maximum": 1000}
            ),
            _parameter("before_id", "those before this one"),
            _parameter("after_id", "those after this one"),
            _parameter("lifecycle[]", "those of these states", _list_of(_STRING)),
            _DEBUG,
        ),
        needs_key=True,
        statuses=_UPSTREAM_STATUSES,
    ),
    _Operation(
        "get",
        "/v1/models/{model_id}",
        "One model; its id may hold slashes",
        {_JSON: _ref("Model")},
        parameters=(_parameter("model_id", "its id", location="path"), _DEBUG),
        needs_key=True,
        statuses=_UPSTREAM_STATUSES,
    ),
)


def create_openapi_routes(*, has_metrics: bool) -> Blueprint:
    """The route. has_metrics: whether the metrics are on the same port."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get(PATH)
    async def openapi() -> Response:
        return Response(_encode_document(has_metrics), content_type=_JSON)

    return blueprint


@functools.cache
def _encode_document(has_metrics: bool) -> bytes:  # noqa: FBT001 - a key of the cache
    return dumps(build_document(has_metrics=has_metrics))


def build_document(*, has_metrics: bool) -> JsonObject:
    """The document. has_metrics: as above."""
    paths: dict[str, JsonObject] = {}
    for operation in _OPERATIONS:
        if operation.path != "/metrics" or has_metrics:
            paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "anthropic-proxy",
            "version": __version__,
            "summary": "The Messages API, in front of servers that speak another one",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this server"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {**_with_any_of(build_request_schemas(_REFS)), **_RESPONSE_SCHEMAS},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _describe(operation: _Operation) -> JsonObject:
    responses = {"200": {"description": "It went well", "content": _content(operation.responses)}}
    if operation.can_be_unready:
        responses["503"] = {"description": "Not now", "content": _content(operation.responses)}
    for status in operation.statuses:
        responses[str(status)] = {
            "description": TYPE_BY_STATUS[status],
            "content": _content({_JSON: _ref("Error")}),
        }
    operation_object: JsonObject = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": responses,
    }
    if operation.parameters:
        operation_object["parameters"] = list(operation.parameters)
    if operation.request_schema:
        body = {
            "schema": _ref(operation.request_schema),
            "example": _EXAMPLES[operation.request_schema],
        }
        operation_object["requestBody"] = {"required": True, "content": {_JSON: body}}
    # The empty one: a server may have no keys of its own.
    operation_object["security"] = [{"key": []}, {"token": []}, {}] if operation.needs_key else []
    return operation_object


def _content(kinds: JsonObject) -> JsonObject:
    return {kind: {"schema": schema} for kind, schema in kinds.items()}


def _with_any_of(schema: Any) -> Any:
    """The same with `anyOf` for `oneOf`: what a type's name decides, the model for all other types fits as well."""
    if isinstance(schema, dict):
        return {
            "anyOf" if name == "oneOf" else name: _with_any_of(value)
            for name, value in schema.items()
        }
    return [_with_any_of(each) for each in schema] if isinstance(schema, list) else schema

"""`GET /openapi.json`: openapi.yaml combined with the schemas of request bodies."""

import functools
from pathlib import Path
from typing import Any

import yaml
from quart import Blueprint, Response

from anthropic_proxy import __version__
from anthropic_proxy.wire.anthropic.request import build_request_schemas
from anthropic_proxy.wire.json_codec import JsonObject, dumps

PATH = "/openapi.json"

_FILE = Path(__file__).with_name("openapi.yaml")


def create_openapi_routes(*, has_metrics: bool) -> Blueprint:
    """Return the route. has_metrics: whether `/metrics` is served on the same port."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get(PATH)
    async def openapi() -> Response:
        return Response(_encode_document(has_metrics), content_type="application/json")

    return blueprint


@functools.cache
def _encode_document(has_metrics: bool) -> bytes:  # noqa: FBT001 - the cache key
    return dumps(build_document(has_metrics=has_metrics))


def build_document(*, has_metrics: bool) -> JsonObject:
    """Return the OpenAPI document. has_metrics: whether it includes `/metrics`."""
    document: JsonObject = yaml.safe_load(_FILE.read_bytes())
    document["info"]["version"] = __version__
    if not has_metrics:
        del document["paths"]["/metrics"]
    request_schemas = build_request_schemas("#/components/schemas/{model}")
    document["components"]["schemas"] |= _replace_one_of(request_schemas)
    return document


def _replace_one_of(schema: Any) -> Any:
    """Return a schema with `anyOf` in place of `oneOf`.

    `oneOf` would be wrong: the model of unknown block types also accepts all known block types.
    """
    if isinstance(schema, dict):
        replaced = {name: _replace_one_of(value) for name, value in schema.items()}
        if "oneOf" in replaced:
            replaced["anyOf"] = replaced.pop("oneOf")
        return replaced
    if isinstance(schema, list):
        return [_replace_one_of(each) for each in schema]
    return schema

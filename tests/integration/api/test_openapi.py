"""The OpenAPI document matches the routes and responses of the server."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anthropic_proxy import __version__
from anthropic_proxy.api.app import Application
from anthropic_proxy.api.openapi import build_document
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.errors import TYPE_BY_STATUS
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

REQUEST_FIELDS: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}
MODELS = answers({"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]})


@pytest.fixture(scope="module")
def proxy_and_upstream() -> Iterator[tuple[str, ScriptedUpstream]]:
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, PROXY_API_KEYS="alice=k") as proxy,
    ):
        yield proxy, upstream


@pytest.fixture(scope="module")
def document(proxy_and_upstream: tuple[str, ScriptedUpstream]) -> dict[str, Any]:
    """Return the document, which needs no key."""
    response = httpx.get(proxy_and_upstream[0] + "/openapi.json", trust_env=False)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    content: dict[str, Any] = response.json()
    return content


@pytest.mark.parametrize("port", [None, 0])
def test_the_document_lists_exactly_the_routes(port: int | None) -> None:
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL="http://up", METRICS_PORT=port)
    application = Application(settings, load_routing(settings))
    rules = {
        (re.sub(r"<[^:>]*:?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in application._apps._quart.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    } | {(path, "post") for path in application._apps._handlers}
    paths = build_document(has_metrics=port is None)["paths"]
    described = {(path, method) for path, methods in paths.items() for method in methods}
    assert described == {(path, method) for path, method in rules if not path.startswith("/v1/v1/")}


def test_the_document_is_consistent(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    schemas = document["components"]["schemas"]
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert references <= schemas.keys()
    assert {"TextBlock", "ToolUseBlock", "DocumentBlock"} < schemas.keys()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert bool(operation["security"]) == path.startswith("/v1")
            path_parameters = {
                each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"
            }
            assert path_parameters == set(re.findall(r"{(\w+)}", path))


def test_the_document_lists_all_errors(document: dict[str, Any]) -> None:
    expected = {str(status): error_type for status, error_type in TYPE_BY_STATUS.items()}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            described = {
                status: response["description"]
                for status, response in operation["responses"].items()
                if status not in ("200", "503")
            }
            assert described == (expected if path.startswith("/v1") else {})


RESPONSE_CASES: dict[str, tuple[str, str, Any, Script | None]] = {
    "name": ("get", "/", None, None),
    "ready": ("get", "/readyz", None, None),
    "metrics": ("get", "/metrics", None, None),
    "message": ("post", "/v1/messages", REQUEST_FIELDS, answers(completion())),
    "stream": (
        "post",
        "/v1/messages",
        REQUEST_FIELDS | {"stream": True},
        streams(text_chunks("a")),
    ),
    "refused": ("post", "/v1/messages", REQUEST_FIELDS | {"max_tokens": "x"}, None),
    "failed": ("post", "/v1/messages", REQUEST_FIELDS, answers({"error": {"message": "no"}}, 429)),
    "count": ("post", "/v1/messages/count_tokens", REQUEST_FIELDS, answers({}, 404)),
    "models": ("get", "/v1/models", None, MODELS),
    "model": ("get", "/v1/models/{model_id}", None, MODELS),
    "no model": ("get", "/v1/models/{model_id}", None, answers({"data": []})),
}


@pytest.mark.parametrize("case", RESPONSE_CASES)
def test_responses_match_the_document(
    proxy_and_upstream: tuple[str, ScriptedUpstream], document: dict[str, Any], case: str
) -> None:
    proxy, upstream = proxy_and_upstream
    method, path, body, script = RESPONSE_CASES[case]
    if script is not None:
        upstream.then(script)
    url = proxy + path.format(model_id="m")
    response = httpx.request(
        method, url, json=body, headers={"x-api-key": "k"}, timeout=DEADLINE, trust_env=False
    )
    upstream.forget()
    described = document["paths"][path][method]["responses"][str(response.status_code)]["content"]
    media_type = response.headers["content-type"].partition(";")[0]
    violations = _find_violations(
        response.json() if media_type == "application/json" else response.text,
        described[media_type]["schema"],
        document,
    )
    assert violations == []


def _find_violations(
    value: Any, schema: dict[str, Any], document: dict[str, Any], path: str = "$"
) -> list[str]:
    """Return the violations of a schema, for the keywords that the document uses."""
    if "$ref" in schema:
        return _find_violations(
            value,
            document["components"]["schemas"][schema["$ref"].rpartition("/")[2]],
            document,
            path,
        )
    if "anyOf" in schema:
        alternatives = [_find_violations(value, each, document, path) for each in schema["anyOf"]]
        return min(alternatives, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: {value!r}"]
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    if not isinstance(value, types[schema["type"]]) or (
        schema["type"] == "integer" and value < schema.get("minimum", value)
    ):
        return [f"{path}: {value!r} is not of type {schema['type']}"]
    if schema["type"] == "array":
        return [
            each
            for item in value
            for each in _find_violations(item, schema["items"], document, f"{path}[]")
        ]
    missing = [
        f"{path}: missing {name}" for name in schema.get("required", ()) if name not in value
    ]
    fields = schema.get("properties", {}).items()
    return missing + [
        each
        for name, field in fields
        if name in value
        for each in _find_violations(value[name], field, document, f"{path}.{name}")
    ]


def test_schema_violations_are_found() -> None:
    schema = {
        "type": "object",
        "required": ["a", "b"],
        "properties": {"a": {"type": "integer", "minimum": 0}},
    }
    assert _find_violations({"a": -1}, schema, {}) == [
        "$: missing b",
        "$.a: -1 is not of type integer",
    ]

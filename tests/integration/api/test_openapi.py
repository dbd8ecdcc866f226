"""The description of the server: of all that it answers, and as it answers."""

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

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}
MODELS = answers({"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]})


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, ScriptedUpstream]]:
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, PROXY_API_KEYS="alice=k") as proxy,
    ):
        yield proxy, upstream


@pytest.fixture(scope="module")
def document(served: tuple[str, ScriptedUpstream]) -> dict[str, Any]:
    """Without a key."""
    answer = httpx.get(served[0] + "/openapi.json", trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("port", [None, 0])
def test_all_routes_are_described_and_no_others(port: int | None) -> None:
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


def test_the_document(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    schemas = document["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert named <= schemas.keys()
    assert {"TextBlock", "ToolUseBlock", "DocumentBlock"} < schemas.keys()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert bool(operation["security"]) == path.startswith("/v1")
            placed = {
                each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"
            }
            assert placed == set(re.findall(r"{(\w+)}", path))


def test_errors_are_those_of_the_table(document: dict[str, Any]) -> None:
    expected = {str(status): error_type for status, error_type in TYPE_BY_STATUS.items()}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            described = {
                status: response["description"]
                for status, response in operation["responses"].items()
                if status not in ("200", "503")
            }
            assert described == (expected if path.startswith("/v1") else {})


ANSWERED: dict[str, tuple[str, str, Any, Script | None]] = {
    "name": ("get", "/", None, None),
    "ready": ("get", "/readyz", None, None),
    "metrics": ("get", "/metrics", None, None),
    "message": ("post", "/v1/messages", ASK, answers(completion())),
    "stream": ("post", "/v1/messages", ASK | {"stream": True}, streams(text_chunks("a"))),
    "refused": ("post", "/v1/messages", ASK | {"max_tokens": "x"}, None),
    "failed": ("post", "/v1/messages", ASK, answers({"error": {"message": "no"}}, 429)),
    "count": ("post", "/v1/messages/count_tokens", ASK, answers({}, 404)),
    "models": ("get", "/v1/models", None, MODELS),
    "model": ("get", "/v1/models/{model_id}", None, MODELS),
    "no model": ("get", "/v1/models/{model_id}", None, answers({"data": []})),
}


@pytest.mark.parametrize("case", ANSWERED)
def test_answers_are_as_described(
    served: tuple[str, ScriptedUpstream], document: dict[str, Any], case: str
) -> None:
    proxy, upstream = served
    method, path, body, script = ANSWERED[case]
    if script is not None:
        upstream.then(script)
    url = proxy + path.format(model_id="m")
    answer = httpx.request(
        method, url, json=body, headers={"x-api-key": "k"}, timeout=DEADLINE, trust_env=False
    )
    upstream.forget()
    described = document["paths"][path][method]["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    problems = _problems(
        answer.json() if kind == "application/json" else answer.text,
        described[kind]["schema"],
        document,
    )
    assert problems == []


def _problems(
    value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$"
) -> list[str]:
    """Yield the places where a value violates its schema, by the keywords that responses use."""
    if "$ref" in schema:
        return _problems(
            value,
            document["components"]["schemas"][schema["$ref"].rpartition("/")[2]],
            document,
            at,
        )
    if "anyOf" in schema:
        tried = [_problems(value, each, document, at) for each in schema["anyOf"]]
        return min(tried, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r}"]
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    if not isinstance(value, kinds[schema["type"]]) or (
        schema["type"] == "integer" and value < schema.get("minimum", value)
    ):
        return [f"{at}: {value!r} is no {schema['type']}"]
    if schema["type"] == "array":
        return [
            each for item in value for each in _problems(item, schema["items"], document, f"{at}[]")
        ]
    missing = [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
    fields = schema.get("properties", {}).items()
    return missing + [
        each
        for name, field in fields
        if name in value
        for each in _problems(value[name], field, document, f"{at}.{name}")
    ]


def test_problems_are_found() -> None:
    schema = {
        "type": "object",
        "required": ["a", "b"],
        "properties": {"a": {"type": "integer", "minimum": 0}},
    }
    assert _problems({"a": -1}, schema, {}) == ["$: no b", "$.a: -1 is no integer"]

"""Generated requests for the OpenAPI document: no internal errors, and documented responses."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from anthropic_proxy.api.openapi import build_document
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

SCHEMA: Any = schemathesis.openapi.from_dict(build_document(has_metrics=True))
# `NEGATIVE`: requests that violate the document. Generating invalid bodies is slow; see test_fuzz.
OPERATIONS = [
    *(
        (path, method, GenerationMode.POSITIVE)
        for path, methods in SCHEMA.raw_schema["paths"].items()
        for method in methods
    ),
    ("/v1/models", "get", GenerationMode.NEGATIVE),
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class _RespondingUpstream(ScriptedUpstream):
    """An upstream that responds to every request."""

    def script_for(self, received: Received) -> Script:
        if received.method == "GET":
            return answers(
                {"object": "list", "data": [{"id": "m", "object": "model", "created": 1}]}
            )
        return streams(text_chunks("a")) if received.body.get("stream") else answers(completion())


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with _RespondingUpstream() as upstream, running_proxy(upstream.url, DOWNLOADS="off") as proxy:
        yield proxy


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_generated_requests_get_documented_responses(
    proxy: str, path: str, method: str, mode: GenerationMode
) -> None:
    operation = SCHEMA[path][method.upper()]

    @settings(max_examples=6, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.call_and_validate(base_url=proxy, checks=CHECKS, timeout=DEADLINE)

    check()

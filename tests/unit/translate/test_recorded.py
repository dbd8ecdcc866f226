"""Translate raw responses of real servers, recorded on the project's own machines.

tests/cases/recorded/SERVER/CASE.response.txt is the HTTP response; expected.json holds its
translation, and the fields of the request beyond thinking. CASE.request.json is the request, for
the replay through the whole proxy.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message, to_message
from anthropic_proxy.translate.upstream_errors import to_api_error
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity, parse_failure
from anthropic_proxy.wire.json_codec import loads
from tests.support import grammar
from tests.support.cases import CASES
from tests.support.response_specs import answer_spec
from tests.support.splits import byte_by_byte, random_splits, whole
from tests.support.streams import translate_stream

RECORDED = CASES / "recorded"
EXPECTED: dict[str, Any] = json.loads((RECORDED / "expected.json").read_text())
FILES = [
    pytest.param(file, id=f"{file.parent.name}-{file.name.split('.')[0]}")
    for file in sorted(RECORDED.glob("*/*.txt"))
]
SOURCE = UpstreamIdentity("up:1")
THINKING = {"thinking": {"type": "adaptive"}}


def told(file: Path, split: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What the client would be told: an error, or content, stop reason and usage."""
    head, body = re.split(rb"\r?\n\r?\n", file.read_bytes(), maxsplit=1)
    status = int(head.split(b" ")[1])
    if status >= 300:
        error = to_api_error(parse_failure(status, {}, body, SOURCE))
        return {"status": error.status, "error": error.message}
    if b"text/event-stream" in head:
        events, failed = translate_stream(split(body), request)
        grammar.check(events)
        if failed:
            return {"status": failed.status, "error": failed.message}
        message = collect_message(events)
    else:
        message = to_message(loads(body), StreamTranslator(answer_spec(request)))
    return {name: message[name] for name in ("content", "stop_reason", "usage")}


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("file", FILES)
def test_recorded_answer(file: Path, split: Any) -> None:
    expected = EXPECTED[f"{file.parent.name}/{file.name.removesuffix('.response.txt')}"]
    request = expected.get("request", {})
    assert (
        told(file, split, THINKING | request) | ({"request": request} if request else {})
        == expected
    )


def test_each_expectation_has_its_recording() -> None:
    assert len(EXPECTED) == len(FILES)

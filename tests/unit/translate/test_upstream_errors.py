"""Upstream errors, as recorded or documented, and the errors for the client."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import MAX_SEARCHED, Redactor, Secret
from anthropic_proxy.translate.upstream_errors import (
    UpstreamFailureError,
    html_page_error,
    is_html_page,
    not_a_completion_error,
    parse_body_error,
    parse_chunk_error,
    parse_error_data,
    parse_error_event,
    parse_response_error,
    to_api_error,
    wants_tls,
)
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity, parse_failure
from anthropic_proxy.wire.json_codec import dumps
from tests.support.cases import cases, texts
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]
SOURCE = UpstreamIdentity("up:1")


@pytest.mark.parametrize("case", cases("failures"))
def test_case(case: Json) -> None:
    body = case["body"].encode()
    error = to_api_error(parse_failure(case["status"], case.get("headers", {}), body, SOURCE))
    told = {"status": error.status, "type": error.type, "message": error.message}
    assert told | ({"headers": error.headers} if error.headers else {}) == case["told"]


@pytest.mark.parametrize("case", texts("waits"))
def test_the_wait_before_a_retry(case: Json) -> None:
    """Clients wait for up to a minute. They report an error with a longer wait at once."""
    body, seconds = dumps(case["body"]), case["seconds"]
    status = case.get("status", 429)
    error = to_api_error(parse_failure(status, case.get("headers", {}), body, SOURCE))
    waits = {} if seconds is None else {"retry-after": str(seconds)}
    if seconds and seconds > 60:
        waits["x-should-retry"] = "false"
    assert error.status == (429 if status in (413, 429) else 529)
    assert error.headers == waits


def _to_error(case: Json) -> UpstreamFailureError:
    body = case["body"]
    data = body.encode() if isinstance(body, str) else dumps(body)
    failure = parse_failure(case["status"], case.get("headers", {}), data, SOURCE)
    return to_api_error(replace(failure, has_image=case.get("has_image")))


@pytest.mark.parametrize("case", texts("meanings"))
def test_the_meaning_of_an_error(case: Json) -> None:
    """The words decide: the client's status, whether a retry, key or target may succeed."""
    error = _to_error(case)
    may_retry = error.headers.get("x-should-retry") != "false"
    assert (error.status, error.concerns_target, error.concerns_key, may_retry) == (
        case["client_status"],
        case["concerns_target"],
        case["concerns_key"],
        case["may_retry"],
    )
    prefix = case.get("prefix", "")
    assert error.message.startswith(prefix)
    assert prefix or not error.message.startswith("Could not process image")


def test_a_chunk_without_an_error_is_none() -> None:
    assert parse_chunk_error({"choices": [], "error": None}, SOURCE) is None


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ({"message": "a", "code": 429}, 429, "a"),
        ({"message": "a", "code": "503"}, 529, "a"),
        ({"message": "a", "code": 200, "type": "BadRequestError"}, 400, "a"),
        ({"message": "a", "type": "invalid_request_error"}, 400, "a"),
        ({"message": "a"}, 500, "a"),
        ({"code": 1}, 500, "The upstream up:1 aborted the response without an error message"),
    ],
)
def test_an_error_in_a_stream(error: Json, status: int, message: str) -> None:
    parsed = parse_chunk_error({"error": error}, SOURCE)
    assert parsed is not None
    assert (parsed.status, parsed.message) == (status, message)


@pytest.mark.parametrize("case", texts("errors_in_responses"))
def test_an_error_in_a_response(case: Json) -> None:
    for parsed in (
        parse_chunk_error(case["payload"], SOURCE),
        parse_response_error(case["payload"], SOURCE),
        parse_error_data(dumps(case["payload"]), SOURCE),
    ):
        assert parsed is not None
        assert (parsed.status, parsed.message) == (case["status"], case["message"])


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [], "prompt_filter_results": [{}]},
        {"choices": [{"delta": {}}], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": [{"delta": {}}], "message": "a note", "detail": "another"},
        {"type": "ping"},
        {"type": "status", "message": "waiting"},
        {"code": 200, "msg": "ok", "data": {}},
        {"success": True, "message": "ok"},
        {"code": 0, "msg": "success"},
        {"object": "chat.completion.chunk", "message": "queued"},
        {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False},
        {"message": "", "detail": None},
        {"errors": [], "base_resp": "odd"},
        {},
    ],
)
def test_an_object_that_reports_no_error(chunk: Json) -> None:
    assert parse_chunk_error(chunk, SOURCE) is None
    assert parse_response_error(chunk, SOURCE) is None
    assert parse_error_data(dumps(chunk), SOURCE) is None


@pytest.mark.parametrize(
    "notice",
    [
        {"status": "queued", "message": "waiting"},
        {"event": "workflow_started", "message": "hi"},
        {"choices": [], "type": "queue", "message": "position 3"},
        {"message": "waiting"},
        {"code": 1, "msg": "position 3"},
        {"code": True, "msg": "waiting"},
        {"code": "x" * 1000 + "error", "msg": "waiting"},
        {"code": "9" * 10_000, "msg": "waiting"},
        {"status": 102, "message": "processing"},
    ],
)
def test_a_text_is_an_error_only_as_a_complete_response(notice: Json) -> None:
    assert parse_chunk_error(notice, SOURCE) is None
    text = notice.get("message", notice.get("msg"))
    for error in (
        parse_response_error(notice, SOURCE),
        parse_error_data(dumps(notice), SOURCE),
        parse_error_event(dumps(notice), SOURCE),
    ):
        assert error is not None
        assert error.message == text


@pytest.mark.parametrize(
    "payload",
    [
        {"code": 0, "msg": "died"},
        {"message": "died", "success": True},
        {"type": "status", "message": "died"},
    ],
)
def test_an_event_that_is_named_error_is_one(payload: Json) -> None:
    assert parse_error_event(dumps(payload), SOURCE).message == "died"


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"Too many requests", 429, "Too many requests"),
        (b"upstream connect error or disconnect/reset before headers", 529, None),
        (b"Internal Server Error", 500, "Internal Server Error"),
        (b'"died"', 500, "died"),
        (b'[{"error": {"code": 429, "message": "slow"}}]', 429, "slow"),
        (b"prompt is too long: 9 tokens > 8 maximum", 400, None),
    ],
)
def test_a_body_that_is_no_json_object(data: bytes, status: int, message: str | None) -> None:
    error = parse_body_error(data, SOURCE)
    assert (error.status, error.message) == (status, message or data.decode())


@pytest.mark.parametrize(
    "data", [b"", b" ", b"<html>Welcome</html>", b"null", b"[]", b"[1]", b"{}"]
)
def test_a_body_without_words(data: bytes) -> None:
    assert parse_body_error(data, SOURCE).message.endswith("that is not a chat completion")


KEY = "sk-secret-0123456789"
WITH_KEY = UpstreamIdentity("up:1", Redactor([Secret(KEY)]))


def test_the_key_goes_before_the_text_is_cut() -> None:
    """Else the beginning of a key at the cut would stay."""
    text = "x" * 1995 + KEY
    assert (
        to_api_error(parse_failure(400, {}, text.encode(), WITH_KEY)).message == "x" * 1995 + "***"
    )
    assert (
        "sk-"
        not in to_api_error(parse_failure(400, {}, ("x" * 2 + text).encode(), WITH_KEY)).message
    )


@pytest.mark.parametrize("before", range(MAX_SEARCHED - len(KEY) - 2, MAX_SEARCHED + 3))
def test_a_key_at_the_end_of_what_is_searched(before: int) -> None:
    """Redaction may shorten the text so much that its end is shown."""
    text = (KEY + " ") * (before // (len(KEY) + 1))
    text += "-" * (before - len(text)) + KEY + "-" * 100
    message = to_api_error(parse_failure(400, {}, text.encode(), WITH_KEY)).message
    assert message.startswith("*** ***")
    assert "sk" not in message


def test_a_very_long_text_is_cut() -> None:
    assert len(to_api_error(parse_failure(400, {}, b"x" * 100_000, SOURCE)).message) == 2000


@pytest.mark.parametrize(
    "piece",
    [
        "input token count ",
        "image_url",
        "tools",
        "maximum context length ",
        "9",
        "context size (",
        "{" * 3,
        "one of '",
    ],
)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        body = (piece * (size // len(piece))).encode()
        return lambda: to_api_error(parse_failure(400, {}, body, WITH_KEY))

    assert_linear_cpu(prepare, 4000)


@pytest.mark.parametrize("digits", [15, 16, 5000])
def test_a_number_of_any_length_is_read(digits: int) -> None:
    """Python's `int` refuses thousands of digits."""
    text = f"maximum context length is 8 tokens, your request has {'9' * digits} input tokens"
    error = to_api_error(parse_failure(400, {}, text.encode(), SOURCE))
    assert error.message.startswith(
        "prompt is too long: " + (f"{'9' * 15} tokens > 8" if digits == 15 else "maximum")
    )


_HAS_NO_PATH = (
    r"The upstream up:1 has no /v1/chat/completions under http://up:1 \(404(: .*)?\): "
    r"check UPSTREAM_BASE_URL"
)
_HAS_NO_PATH_EITHER = (
    r"The upstream private-1 has no /chat/completions \(404(: .*)?\): check UPSTREAM_BASE_URL"
)


@pytest.mark.parametrize(
    ("body", "is_path"),
    [
        (b"<html><h1>404 Not Found</h1></html>", True),
        (b"", True),
        (b"{}", True),
        (b"404 page not found", True),
        (b"Not Found", True),
        (b'{"detail": "Not Found"}', True),
        (b'{"timestamp": 1, "status": 404, "error": "Not Found", "path": "/x"}', True),
        (b'{"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}', True),
        (b'{"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)"}}', True),
        (b"Cannot POST /chat/completions", True),
        (b'{"error": {"message": "model \'x\' not found", "type": "api_error"}}', False),
        (b'{"error": "model x not found, try pulling it first"}', False),
        (
            b'{"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}',
            False,
        ),
        (b"no such model", False),
    ],
)
def test_a_missing_path_is_no_missing_model(body: bytes, *, is_path: bool) -> None:
    """Claude Code shows a 404 as a model that does not exist, and hides its text."""
    error = to_api_error(
        parse_failure(
            404, {}, body, UpstreamIdentity("up:1", base_url="http://up:1/v1"), "/chat/completions"
        )
    )
    assert (error.status == 500, bool(re.fullmatch(_HAS_NO_PATH, error.message))) == (
        is_path,
        is_path,
    )
    assert error.headers == ({"x-should-retry": "false"} if is_path else {})
    hidden = to_api_error(
        parse_failure(404, {}, body, UpstreamIdentity("private-1"), "/chat/completions")
    )
    assert not is_path or re.fullmatch(_HAS_NO_PATH_EITHER, hidden.message)
    # Other paths, such as the list of models, may be missing.
    assert to_api_error(parse_failure(404, {}, body, UpstreamIdentity("up:1"))).status == 404


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_key_that_is_not_set(status: int) -> None:
    body = b'{"error": {"message": "Invalid API key"}}'
    error = to_api_error(parse_failure(status, {}, body, UpstreamIdentity("up:1", has_key=False)))
    reason = f"refused the request ({status}), and no UPSTREAM_API_KEY is set: Invalid API key"
    assert (error.status, error.message) == (500, f"The upstream up:1 {reason}")


@pytest.mark.parametrize(
    "text", ["not found " * 9999, " " * 99_999 + "x", "404 " * 9999, "cannot get /" * 9999]
)
def test_a_hostile_404(text: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        return lambda: to_api_error(parse_failure(404, {}, text[:size].encode(), SOURCE, "/x"))

    assert_linear_cpu(prepare, 4000)


@pytest.mark.parametrize(
    ("status", "body", "is_tls"),
    [
        (
            400,
            b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
            True,
        ),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", True),
        (400, b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.</p>", True),
        (400, b"<html>no</html>", False),
        (500, b"Client sent an HTTP request to an HTTPS server.\n", False),
    ],
)
def test_a_port_that_takes_tls_only(status: int, body: bytes, *, is_tls: bool) -> None:
    error = to_api_error(parse_failure(status, {}, body, SOURCE))
    assert ("UPSTREAM_BASE_URL has to begin with https://" in error.message) is is_tls


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/html", True),
        ("Text/HTML; charset=utf-8", True),
        ("application/xhtml+xml", True),
        ("text/htmlx", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_pages(kind: str, *, expected: bool) -> None:
    assert is_html_page({"content-type": kind}) is expected


@pytest.mark.parametrize(
    ("content_type", "is_page"),
    [
        ("text/html", True),
        (" Text/HTML; charset=utf-8", True),
        ("application/xhtml+xml", True),
        ("text/htmlx", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_html_pages(content_type: str, is_page: bool) -> None:
    assert is_html_page({"content-type": content_type}) is is_page
    assert not is_html_page({})


@pytest.mark.parametrize(
    ("body", "is_tls"),
    [
        (b"<title>400 The plain HTTP request was sent to HTTPS port</title>", True),
        (b"Client sent an HTTP request to an HTTPS server.", True),
        (b"You're speaking plain HTTP to an SSL-enabled server port.", True),
        (b"\xff HTTP request to HTTPS port", True),
        (b" " * 4096 + b"HTTP request to HTTPS port", False),
        (b"HTTPS", False),
    ],
)
def test_a_port_for_tls(body: bytes, is_tls: bool) -> None:
    assert wants_tls(body) is is_tls


@pytest.mark.parametrize("build", [html_page_error, not_a_completion_error])
def test_a_200_that_is_no_completion(build: Callable[[UpstreamIdentity], ApiError]) -> None:
    error = build(SOURCE)
    assert error.status == 500
    assert error.message.startswith("The upstream up:1 returned ")
    assert ("x-should-retry" in error.headers) == (build is html_page_error)


def test_the_callers_own_key_is_removed_too() -> None:
    upstream = replace(WITH_KEY, caller_api_key="sk-caller-0123456789")
    for redact in (upstream.redact, upstream.redact_beginning):
        assert redact(f"{KEY} sk-caller-0123456789 x") == "*** *** x"
        assert WITH_KEY.redact("sk-caller-0123456789") == "sk-caller-0123456789"


@pytest.mark.parametrize(("status", "seen"), [(401, 401), (403, 403), (400, 401)])
def test_a_refused_key_of_the_caller_is_the_callers_matter(status: int, seen: int) -> None:
    upstream = replace(SOURCE, caller_api_key="sk-caller-0123456789")
    body = b'{"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}'
    assert to_api_error(parse_failure(status, {}, body, upstream)).status == seen

"""Log levels and formats, and the redaction of keys and images."""

import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from unittest import mock

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_proxy.errors.redaction import Secret
from anthropic_proxy.observability.logs import Log, LogFormat, _TolerantStream, configure_logging

_IMAGE = base64.b64encode(bytes(range(256)) * 20).decode()
_KEYS = st.from_regex(r"sk-[A-Za-z0-9]{13,40}", fullmatch=True) | st.from_regex(
    r"[a-z0-9]{16,40}", fullmatch=True
)
_TEXTS = st.text() | st.sampled_from([_IMAGE, "A" * 199, "A" * 300 + "==", "***"])


@pytest.fixture(autouse=True)
def default_configuration() -> Iterator[None]:
    """Reset logging, because the next test must not write to the captured stream of this test."""
    before = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers, logging.root.level = before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("nothing to hide", "nothing to hide", id="plain"),
        pytest.param("a sk-12345 b sk-12345", "a *** b ***", id="key-twice"),
        pytest.param("Bearer sk-12345", "Bearer ***", id="header"),
        pytest.param("A" * 199, "A" * 199, id="short-data"),
        pytest.param("A" * 200, "A" * 24 + "...[200 base64 characters]", id="long-data"),
        pytest.param("A" * 300 + "==", "A" * 24 + "...[302 base64 characters]", id="padded-data"),
        pytest.param(
            '{"a":"' + "A" * 200 + '","b":1}',
            '{"a":"' + "A" * 24 + '...[200 base64 characters]","b":1}',
            id="in-json",
        ),
        pytest.param(
            f"data:image/png;base64,{_IMAGE}",
            f"data:image/png;base64,{_IMAGE[:24]}...[6828 base64 characters]",
            id="url",
        ),
        pytest.param("word " * 100, "word " * 100, id="long-text"),
    ],
)
def test_keys_and_long_data_are_redacted(text: str, expected: str) -> None:
    assert Log(secrets=[Secret("sk-12345")]).redact(text) == expected


@pytest.mark.parametrize(
    "secrets", [[], [Secret("")], [Secret(" ")]], ids=["none", "empty", "blank"]
)
def test_without_a_key_only_data_is_shortened(secrets: list[Secret]) -> None:
    assert (
        Log(secrets=secrets).redact("a*b " + "A" * 200)
        == "a*b " + "A" * 24 + "...[200 base64 characters]"
    )


@given(st.lists(_TEXTS), _KEYS)
@settings(deadline=None)
def test_no_redacted_text_contains_the_key(texts: list[str], secret: str) -> None:
    logged = Log(secrets=[Secret(secret)]).redact(secret.join(["", *texts, ""]))
    assert secret not in logged
    assert not re.search(r"[A-Za-z0-9+/]{200}", logged)


@pytest.mark.parametrize(
    ("debug", "verbose", "events"),
    [
        pytest.param(False, False, ["started", "broken"], id="quiet"),
        pytest.param(
            True, False, ["started", "summary", "request feature ignored", "broken"], id="debug"
        ),
        pytest.param(
            True,
            True,
            ["started", "summary", "came in", "request feature ignored", "broken"],
            id="verbose",
        ),
    ],
)
def test_events_depend_on_the_log_level(
    capsys: pytest.CaptureFixture[str],
    debug: bool,
    verbose: bool,
    events: list[str],
) -> None:
    configure_logging(debug=debug, log_format="console")
    log = Log(verbose=verbose)
    log.info("started")
    log.debug("summary", messages=1)
    log.log_body("came in", "req_1", b"{}")
    log.log_ignored({"field x"})
    log.error("broken")
    captured = capsys.readouterr()
    assert re.findall(r"\] (.+?) *(?: \w+=.*)?$", captured.err, re.MULTILINE) == events
    assert captured.out == ""


def test_every_log_method_redacts_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=True, log_format="console")
    log = Log(verbose=True, secrets=[Secret("canary-key")])
    log.info("a", text="1 canary-key", number=1)
    log.debug("b", text="2 canary-key")
    log.error("c", text="3 canary-key")
    log.log_body("d", "req_1", b'{"key":"canary-key","data":"' + _IMAGE.encode() + b'"}')
    text = capsys.readouterr().err
    assert text.count("***") == 4
    assert "canary" not in text
    assert _IMAGE[:200] not in text


def test_a_body_that_is_not_utf_8_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=True, log_format="console")
    Log(verbose=True).log_body("came in", "req_1", b"a\xff\xfeb")
    assert "a\ufffd\ufffdb" in capsys.readouterr().err


def test_tracebacks_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=False, log_format="console")
    try:
        int("x")
    except ValueError:
        Log().error("broken", exc_info=True)
    text = capsys.readouterr().err
    assert "Traceback (most recent call last)" in text
    assert text.rstrip().endswith("ValueError: invalid literal for int() with base 10: 'x'")


def test_json_is_the_default_format(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is one line, including tracebacks and events of libraries.

    JSON is the default for output that is not a terminal.
    """
    configure_logging(debug=False)
    log = Log(secrets=[Secret("canary-key")])
    log.add_secrets([Secret("canary-other")])
    try:
        int("canary-key canary-other")
    except ValueError as error:
        log.error("broken", exc_info=error, number=1, nothing=None)  # noqa: TRY400 - our own log
    logging.getLogger("some.library").warning("look\nout %s", "here")
    logging.getLogger("some.library").info("not this")
    broken, warned = map(json.loads, capsys.readouterr().err.splitlines())
    assert (broken["event"], broken["level"], broken["number"], broken["nothing"]) == (
        "broken",
        "error",
        1,
        None,
    )
    assert broken["exception"].startswith("Traceback (most recent call last)")
    assert broken["exception"].endswith(
        "ValueError: invalid literal for int() with base 10: '*** ***'"
    )
    assert (warned["event"], warned["level"]) == ("look\nout here", "warning")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", warned["timestamp"])


def test_lines_contain_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=False, log_format="console")
    Log().info("started", address="http://localhost:1")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \[info     \] started +address=http://localhost:1\n",
        capsys.readouterr().err,
    )


def test_ignored_features_are_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=True, log_format="console")
    log = Log()
    log.log_ignored({"field b", "field a"})
    log.log_ignored({"field c", "field a"})
    assert re.findall(r"kind='(.*)'", capsys.readouterr().err) == ["field a", "field b", "field c"]


def test_the_number_of_remembered_features_is_limited(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(debug=True, log_format="console")
    log = Log()
    log.log_ignored({f"field {number}" for number in range(1500)})
    log.log_ignored({"field x"})
    assert len(capsys.readouterr().err.splitlines()) == 1000


def test_pypdf_errors_are_not_logged() -> None:
    configure_logging(debug=True, log_format="console")
    assert not logging.getLogger("pypdf").isEnabledFor(logging.ERROR)


def test_a_broken_pipe_is_ignored() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    stream = _TolerantStream(Gone())
    assert stream.write("line") == 4
    stream.flush()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_is_one_write(log_format: LogFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of several processes that share a stream must not mix."""
    stream = mock.Mock(isatty=lambda: False)
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(debug=False, log_format=log_format)
    Log().info("one", a=1)
    Log().info("two")
    assert [call.args[0][-1:] for call in stream.write.call_args_list] == ["\n", "\n"]

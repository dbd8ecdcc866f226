"""No secret is disclosed: canaries are planted wherever a secret can be, and must stay there."""

import base64
import contextlib
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlencode

import httpx
import pytest

from anthropic_proxy.config.settings import load_settings
from anthropic_proxy.errors import ConfigError
from tests.support.otlp_receiver import Receiver
from tests.support.running_command import REQUEST, Command, Running, until
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

# By its form not a loopback address, but a private one; connections to it reach this machine.
HOST = "0.0.0.0"  # noqa: S104 - see above
CLIENT_KEY = "canary-client-key-of-alice"
SECRETS = {
    "UPSTREAM_API_KEY": "canary-upstream-key-1",
    "PROXY_API_KEYS": f"alice={CLIENT_KEY}",
    "SIGNATURE_SECRET": "canary-signature-secret-with-enough-letters",
    "UPSTREAM_HEADERS": '{"x-gateway-token": "canary-header-value"}',
    "RATE_LIMIT_STORAGE_URL": "sqlite:///canary-storage.db",
}
# What a careless upstream could say.
TALKATIVE = (
    "key canary-upstream-key-1 and token canary-header-value, "
    "sent to http://{address}/canary-path/v1 with token=canary-query-value"
)
FORMS = ("console", "json")


def _faults(address: str) -> list[tuple[Script, dict[str, Any]]]:
    said = TALKATIVE.format(address=address)
    failed = {"error": {"message": said, "type": "server_error"}}
    stream = {"stream": True}
    return [
        (answers(completion("fine")), {}),
        (streams(text_chunks("fi", "ne")), stream),
        *(
            (answers(failed, status, {"x-internal": said}), asked)
            for status in (400, 401, 403, 404, 429, 500, 503)
            for asked in ({}, stream)
        ),
        (answers(f"<html><h1>502</h1>{said}</html>", 502, {"content-type": "text/html"}), {}),
        (answers("", 302, {"location": f"http://{address}/canary-path/v2"}), {}),
        (answers("no JSON"), {}),
        (streams([failed]), stream),
        (streams([*text_chunks("fi")[:1], failed]), stream),
        (streams(text_chunks("fi")[:1], done=False), stream),
        (streams([], done=False), stream),
    ]


@pytest.fixture(scope="module", params=FORMS)
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], str, str]:
    """All answers, with their heads; all that was logged; and the upstream's address."""
    command = Command(tmp_path_factory.mktemp("secrets"))
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        address = upstream.url.removeprefix("http://").replace("127.0.0.1", HOST).rstrip("/")
        url = f"http://{address}/canary-path/v1?token=canary-query-value"
        variables = SECRETS | {
            "UPSTREAM_BASE_URL": url,
            "LOG_FORMAT": request.param,
            "HOST": "127.0.0.1",
        }
        (command.home / ".env").write_text(
            "".join(f"{name}={value}\n" for name, value in variables.items())
        )
        with command.serving("--verbose") as server:
            answered = [*_asked(server, upstream, address)]
            _reload(server, command)
            stack.close()
            answered += [_post(server, {}), _post(server, {"stream": True})]
            return answered, server.end()[1], address


def _asked(server: Running, upstream: ScriptedUpstream, address: str) -> Iterator[str]:
    for script, asked in _faults(address):
        upstream.then(script)
        yield _post(server, asked)
    for path in (
        "/",
        "/health",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/models?debug=true",
        "/v1/models/none",
        "/none",
    ):
        upstream.then(*[answers({"data": [{"id": "m"}]})] * path.startswith("/v1"))
        yield _text(
            httpx.get(
                server.address + path,
                headers={"x-api-key": CLIENT_KEY},
                trust_env=False,
                timeout=DEADLINE,
            )
        )
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        for key in (CLIENT_KEY, "wrong", ""):
            for body in (REQUEST, {"model": "m"}):
                upstream.then(answers(completion("fine")))
                headers = {"x-api-key": key}
                yield _text(
                    httpx.post(
                        server.address + path,
                        json=body,
                        headers=headers,
                        trust_env=False,
                        timeout=DEADLINE,
                    )
                )


def _post(server: Running, asked: dict[str, Any]) -> str:
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    url = f"{server.address}/v1/messages"
    return _text(
        httpx.post(url, json=REQUEST | asked, headers=headers, trust_env=False, timeout=DEADLINE)
    )


def _text(answer: httpx.Response) -> str:
    return f"{answer.status_code}\n{answer.headers}\n{answer.text}"


def _reload(server: Running, command: Command) -> None:
    """Configurations that are refused, each for something secret that is wrong."""
    env = command.home / ".env"
    good = env.read_text()
    wrong = (
        ("UPSTREAM_BASE_URL", "http://user:canary-password@\N{SNOWMAN}"),
        ("PROXY_API_KEYS", "alice=canary-client-key-of-alice;alice=canary-other"),
        ("UPSTREAM_HEADERS", '{"x": "canary'),
        ("RATE_LIMIT_STORAGE_URL", "nosql://canary-password@host"),
    )
    for number, (name, value) in enumerate(wrong, 1):
        env.write_text(re.sub(f"(?m)^{name}=.*$", f"{name}={value}", good))
        server.process.send_signal(signal.SIGHUP)
        until(
            # The function runs at once.
            lambda: server.log.read_text().count("config reload failed") >= number,  # noqa: B023
            f"{name} is refused",
        )
    env.write_text(good)


def test_answers(told: tuple[list[str], str, str]) -> None:
    answered, _, address = told
    assert len(answered) > 40
    assert [each for each in answered if "canary" in each or address in each] == []
    assert any("private-1" in each for each in answered)
    statuses = {each.partition("\n")[0] for each in answered}
    assert {"200", "400", "401", "404", "429", "500"} <= statuses


def test_the_log(told: tuple[list[str], str, str]) -> None:
    """The operator is told where the upstream is, once, and nobody its secrets."""
    _, log, address = told
    lines = [line for line in log.splitlines() if "canary" in line or address in line]
    named = [
        line for line in lines if "private-1" in line and f"http://{address}/canary-path/v1" in line
    ]
    assert len(named) >= 1
    secret = re.compile(r"canary-(?!path)")
    assert [line for line in log.splitlines() if secret.search(line)] == []
    assert log.count("config reload failed") == 4


# Each place in which an upstream's secret can be given, with the secret in it.
QUERY = {
    "sig": "canary-sig/+",
    "code": "canary-code",
    "pwd": "canary pwd",
    "jwt": "canary.jwt.0123456789",
    "x": "canary-x",
}
HEADERS = {
    "X-Sig": "canary-header-sig",
    "X-Pass": 'canary-"pass',
    "Ocp-Apim-Subscription": "canary-subscription",
    "Cookie": "a=b; session=canary-session",
    "Proxy-Authorization": "Basic " + base64.b64encode(b"me:canary-basic").decode(),
}
PLACES = {
    **{f"query {name}": value for name, value in QUERY.items()},
    **{f"header {name}": value for name, value in HEADERS.items()},
    "key": "canary-upstream-key-1",
    "login": "me:canary-basic",
    "password": "canary-basic",
    "encoded login": base64.b64encode(b"me:canary-basic").decode(),
    "session": "canary-session",
    "body": "canary-body-key",
}
# Each way in which an upstream can repeat it.
ECHOES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent-encoded": quote,
    "form-encoded": quote_plus,
    "quoted": json.dumps,
    "quoted twice": lambda text: json.dumps(json.dumps(text)),
    "header": lambda text: f"Authorization:Bearer {text},",
    "parameter": lambda text: f"http://a.example/?x={quote_plus(text)}&y",
    "joined": lambda text: f"\n{text}\t",
}
APIS = ("chat_completions", "responses", "messages")


def _error(api: str, message: str) -> dict[str, Any]:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    return (
        error
        if api == "messages"
        else {"error": {"message": message, "type": "server_error", "code": message}}
    )


def _event(error: dict[str, Any]) -> bytes:
    return b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"


def _begun(api: str) -> list[Any]:
    if api == "messages":
        start = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}
        block = {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        return [b"event: message_start\n", start, b"event: content_block_start\n", block]
    if api == "responses":
        return [
            {"type": "response.output_text.delta", "item_id": "a", "output_index": 0, "delta": "fi"}
        ]
    return text_chunks("fi")[:1]


def _echoing(api: str, message: str) -> Iterator[tuple[Script, dict[str, Any]]]:
    """Answers that repeat a message, each with the fields of the request for it."""
    failed = _error(api, message)
    head = {
        "x-internal": quote(message),
        "request-id": quote(message),
        "retry-after": quote(message),
    }
    for status in (400, 401, 429, 500):
        yield answers(failed, status, head), {}
    yield answers(failed), {}
    yield answers(message.encode(), 500, {"content-type": "text/plain"}), {}
    yield answers(failed, 400), {"stream": True}
    event = _event(failed) if api == "messages" else failed
    yield streams([event], done=False), {"stream": True}
    yield streams([*_begun(api), event], done=False), {"stream": True}
    if isinstance(event, bytes):
        yield streams([*_begun(api), event.rstrip(b"\n")], done=False), {"stream": True}


@pytest.fixture(
    scope="module", params=[(form, api) for api in APIS for form in FORMS], ids="-".join
)
def echoed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], str, bytes]:
    """All answers, with their heads; all that was logged; and all spans."""
    form, api = request.param
    command = Command(tmp_path_factory.mktemp("echoed"))
    answered = []
    with Receiver() as receiver, ScriptedUpstream() as upstream:
        collector = receiver.url.replace("http://", "http://me:canary-collector-password@")
        variables = {
            "UPSTREAM_BASE_URL": f"{upstream.url}/v1?{urlencode(QUERY)}",
            "UPSTREAM_API": api,
            "UPSTREAM_API_KEY": PLACES["key"],
            "UPSTREAM_HEADERS": json.dumps(HEADERS),
            "UPSTREAM_EXTRA_BODY": json.dumps({"api_key": PLACES["body"]}),
            "PROXY_API_KEYS": f"alice={CLIENT_KEY};bob=canary.k",
            "LOG_FORMAT": form,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=canary-collector-header",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with command.serving("--verbose", **variables) as server:
            for echo in ECHOES.values():
                for script, fields in _echoing(api, " ".join(map(echo, PLACES.values()))):
                    upstream.then(script)
                    answered.append(_post(server, fields))
            answered += _asked_with_keys(server)
            answered.append(
                _text(httpx.get(f"{server.address}/metrics", trust_env=False, timeout=DEADLINE))
            )
            log = server.end()[1]
        return answered, log, receiver.raw


def _asked_with_keys(server: Running) -> Iterator[str]:
    """Requests that hold keys of clients where none belongs."""
    for key in (CLIENT_KEY, "canary.k"):
        for sent in ({"x-api-key": CLIENT_KEY}, {"authorization": f"Bearer {key}"}, {}):
            for method, path in (
                ("GET", f"/nope/{key}"),
                ("GET", f"/v1/models?key={key}"),
                ("GET", f"/v1/models/{key}/x"),
            ):
                answer = httpx.request(
                    method,
                    server.address + path,
                    headers={"x-request-id": key, **sent},
                    trust_env=False,
                    timeout=DEADLINE,
                )
                # The API's error says which model there is none of.
                yield _text(answer).replace(f"model: {key}/x", "")
            body = REQUEST | {"model": key, "max_tokens": -1}
            answer = httpx.post(
                f"{server.address}/v1/messages",
                json=body,
                headers={"x-request-id": key, **sent},
                trust_env=False,
            )
            yield _text(answer)
        answer = httpx.request(
            "CANARY",
            f"{server.address}/v1/messages",
            headers={"x-api-key": key},
            trust_env=False,
            timeout=DEADLINE,
        )
        yield _text(answer)


def test_no_secret_is_repeated(echoed: tuple[list[str], str, bytes]) -> None:
    answered, log, spans = echoed
    assert len(answered) > len(ECHOES) * 9
    assert [each for each in answered if "canary" in each.lower()] == []
    assert sum("***" in each for each in answered) > len(ECHOES) * 6
    encoded = base64.b64encode(b"me:canary-basic").decode().rstrip("=")
    assert [line for line in log.splitlines() if "canary" in line.lower() or encoded in line] == []
    assert spans.count(b"url.path") > len(ECHOES) * 9
    assert b"canary" not in spans.lower()
    assert not any(encoded in each for each in answered)


@pytest.mark.parametrize("key", ["k", "none", "ollama", "tokens", "max"])
def test_short_keys_leave_words_intact(key: str) -> None:
    refused = {
        "error": {
            "message": "Unsupported parameter: 'max_tokens' is not supported, "
            "use none of 'max_completion_tokens'"
        }
    }
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, UPSTREAM_API_KEY=key) as proxy:
        upstream.then(answers(refused, 400), answers(completion("fine")))
        url = f"{proxy}/v1/messages"
        assert httpx.post(url, json=REQUEST, trust_env=False, timeout=DEADLINE).status_code == 200
        sent = [upstream.request().body, upstream.request().body]
        assert ["max_completion_tokens" in each for each in sent] == [False, True]
        message = f"bad max tokens: kind none, ollama; api_key={key}"
        upstream.then(answers({"error": {"message": message}}, 400))
        told = httpx.post(url, json=REQUEST, trust_env=False, timeout=DEADLINE).json()["error"][
            "message"
        ]
    assert told == message.removesuffix(key) + "***"


def test_refusals_are_learned_from_the_original_text() -> None:
    """A key may be a word that a rule looks for."""
    refused = {
        "error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model"}
    }
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, UPSTREAM_API_KEY="max_tokens") as proxy,
    ):
        upstream.then(answers(refused, 400), answers(completion("fine")))
        url = f"{proxy}/v1/messages"
        assert httpx.post(url, json=REQUEST, trust_env=False, timeout=DEADLINE).status_code == 200


PASSWORDS = (
    "canary/canary",
    "canary#canary",
    "canary?canary",
    "canary/canary@canary",
    "canary[canary]",
    "canary/canary%zz",
)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("RATE_LIMIT_STORAGE_URL", "redis://:{}@127.0.0.1:1/0"),
        ("RATE_LIMIT_STORAGE_URL", "rediss://me:{}@127.0.0.1/0"),
        ("UPSTREAM_BASE_URL", "http://me:{}@127.0.0.1:1/v1"),
        ("UPSTREAM_BASE_URL", "{}"),
        ("UPSTREAM_BASE_URL", "sk.{}:1/v1"),
    ],
)
def test_passwords_that_break_a_url(
    password: str, variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://127.0.0.1")
    monkeypatch.setenv(variable, url.format(password))
    with pytest.raises(ConfigError) as caught:
        load_settings(None)
    assert "canary" not in str(caught.value)
    assert variable in str(caught.value)
    hint = (
        "percent-encode|write %"
        if variable == "RATE_LIMIT_STORAGE_URL"
        else "user or password|must start with|must name|parsed"
    )
    assert re.search(hint, str(caught.value))


@pytest.mark.parametrize("password", ["p@canary", "p:canary", "p%20canary", "p canary"])
def test_passwords_that_redis_can_read(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://127.0.0.1")
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URL", f"redis://:{password}@127.0.0.1:1/0")
    settings = load_settings(None)
    assert {password, unquote(password)} <= {each.value for each in settings.secrets}


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_collector_whose_password_breaks_the_url(password: str, tmp_path: Path) -> None:
    command = Command(tmp_path)
    collector = f"http://me:{password}@127.0.0.1:1"
    variables = {
        "UPSTREAM_BASE_URL": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
    with command.serving(**variables) as server:
        httpx.get(f"{server.address}/none", trust_env=False, timeout=DEADLINE)
        log = server.end()[1]
    assert "percent-encode" in log
    assert "canary" not in log


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_an_http_proxy_whose_password_breaks_the_url(
    password: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://127.0.0.1")
    monkeypatch.setenv(variable, f"http://me:{password}@127.0.0.1:1")
    with pytest.raises(
        ConfigError, match=f"invalid {variable}: .*can't be parsed as a URL: percent-encode"
    ) as caught:
        load_settings(None)
    assert "canary" not in str(caught.value)


def test_the_login_of_an_http_proxy(tmp_path: Path) -> None:
    command, proxy = Command(tmp_path), "http://me:canary-password@127.0.0.1:1"
    with command.serving(
        "--verbose", UPSTREAM_BASE_URL="http://a.example", http_proxy=proxy
    ) as server:
        answer = httpx.post(
            f"{server.address}/v1/messages", json=REQUEST, trust_env=False, timeout=DEADLINE
        )
        log = server.end()[1]
    assert answer.status_code >= 500
    assert "canary" not in answer.text + log


def test_the_files(tmp_path: Path) -> None:
    """The key of a client is in no file that is made for it."""
    command = Command(tmp_path)
    made = command.run("keys", "create", "alice", "--file", "keys.json").stdout.strip()
    assert made not in (tmp_path / "keys.json").read_text()
    assert json.loads((tmp_path / "keys.json").read_text())["keys"][0]["name"] == "alice"
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600

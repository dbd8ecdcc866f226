"""Nothing that is secret is told to anyone: canaries are planted wherever a secret can be, and looked for elsewhere."""

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running_command import REQUEST, Command, Running, until
from tests.scripted_upstream import DEADLINE, Script, ScriptedUpstream, answers, completion, streams, text_chunks

# Not a loopback address by its form, so it stands for a private one; connections to it reach the machine itself.
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
    "key canary-upstream-key-1 and token canary-header-value, sent to http://{address}/canary-path/v1 "
    "with token=canary-query-value"
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
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str, str]:
    """All answers, with their heads; all that was logged; and the upstream's address."""
    command = Command(tmp_path_factory.mktemp("secrets"))
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        address = upstream.url.removeprefix("http://").replace("127.0.0.1", HOST).rstrip("/")
        url = f"http://{address}/canary-path/v1?token=canary-query-value"
        variables = SECRETS | {"UPSTREAM_BASE_URL": url, "LOG_FORMAT": request.param, "HOST": "127.0.0.1"}
        (command.home / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
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
    for path in ("/", "/health", "/readyz", "/metrics", "/v1/models", "/v1/models?debug=true", "/v1/models/none", "/none"):
        upstream.then(*[answers({"data": [{"id": "m"}]})] * path.startswith("/v1"))
        yield _text(httpx.get(server.address + path, headers={"x-api-key": CLIENT_KEY}, trust_env=False, timeout=DEADLINE))
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        for key in (CLIENT_KEY, "wrong", ""):
            for body in (REQUEST, {"model": "m"}):
                upstream.then(answers(completion("fine")))
                headers = {"x-api-key": key}
                yield _text(
                    httpx.post(server.address + path, json=body, headers=headers, trust_env=False, timeout=DEADLINE)
                )


def _post(server: Running, asked: dict[str, Any]) -> str:
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    url = f"{server.address}/v1/messages"
    return _text(httpx.post(url, json=REQUEST | asked, headers=headers, trust_env=False, timeout=DEADLINE))


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
        until(lambda count=number: server.log.read_text().count("configuration refused") >= count, f"{name} is refused")
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
    named = [line for line in lines if "private-1" in line and f"http://{address}/canary-path/v1" in line]
    assert len(named) >= 1
    secret = re.compile(r"canary-(?!path)")
    assert [line for line in log.splitlines() if secret.search(line)] == []
    assert log.count("configuration refused") == 4


def test_the_files(tmp_path: Path) -> None:
    """The key of a client is in no file that is made for it."""
    command = Command(tmp_path)
    made = command.run("keys", "create", "alice", "--file", "keys.json").stdout.strip()
    assert made not in (tmp_path / "keys.json").read_text()
    assert json.loads((tmp_path / "keys.json").read_text())["keys"][0]["name"] == "alice"
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600

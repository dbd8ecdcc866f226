"""What servers say of themselves, and what is made of it."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import upstreams_from_settings
from anthropic_proxy.providers.profiles import GENERIC, find_profile_by_name
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.client import create_upstream_client
from anthropic_proxy.upstream.detection import PATHS, detect_provider, should_detect
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from tests.support.raw_server import READ, WHOLE, RawServer
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, Received, Script, ScriptedUpstream, answers

MODEL = {"id": "m", "object": "model"}


def owned_by(owner: str) -> dict[str, Any]:
    return {"object": "list", "data": [{**MODEL, "owned_by": owner}]}


# What each kind of server answers; where they answer more than one path, each alone is enough.
SERVERS: dict[str, list[dict[str, Any]]] = {
    "ollama": [{"/api/version": {"version": "0.5.4"}, "/v1/models": owned_by("library")}],
    "llamacpp": [
        {"/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 2}},
        {"/v1/models": owned_by("llamacpp") | {"models": [{"name": "m", "model": "m"}]}},
    ],
    "vllm": [{"/v1/models": owned_by("vllm"), "/version": {"version": "0.32.0"}}],
    "sglang": [
        {"/v1/models": owned_by("sglang")},
        {"/get_server_info": {"model_path": "qwen/qwen3", "port": 30000}},
        {"/server_info": {"model_path": "qwen/qwen3", "port": 30000}},
    ],
    "lmstudio": [
        {
            "/api/v0/models": {
                "object": "list",
                "data": [{**MODEL, "compatibility_type": "gguf", "state": "not-loaded"}],
            }
        },
        {"/api/v1/models": {"models": [{"type": "llm", "key": "m", "loaded_instances": []}]}},
    ],
    "litellm": [
        {
            "/health/readiness": {"status": "healthy", "litellm_version": "1.109.1"},
            "/v1/models": owned_by("openai"),
        }
    ],
}


def asked(answers: dict[str, Any]) -> str | None:
    async def ask(path: str) -> tuple[int, bytes] | None:
        answer = answers.get(path, 404)
        if isinstance(answer, bytes):
            return 200, answer
        return (
            (answer, b"{}")
            if isinstance(answer, int)
            else answer and (200, json.dumps(answer).encode())
        )

    dialect = asyncio.run(detect_provider(ask))
    return dialect.name if dialect else None


@pytest.mark.parametrize(
    ("name", "answers"), [(name, each) for name, kinds in SERVERS.items() for each in kinds]
)
def test_servers(name: str, answers: dict[str, Any]) -> None:
    assert asked(answers) == name


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({}, id="nothing-known"),
        pytest.param(dict.fromkeys(PATHS), id="no-answer"),
        pytest.param(dict.fromkeys(PATHS, b"<html>"), id="html"),
        pytest.param(dict.fromkeys(PATHS, b"[]"), id="lists"),
        pytest.param(dict.fromkeys(PATHS, b"{}"), id="empty"),
        pytest.param(dict.fromkeys(PATHS, 200), id="always-200"),
        pytest.param({"/api/version": {"version": 1}}, id="no-text"),
        pytest.param({"/version": {"version": "3.1"}}, id="any-version"),
        pytest.param({"/api/v0/models": {"object": "list", "data": [MODEL]}}, id="any-list"),
        pytest.param({"/v1/models": {"object": "list", "data": []}}, id="no-models"),
        pytest.param({"/v1/models": {"object": "list", "data": ["m"]}}, id="names-of-models"),
    ],
)
def test_others(answers: dict[str, Any]) -> None:
    assert asked(answers) is None


def test_a_server_is_asked_for_nobody() -> None:
    """Not even when it gets the keys of the clients, of whom there is none yet."""

    async def main() -> tuple[int, bytes] | None:
        upstream = UpstreamHTTPClient()
        async with RawServer([[READ, WHOLE]]).running() as server:
            (endpoint,) = upstreams_from_settings(
                Settings(UPSTREAM_BASE_URL=server.url, UPSTREAM_API_KEY_PASSTHROUGH=True)
            )
            try:
                return await create_upstream_client(endpoint, upstream).probe("/version")
            finally:
                await upstream.aclose()

    looked = asyncio.run(main())
    assert looked is not None
    assert looked[0] == 200


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.upstream.detection._TIMEOUT_SECONDS", 0)

    async def ask(_: str) -> tuple[int, bytes] | None:
        await asyncio.Event().wait()
        return None

    assert asyncio.run(detect_provider(ask)) is None


def test_a_path_that_never_answers_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anthropic_proxy.upstream.detection._TIMEOUT_SECONDS", 0.05)

    async def ask(path: str) -> tuple[int, bytes] | None:
        if path != "/v1/models":
            await asyncio.Event().wait()
        return 200, json.dumps(owned_by("vllm")).encode()

    assert asyncio.run(detect_provider(ask)) is find_profile_by_name("vllm")


@pytest.mark.parametrize(
    ("base", "fields", "wanted"),
    [
        ("http://localhost:8080/v1", {}, True),
        ("http://ollama:11434/v1", {}, True),
        ("http://192.168.1.7/v1", {}, True),
        ("http://[::1]:8080/v1", {}, True),
        ("http://gpu.local/v1", {}, True),
        ("https://llm.example.com/v1", {}, False),
        ("http://8.8.8.8/v1", {}, False),
        ("http://localhost:8080/v1", {"is_profile_guessed": False}, False),
        ("http://localhost:8080/v1", {"api": "messages"}, False),
    ],
)
def test_who_is_asked(base: str, fields: dict[str, Any], wanted: bool) -> None:
    assert (
        should_detect(Upstream("up", base, GENERIC, **{"is_profile_guessed": True, **fields}))
        is wanted
    )


def test_every_sign_is_of_a_row() -> None:
    assert all(find_profile_by_name(name).hosts == () for name in SERVERS)


class Vllm(ScriptedUpstream):
    """Answers as vLLM does, whatever it is asked."""

    def script_for(self, received: Received) -> Script:
        if received.path == "/v1/models":
            return answers({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]})
        return answers({}, 404)


def test_a_server_is_asked_at_the_start() -> None:
    with Vllm() as upstream, running_proxy(upstream.url, identifies=True) as proxy:
        (model,) = httpx.get(
            f"{proxy}/v1/models?debug=1", timeout=DEADLINE, trust_env=False
        ).json()["data"]
    assert model["anthropic_proxy"]["targets"][0]["provider"] == "vllm"
    assert set(PATHS) <= {each.path for each in upstream.requests}

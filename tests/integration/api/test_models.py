"""Model routes, with the official SDK and a scripted upstream."""

from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from anthropic_proxy.routing.model_names import to_claude_id
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, Script, ScriptedUpstream, answers, completion

LIST = {
    "object": "list",
    "data": [
        {"id": name, "created": 1, "context_length": 8192, "supported_parameters": ["reasoning"]}
        for name in ("a", "openai/gpt:x", "c")
    ],
}

BODY: dict[str, Any] = {
    "model": "claude-a",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}


def test_the_sdk_reads_all_pages_of_models(upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers(LIST) for _ in range(3)])
    with (
        running_proxy(upstream.url + "/v1", UPSTREAM_API_KEY="sk-secret") as proxy,
        anthropic.Anthropic(
            base_url=proxy, api_key="any", max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        assert [model.id for model in client.models.list(limit=2)] == ["a", "openai/gpt:x", "c"]
        model_info = client.models.retrieve("openai/gpt:x")
    assert (model_info.display_name, model_info.max_input_tokens) == ("openai/gpt:x", 8192)
    assert model_info.capabilities is not None
    assert model_info.capabilities.thinking.supported
    sent = upstream.request()
    assert (sent.method, sent.path, sent.headers["authorization"]) == (
        "GET",
        "/v1/models",
        "Bearer sk-secret",
    )


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/none", 404, "model: none"),
        ("/v1/models?limit=x", 400, "limit: Input should be a valid integer, not 'x'"),
        ("/v1/models?limit=0", 400, "limit: must be between 1 and 1000"),
    ],
)
def test_invalid_requests_are_rejected(
    proxy: str, upstream: ScriptedUpstream, path: str, status: int, message: str
) -> None:
    upstream.then(answers(LIST))
    response = httpx.get(proxy + path, timeout=DEADLINE, trust_env=False)
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)


@pytest.mark.parametrize("path", ["%2Fmodels%2Fllama.gguf", "/models/llama.gguf"])
def test_a_model_id_may_begin_with_a_slash(
    proxy: str, upstream: ScriptedUpstream, path: str
) -> None:
    """vLLM and llama.cpp may use the path of a file as the model id."""
    upstream.then(answers({"data": [{"id": "/models/llama.gguf"}]}))
    response = httpx.get(f"{proxy}/v1/models/{path}", timeout=DEADLINE, trust_env=False)
    assert response.json()["id"] == "/models/llama.gguf"


def test_an_upstream_without_a_model_list_is_reported(
    proxy: str, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers(b"404 page not found", 404), answers(b"<html>"))
    assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).status_code == 404
    assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).status_code == 500


@pytest.mark.parametrize(
    ("script", "ids"),
    [
        (answers(LIST), ["claude-a", "claude-z", "a", "openai/gpt:x", "c"]),
        (
            answers(b"404 page not found", 404),
            ["claude-a", "claude-z", "writer", "thinker", "a", "z"],
        ),
        (answers(b"", 405), ["claude-a", "claude-z", "writer", "thinker", "a", "z"]),
    ],
)
def test_configured_models_are_listed(
    upstream: ScriptedUpstream, script: Script, ids: list[str]
) -> None:
    """Aliases come first. Models of the settings replace a missing list of the upstream."""
    names: dict[str, Any] = {
        "COMPLETION_MODEL": "writer",
        "REASONING_MODEL": "thinker",
        "MODEL_ALIASES": "claude-a=a;claude-z=z",
    }
    upstream.then(script, script)
    with (
        running_proxy(upstream.url, **names) as proxy,
        anthropic.Anthropic(
            base_url=proxy, api_key="any", max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        assert [model.id for model in client.models.list()] == ids
        assert client.models.retrieve("claude-a").display_name == "claude-a (a)"


def test_other_upstream_failures_are_returned(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"error": {"message": "no"}}, 500))
    with running_proxy(upstream.url, COMPLETION_MODEL="writer") as proxy:
        assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).status_code == 500


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
def test_a_missing_list_without_configured_models_is_reported(
    upstream: ScriptedUpstream, path: str, api: str, status: int
) -> None:
    upstream.then(answers({"detail": "Not Found"}, status))
    with running_proxy(upstream.url, UPSTREAM_API=api) as proxy:
        response = httpx.get(proxy + path, timeout=DEADLINE, trust_env=False)
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert (
        f"has no list of models (status {status}): set COMPLETION_MODEL or MODEL_ALIASES" in message
    )


def test_an_alias_selects_its_model(upstream: ScriptedUpstream) -> None:
    """The response contains the alias that the client sent."""
    upstream.then(answers(completion()))
    with running_proxy(
        upstream.url, COMPLETION_MODEL="writer", MODEL_ALIASES="claude-a=v/a"
    ) as proxy:
        message = httpx.post(
            proxy + "/v1/messages", json=BODY, timeout=DEADLINE, trust_env=False
        ).json()
    assert (upstream.request().body["model"], message["model"]) == ("v/a", "claude-a")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-mine[1m]", "v/mine"),
        ("m[1M]", "m"),
        (to_claude_id("m") + "[1m]", "m"),
    ],
)
@pytest.mark.parametrize(
    ("api", "path"),
    [
        ("chat_completions", "/v1/messages"),
        ("responses", "/v1/messages"),
        ("messages", "/v1/messages"),
        ("messages", "/v1/messages/count_tokens"),
    ],
)
def test_no_upstream_receives_a_suffix(
    upstream: ScriptedUpstream, api: str, path: str, model: str, expected: str, *, stream: bool
) -> None:
    upstream.then(answers({"error": {"message": "no", "type": "api_error"}}, 400))
    body = {**BODY, "model": model}
    if path == "/v1/messages":
        body["stream"] = stream
    names: dict[str, Any] = {"UPSTREAM_API": api, "MODEL_ALIASES": "claude-mine=v/mine"}
    with running_proxy(upstream.url, **names) as proxy:
        response = httpx.post(proxy + path, json=body, timeout=DEADLINE, trust_env=False)
    assert response.status_code == 400
    (request,) = upstream.requests
    assert request.body["model"] == expected


def test_models_for_the_pickers_of_claude_clients(upstream: ScriptedUpstream) -> None:
    """All ids are Claude ids, and select the model of which they are the id."""
    names: dict[str, Any] = {
        "MODEL_ALIASES": "claude-a=a;fast=c",
        "MODEL_MAP": "haiku=c;openai/*=openai/gpt:x",
        "CLAUDE_MODEL_IDS": True,
    }
    upstream.then(*[answers(LIST) for _ in range(5)], answers(completion()), answers(LIST))
    with (
        running_proxy(upstream.url, **names) as proxy,
        anthropic.Anthropic(
            base_url=proxy, api_key="any", max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        models = list(client.models.list(limit=4))
        listed = [(model.id, model.display_name) for model in models]
        tiers = [model.to_dict()["anthropic_family_tier"] for model in models]
        gpt = to_claude_id("openai/gpt:x")
        forms = (gpt, f"{gpt}[1m]", "openai/gpt:x")
        found = {client.models.retrieve(form).id for form in forms}
        body = {**BODY, "model": f"{gpt}[1m]"}
        response = httpx.post(f"{proxy}/v1/messages", json=body, timeout=DEADLINE, trust_env=False)
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve(to_claude_id("none"))
    assert listed == [
        ("claude-haiku", "claude-haiku (c)"),
        ("claude-a", "claude-a (a)"),
        (to_claude_id("fast"), "fast (c)"),
        (to_claude_id("a"), "a"),
        (gpt, "openai/gpt:x"),
        (to_claude_id("c"), "c"),
    ]
    assert tiers == ["haiku", *["sonnet"] * 5]
    assert found == {gpt}
    assert (upstream.requests[-2].body["model"], response.json()["model"]) == (
        "openai/gpt:x",
        f"{gpt}[1m]",
    )


def test_only_tiers_with_a_model_are_listed(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text(
        f"upstreams: {{a: {{url: '{upstream.url}'}}}}\n"
        "routes:\n"
        "  - {tier: opus, thinking: true, targets: a/thinker}\n"
        "  - {tier: [haiku, sonnet], targets: a/small}\n"
        "  - {tier: fable, targets: a}\n"
    )
    upstream.then(answers({"data": [{"id": "m"}]}))
    with running_proxy(None, CONFIG_FILE=file, CLAUDE_MODEL_IDS=True) as proxy:
        response = httpx.get(f"{proxy}/v1/models", timeout=DEADLINE, trust_env=False)
    assert [model["id"] for model in response.json()["data"]] == [
        "claude-haiku",
        "claude-sonnet",
        to_claude_id("m"),
    ]


def test_models_of_several_upstreams_have_claude_ids(upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"data": [{"id": "m"}]}), answers(LIST))
    url = f"{upstream.url};{upstream.url}"
    with running_proxy(url, CLAUDE_MODEL_IDS=True) as proxy:
        response = httpx.get(f"{proxy}/v1/models?debug=1", timeout=DEADLINE, trust_env=False)
    first, second = response.json()["data"][:2]
    address = upstream.url.removeprefix("http://")
    labels = {first["display_name"], second["display_name"]}
    assert f"{address}/m" in labels or f"{address}-2/m" in labels
    for model in response.json()["data"]:
        assert model["id"] == to_claude_id(model["display_name"])
        (target,) = model["anthropic_proxy"]["targets"]
        assert f"{target['upstream']}/{target['model']}" == model["display_name"]


def test_models_are_filtered_by_lifecycle(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(LIST), answers(LIST))
    for query, count in [
        ("lifecycle[]=deprecated&lifecycle[]=active", 3),
        ("lifecycle[]=retired", 0),
    ]:
        response = httpx.get(f"{proxy}/v1/models?{query}", timeout=DEADLINE, trust_env=False).json()
        assert len(response["data"]) == count


def test_learned_changes_are_returned_with_debug(upstream: ScriptedUpstream) -> None:
    rejection = answers(
        {"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}}, 400
    )
    model_list = answers({"data": [{"id": "m"}]})
    upstream.then(rejection, answers(completion()), model_list, model_list, model_list)
    request = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
    }
    with (
        running_proxy(upstream.url, UPSTREAM_PROVIDER="vllm") as proxy,
        httpx.Client(base_url=proxy, trust_env=False) as client,
    ):
        assert client.post("/v1/messages", json=request).status_code == 200
        (model,) = client.get("/v1/models?debug=true").json()["data"]
        assert client.get("/v1/models/m?debug=1").json() == model
        (plain,) = client.get("/v1/models").json()["data"]
    (target,) = model.pop("anthropic_proxy")["targets"]
    assert model == plain
    assert (target["upstream"], target["model"], target["provider"]) == (
        upstream.url.removeprefix("http://"),
        "m",
        "vllm",
    )
    assert [(each["change"], each["field"]) for each in target["learned"]["changes"]] == [
        ("drop", "temperature")
    ]
    assert target["left_alone"] is False

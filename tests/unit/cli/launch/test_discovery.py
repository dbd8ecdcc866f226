"""Upstreams are found by keys in the environment and by the default ports of local servers."""

import pytest

from anthropic_proxy.cli.launch import discovery
from anthropic_proxy.cli.launch.discovery import FoundUpstream, LocalServer, find_upstreams
from tests.support.scripted_upstream import Script, ScriptedUpstream, answers

_MODELS = {"object": "list", "data": [{"id": "m", "object": "model"}]}


@pytest.mark.parametrize("service", discovery.HOSTED_SERVICES, ids=lambda service: service.name)
def test_a_key_in_the_environment_is_an_upstream(service: discovery.HostedService) -> None:
    found = find_upstreams({service.key_variable: "secret"}, local_servers=())
    assert found == [
        FoundUpstream(service.name, service.url, service.key_variable, service.key_variable)
    ]
    assert discovery.find_key_variable(service.url, {service.key_variable: "secret"}) == (
        service.key_variable
    )


@pytest.mark.parametrize(
    ("environment", "urls"),
    [
        ({}, []),
        ({"OPENAI_API_KEY": ""}, []),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, []),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
            ["http://127.0.0.1:1/v1"],
        ),
        (
            {"GROQ_API_KEY": "k", "OPENROUTER_API_KEY": "k"},
            ["https://openrouter.ai/api", "https://api.groq.com"],
        ),
    ],
)
def test_keys_select_urls(environment: dict[str, str], urls: list[str]) -> None:
    assert [upstream.url for upstream in find_upstreams(environment, ())] == urls


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("http://127.0.0.1:11434", ""),
        ("https://api.openai.com", ""),
        ("https://openrouter.ai.example.com", ""),
        ("https://openrouter.ai:443/api", "OPENROUTER_API_KEY"),
        # without TLS, or another server on the host
        ("http://openrouter.ai/api", ""),
        ("https://openrouter.ai:8443", ""),
        ("https://openrouter.ai:port", ""),
        ("https://openrouter.ai@example.com", ""),
    ],
)
def test_a_key_belongs_to_the_host_of_its_service(url: str, variable: str) -> None:
    assert discovery.find_key_variable(url, {"OPENROUTER_API_KEY": "k"}) == variable


def test_a_key_belongs_to_the_server_of_its_variable() -> None:
    environment = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://gateway.invalid/v1"}
    assert discovery.find_key_variable("https://gateway.invalid", environment) == "OPENAI_API_KEY"
    assert discovery.find_key_variable("https://api.openai.com", environment) == ""


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:11434", "http://localhost:11434"),
        ("http://api.openai.com", "http://api.openai.com"),
        ("localhost:11434", "http://localhost:11434"),
        ("localhost", "http://localhost"),
        ("gpu", "http://gpu"),
        ("192.168.0.7", "http://192.168.0.7"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("gpu.lan:8000", "http://gpu.lan:8000"),
        ("api.openai.com", "https://api.openai.com"),
        ("api.openai.com:443/v1", "https://api.openai.com:443/v1"),
        ("openrouter.ai/api", "https://openrouter.ai/api"),
    ],
)
def test_an_address_becomes_a_url(text: str, url: str) -> None:
    assert discovery.complete_url(text) == url


@pytest.mark.parametrize("text", ["", "http://", "ftp://a", "a:port", "http://[", ":80"])
def test_other_texts_are_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        discovery.complete_url(text)


# OLLAMA_HOST in the forms that Ollama's server accepts; {port} is the port of the test's server.
@pytest.mark.parametrize(
    "value",
    [
        "127.0.0.1:{port}",
        ":{port}",
        "0.0.0.0:{port}",
        "http://127.0.0.1:{port}",
        "http://0.0.0.0:{port}/",
        "localhost:{port}",
    ],
)
def test_the_address_of_a_local_server_is_read(value: str) -> None:
    with ScriptedUpstream() as upstream:
        upstream.then(answers(_MODELS))
        servers = (LocalServer("ollama", 1, "OLLAMA_HOST"),)
        found = find_upstreams({"OLLAMA_HOST": value.format(port=upstream.port)}, servers)
        assert [(each.name, each.key_variable) for each in found] == [("ollama", "")]
        assert found[0].url.endswith(f":{upstream.port}")


@pytest.mark.parametrize("value", ["127.0.0.1:port", "[::1", "a b", "a..b"])
def test_an_invalid_address_finds_no_server(value: str) -> None:
    assert find_upstreams({"OLLAMA_HOST": value}, (LocalServer("ollama", 1, "OLLAMA_HOST"),)) == []


@pytest.mark.parametrize(
    ("response", "is_found"),
    [
        (answers(_MODELS), True),
        # Ollama without a model
        (answers({"object": "list", "data": None}), True),
        (answers(_MODELS, 401), False),
        (answers({"data": []}), False),
        (answers([]), False),
        (answers(b"<html></html>", 200, {"content-type": "text/html"}), False),
    ],
)
def test_only_lists_of_models_count(response: Script, *, is_found: bool) -> None:
    with ScriptedUpstream() as upstream:
        upstream.then(response)
        found = find_upstreams({}, (LocalServer("vllm", upstream.port),))
    assert [each.name for each in found] == (["vllm"] if is_found else [])

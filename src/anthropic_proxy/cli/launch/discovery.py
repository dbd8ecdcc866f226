"""Find upstreams without a configuration: API keys in the environment, and local servers."""

import http.client
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from anthropic_proxy.wire.json_codec import loads

# Seconds. A server on this machine that does not respond in this time is not offered.
_TIMEOUT_SECONDS = 2.0
# A list of models is shorter. More is not read.
_MAX_BYTES = 4 << 20


class FoundUpstream(NamedTuple):
    """An upstream that the proxy can use without further configuration."""

    # The name of the upstream, which precedes the names of its models if there are several.
    name: str
    url: str
    # The variable of the environment with the API key; empty if the server needs none.
    key_variable: str
    # Where it was found, for people: `OPENAI_API_KEY` or `127.0.0.1:11434`.
    origin: str


class HostedService(NamedTuple):
    name: str
    key_variable: str
    url: str
    # The variable with another address for the same key; empty if there is none.
    url_variable: str = ""


# The variables that the SDKs and the documentation of these services use.
HOSTED_SERVICES: tuple[HostedService, ...] = (
    HostedService("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api"),
    HostedService("openai", "OPENAI_API_KEY", "https://api.openai.com", "OPENAI_BASE_URL"),
    HostedService("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com"),
    HostedService("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai"),
    HostedService("groq", "GROQ_API_KEY", "https://api.groq.com"),
    HostedService("together", "TOGETHER_API_KEY", "https://api.together.xyz"),
    HostedService("fireworks", "FIREWORKS_API_KEY", "https://api.fireworks.ai"),
    HostedService("cerebras", "CEREBRAS_API_KEY", "https://api.cerebras.ai"),
    HostedService("xai", "XAI_API_KEY", "https://api.x.ai"),
    HostedService("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com"),
    HostedService("moonshot", "MOONSHOT_API_KEY", "https://api.moonshot.ai"),
    HostedService("nvidia", "NVIDIA_API_KEY", "https://integrate.api.nvidia.com"),
)


class LocalServer(NamedTuple):
    """A server that listens on this machine by default."""

    name: str
    port: int
    # The variable with the address if it is not the default one; empty if there is none.
    address_variable: str = ""


# The default ports in the documentation of these servers.
LOCAL_SERVERS: tuple[LocalServer, ...] = (
    LocalServer("ollama", 11434, "OLLAMA_HOST"),
    LocalServer("lmstudio", 1234),
    LocalServer("llamacpp", 8080),
    LocalServer("vllm", 8000),
)


def find_upstreams(
    environment: Mapping[str, str], local_servers: Sequence[LocalServer] = LOCAL_SERVERS
) -> list[FoundUpstream]:
    """Return the services with a key in the environment, then the servers on this machine.

    Hosted services are not contacted. A local server is returned if it has a list of models.
    """
    return [*_find_keys(environment), *_find_local_servers(environment, local_servers)]


def complete_url(text: str) -> str:
    """Return the URL for `host:port` or a host. Hosts on the internet get https.

    Raises ValueError for a text that is not a URL of a server.
    """
    parts = urlsplit(text if "://" in text else f"//{text}")
    if not parts.hostname or parts.scheme not in {"", "http", "https"}:
        raise ValueError("expected http://... or https://...")
    if parts.scheme:
        return text
    is_on_internet = parts.port in {None, 443} and _is_domain(parts.hostname)
    return f"https://{text}" if is_on_internet else f"http://{text}"


def _is_domain(host: str) -> bool:
    """Return whether a host is a domain name: neither an IP address nor a name such as `gpu`."""
    return "." in host.strip(".") and ":" not in host and not host.replace(".", "").isdecimal()


def find_key_variable(url: str, environment: Mapping[str, str]) -> str:
    """Return the variable with the key of the service at `url`; empty if none is set.

    The key is only for the origin of the service: not for its host without TLS, and not for the
    service if a variable selects another server for the key.
    """
    origin = _parse_origin(url)
    for service in HOSTED_SERVICES:
        service_origin = _parse_origin(_find_service_url(service, environment))
        if environment.get(service.key_variable) and origin == service_origin:
            return service.key_variable
    return ""


def _find_service_url(service: HostedService, environment: Mapping[str, str]) -> str:
    return environment.get(service.url_variable) or service.url


def _parse_origin(url: str) -> tuple[str, str | None, int] | None:
    """Return scheme, host and port; None if the URL is invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    return parts.scheme, parts.hostname, port


def _find_keys(environment: Mapping[str, str]) -> Iterable[FoundUpstream]:
    for service in HOSTED_SERVICES:
        if environment.get(service.key_variable):
            url = _find_service_url(service, environment)
            yield FoundUpstream(service.name, url, service.key_variable, service.key_variable)


def _find_local_servers(
    environment: Mapping[str, str], local_servers: Sequence[LocalServer]
) -> list[FoundUpstream]:
    candidates = []
    for server in local_servers:
        address = _find_address(server, environment)
        if address is not None:
            candidates.append(FoundUpstream(server.name, f"http://{address}", "", address))
    with ThreadPoolExecutor(len(candidates) or 1) as pool:
        results = list(pool.map(_has_models, [each.origin for each in candidates]))
    return [each for each, has_models in zip(candidates, results, strict=True) if has_models]


def _find_address(server: LocalServer, environment: Mapping[str, str]) -> str | None:
    """Return host and port; None if the variable is invalid.

    OLLAMA_HOST is a host, a port, both, or a URL. It is also the address on which Ollama listens:
    that may be "all addresses", which includes loopback. Source: ollama, envconfig/config.go.
    """
    value = environment.get(server.address_variable, "")
    try:
        parts = urlsplit(value if "//" in value else f"//{value}")
        port = parts.port or server.port
    except ValueError:
        return None
    host = parts.hostname or "127.0.0.1"
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not used as an address
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_models(address: str) -> bool:
    """Return whether the server at `address` has a list of models."""
    try:
        with closing(http.client.HTTPConnection(address, timeout=_TIMEOUT_SECONDS)) as connection:
            connection.request("GET", "/v1/models")
            response = connection.getresponse()
            body = response.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError):
        # The host may have no form that DNS allows.
        return False
    return response.status == http.HTTPStatus.OK and _is_model_list(body)


def _is_model_list(body: bytes) -> bool:
    try:
        models: Any = loads(body)
    except ValueError:
        return False
    # Ollama without a model has `"data": null`.
    return isinstance(models, dict) and models.get("object") == "list" and "data" in models

"""Detect the server software of a self-hosted upstream.

Each kind of server has a path that other servers do not have, or returns a different response
there. All paths are requested at once. A path without a response in time is ignored. An
unrecognized server keeps the generic profile.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from anthropic_proxy.providers.profiles import ProviderProfile, find_profile_by_name
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

# Seconds. The proxy starts to listen only after the detection.
_TIMEOUT_SECONDS = 2

# Returns the status and body at a path; None if there was no response.
Fetch = Callable[[str], Awaitable[tuple[int, bytes] | None]]


def _first_model(models: Any) -> JsonObject:
    """Return the first object of a list of models; an empty object if there is none."""
    if isinstance(models, list) and models and isinstance(models[0], dict):
        return models[0]
    return {}


def _is_owned_by(owner: str) -> Callable[[JsonObject], bool]:
    return lambda response: _first_model(response.get("data")).get("owned_by") == owner


class _Fingerprint(NamedTuple):
    """A property that identifies one kind of server."""

    profile_name: str
    path: str
    # Returns whether the JSON object at the path is from this kind of server.
    is_match: Callable[[JsonObject], bool]


# The first match is used. `/version` is not listed, because several kinds of servers have it.
# Sources: API references and source code of the servers; recordings of llama.cpp, vLLM and Ollama.
_FINGERPRINTS = (
    _Fingerprint(
        "ollama",
        "/api/version",
        lambda response: isinstance(response.get("version"), str) and len(response) == 1,
    ),
    _Fingerprint("llamacpp", "/props", lambda response: "default_generation_settings" in response),
    _Fingerprint("llamacpp", "/v1/models", _is_owned_by("llamacpp")),
    _Fingerprint("sglang", "/v1/models", _is_owned_by("sglang")),
    _Fingerprint("sglang", "/get_server_info", lambda response: "model_path" in response),
    _Fingerprint("sglang", "/server_info", lambda response: "model_path" in response),
    _Fingerprint("vllm", "/v1/models", _is_owned_by("vllm")),
    _Fingerprint(
        "lmstudio",
        "/api/v0/models",
        lambda response: "compatibility_type" in _first_model(response.get("data")),
    ),
    _Fingerprint(
        "lmstudio",
        "/api/v1/models",
        lambda response: "loaded_instances" in _first_model(response.get("models")),
    ),
    _Fingerprint("litellm", "/health/readiness", lambda response: "litellm_version" in response),
)

PATHS: tuple[str, ...] = tuple(dict.fromkeys(fingerprint.path for fingerprint in _FINGERPRINTS))


async def detect_provider(fetch: Fetch) -> ProviderProfile | None:
    """Return the profile of the server that `fetch` requests; None if it is not recognized.

    Never fails.
    """
    bodies = await asyncio.gather(*[_fetch_object(fetch, path) for path in PATHS])
    responses = dict(zip(PATHS, bodies, strict=True))
    for fingerprint in _FINGERPRINTS:
        response = responses[fingerprint.path]
        if response is not None and fingerprint.is_match(response):
            return find_profile_by_name(fingerprint.profile_name)
    return None


async def _fetch_object(fetch: Fetch, path: str) -> JsonObject | None:
    """Return the JSON object at a path; None if there is none, or if the request times out."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            response = await fetch(path)
    except TimeoutError:
        return None
    if response is None:
        return None
    status, body = response
    return loads_object(body) if status == 200 else None


def should_detect(upstream: Upstream) -> bool:
    """Return whether the upstream is self-hosted and its provider is unknown.

    A hosted service is recognized by its host name, and is never probed.
    """
    return (
        upstream.is_profile_guessed
        and upstream.api != "messages"
        and _is_private_host(upstream.host)
    )


def _is_private_host(host: str) -> bool:
    """Return whether a host has a private IP address or a local name.

    Examples of local names: `localhost`, `ollama`, `gpu.local`.
    """
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))

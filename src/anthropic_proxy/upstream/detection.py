"""Detect which software a self-hosted upstream runs, as its host name does not show it.

Each kind has a path that the others do not have, or answers it differently. All paths are requested at once, and those
that do not respond in time are ignored. An unrecognized server is treated as a plain one.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from anthropic_proxy.providers.profiles import ProviderProfile, find_profile_by_name
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

# Seconds; the server starts to listen only then.
_TIMEOUT_SECONDS = 2

# Returns the status and body at a path; None when there was no response.
Fetch = Callable[[str], Awaitable[tuple[int, bytes] | None]]


def _first_model(models: Any) -> JsonObject:
    """The first of a list of models; empty where there is none."""
    return models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}


def _is_owned_by(owner: str) -> Callable[[JsonObject], bool]:
    return lambda response: _first_model(response.get("data")).get("owned_by") == owner


# In order. Several kinds have `/version`, so that it tells nothing. Sources: the servers' API references and source code;
# recorded of llama.cpp, vLLM and Ollama.
_FINGERPRINTS: tuple[tuple[str, str, Callable[[JsonObject], bool]], ...] = (
    (
        "ollama",
        "/api/version",
        lambda answer: isinstance(answer.get("version"), str) and len(answer) == 1,
    ),
    ("llamacpp", "/props", lambda answer: "default_generation_settings" in answer),
    ("llamacpp", "/v1/models", _is_owned_by("llamacpp")),
    ("sglang", "/v1/models", _is_owned_by("sglang")),
    ("sglang", "/get_server_info", lambda answer: "model_path" in answer),
    ("sglang", "/server_info", lambda answer: "model_path" in answer),
    ("vllm", "/v1/models", _is_owned_by("vllm")),
    (
        "lmstudio",
        "/api/v0/models",
        lambda answer: "compatibility_type" in _first_model(answer.get("data")),
    ),
    (
        "lmstudio",
        "/api/v1/models",
        lambda answer: "loaded_instances" in _first_model(answer.get("models")),
    ),
    ("litellm", "/health/readiness", lambda answer: "litellm_version" in answer),
)

PATHS: tuple[str, ...] = tuple(dict.fromkeys(path for _, path, _ in _FINGERPRINTS))


async def detect_provider(fetch: Fetch) -> ProviderProfile | None:
    """Return the profile of the server that `fetch` reads from; None when it is not recognized. Never fails."""
    responses = dict(
        zip(
            PATHS,
            await asyncio.gather(*(_fetch_object(fetch, path) for path in PATHS)),
            strict=True,
        )
    )
    matches = (
        name
        for name, path, is_match in _FINGERPRINTS
        if (response := responses[path]) is not None and is_match(response)
    )
    name = next(matches, None)
    return find_profile_by_name(name) if name else None


async def _fetch_object(fetch: Fetch, path: str) -> JsonObject | None:
    """The object at a path; None when there is none, or not in time."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            response = await fetch(path)
    except TimeoutError:
        return None
    return loads_object(response[1]) if response and response[0] == 200 else None


def should_detect(upstream: Upstream) -> bool:
    """Return whether the provider of a self-hosted upstream is unknown."""
    return (
        upstream.is_profile_guessed
        and upstream.api != "messages"
        and _is_private_host(upstream.host)
    )


def _is_private_host(host: str) -> bool:
    """A private address, or a name that no public server has (`localhost`, `ollama`, `gpu.local`)."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))

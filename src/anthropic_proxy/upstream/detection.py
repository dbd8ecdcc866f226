"""Who is there? Servers of one's own are asked once what they are, as no host name tells.

Each kind has an address that the others don't have, or answer otherwise. All are asked at once; what is not answered in
time does not count. Who is none of the known kinds is spoken to as any server.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from anthropic_proxy.providers.profiles import Dialect, named
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

# Seconds; the server starts to listen only then.
_PATIENCE = 2

# The status and body of a path's answer; None when there was none.
Ask = Callable[[str], Awaitable[tuple[int, bytes] | None]]


def _first(models: Any) -> JsonObject:
    """The first of a list of models; empty where there is none."""
    return models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}


def _owned_by(owner: str) -> Callable[[JsonObject], bool]:
    return lambda answer: _first(answer.get("data")).get("owned_by") == owner


# In order. Several kinds have `/version`, so that it tells nothing. Sources: the servers' API references and source code;
# recorded of llama.cpp, vLLM and Ollama.
_SIGNS: tuple[tuple[str, str, Callable[[JsonObject], bool]], ...] = (
    (
        "ollama",
        "/api/version",
        lambda answer: isinstance(answer.get("version"), str) and len(answer) == 1,
    ),
    ("llamacpp", "/props", lambda answer: "default_generation_settings" in answer),
    ("llamacpp", "/v1/models", _owned_by("llamacpp")),
    ("sglang", "/v1/models", _owned_by("sglang")),
    ("sglang", "/get_server_info", lambda answer: "model_path" in answer),
    ("sglang", "/server_info", lambda answer: "model_path" in answer),
    ("vllm", "/v1/models", _owned_by("vllm")),
    (
        "lmstudio",
        "/api/v0/models",
        lambda answer: "compatibility_type" in _first(answer.get("data")),
    ),
    (
        "lmstudio",
        "/api/v1/models",
        lambda answer: "loaded_instances" in _first(answer.get("models")),
    ),
    ("litellm", "/health/readiness", lambda answer: "litellm_version" in answer),
)

PATHS: tuple[str, ...] = tuple(dict.fromkeys(path for _, path, _ in _SIGNS))


async def identify(ask: Ask) -> Dialect | None:
    """The dialect of the server that answers `ask`, None when it is none that is known. Never fails."""
    said = dict(
        zip(PATHS, await asyncio.gather(*(_answer(ask, path) for path in PATHS)), strict=True)
    )
    known = (
        name for name, path, fits in _SIGNS if (answer := said[path]) is not None and fits(answer)
    )
    name = next(known, None)
    return named(name) if name else None


async def _answer(ask: Ask, path: str) -> JsonObject | None:
    """The object at a path; None when there is none, or not in time."""
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await ask(path)
    except TimeoutError:
        return None
    return loads_object(answer[1]) if answer and answer[0] == 200 else None


def may_be_asked(endpoint: Endpoint) -> bool:
    """Whether nothing tells what this server of one's own is."""
    return endpoint.is_guessed and endpoint.api != "messages" and _is_ones_own(endpoint.host)


def _is_ones_own(host: str) -> bool:
    """A private address, or a name that no public server has (`localhost`, `ollama`, `gpu.local`)."""
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_global
    return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))

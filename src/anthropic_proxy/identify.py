"""Who is there? Servers of one's own are asked once what they are, as no host name tells.

Each kind has an address that the others don't have, or answer otherwise. All are asked at once; who does not answer in time
is spoken to as any server.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable

from anthropic_proxy.dialects import Dialect, named
from anthropic_proxy.endpoints import Endpoint
from anthropic_proxy.wire.codec import JsonObject, loads_object

# Seconds; the server starts to listen only then.
_PATIENCE = 2

# The status and body of a path's answer; None when there was none.
Ask = Callable[[str], Awaitable[tuple[int, bytes] | None]]


def _has(*names: str) -> Callable[[JsonObject], bool]:
    return lambda answer: all(name in answer for name in names)


# In order: SGLang answers vLLM's path, too, and LM Studio's list of models has what no other's has. Sources: the servers'
# API references; recorded of llama.cpp and Ollama.
_SIGNS: tuple[tuple[str, str, Callable[[JsonObject], bool]], ...] = (
    ("ollama", "/api/version", lambda answer: isinstance(answer.get("version"), str) and len(answer) == 1),
    ("llamacpp", "/props", _has("default_generation_settings")),
    ("sglang", "/get_server_info", _has("model_path")),
    ("sglang", "/server_info", _has("model_path")),
    ("lmstudio", "/api/v0/models", lambda answer: answer.get("object") == "list" and isinstance(answer.get("data"), list)),
    ("litellm", "/health/readiness", _has("litellm_version")),
    ("vllm", "/version", lambda answer: isinstance(answer.get("version"), str)),
)

PATHS: tuple[str, ...] = tuple(dict.fromkeys(path for _, path, _ in _SIGNS))


async def identify(ask: Ask) -> Dialect | None:
    """The dialect of the server that answers `ask`, None when it is none that is known. Never fails."""
    said = dict(zip(PATHS, await asyncio.gather(*(_answer(ask, path) for path in PATHS)), strict=True))
    known = (name for name, path, fits in _SIGNS if (answer := said[path]) is not None and fits(answer))
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

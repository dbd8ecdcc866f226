"""The commands in README.md and docs/*.md work, and print the output on the pages.

Each block of commands runs in a shell with its own home, directory and ports. Scripted
upstreams on the loopback address replace all hosts, and a small program replaces Claude Code:
`tests/claude_code/test_terminal.py` runs the quick start with the real one.

A new block usually needs no change here.
Otherwise, the message of the failed test names the necessary change.
"""

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anthropic_proxy.demo import run
from tests.support import foreground_server
from tests.support.command_blocks import Block, Command, parse_commands, read_blocks
from tests.support.page_upstream import TEXT, PageUpstream
from tests.support.paths import ROOT
from tests.support.readme import Place
from tests.support.running_command import refuses_connections

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands of the pages are those of a Unix shell"
)

SECONDS = 120
TEST_FILE = "tests/docs/test_commands.py"

# Pages whose blocks are steps, which run in one shell. On other pages each block runs alone.
TUTORIALS = {"docs/getting-started.md"}

# Programs that may be missing. The tests that need them are skipped.
TOOLS = {"curl", "git", "make", "openssl"}

# Programs that commands may run. A block with another program fails before it runs.
# The test provides the first two.
PROGRAMS = {
    *("anthropic-proxy", "claude"),
    *(".", "cat", "cd", "chmod", "command", "cp", "echo", "export", "grep", "head", "kill", "ls"),
    *("mkdir", "pip", "printf", "python3", "sleep", "tail", "test", "unset"),
    *TOOLS,
}

# Programs that cannot run in a test, and the reason. A block with such a program does not run.
NOT_RUN = {
    **dict.fromkeys(
        ("docker", "podman"), "needs a container engine; `make container-test` runs the image"
    ),
    **dict.fromkeys(("helm", "kubectl"), "needs a cluster"),
    **dict.fromkeys(("llama-server", "ollama", "sglang", "vllm"), "needs a model"),
    **dict.fromkeys(("journalctl", "systemctl"), "needs systemd"),
    **dict.fromkeys(("caddy", "nginx"), "needs a front proxy"),
    "sudo": "needs root",
}
# Patterns of commands that cannot run in a test, and the reason.
NOT_RUN_TEXTS = {
    r"\[-": "a synopsis of options",
    r"\banthropic-proxy check\b": "needs a model; tests/integration/cli/test_check.py runs it",
    r"\banthropic-proxy demo\b": "needs a model; tests/integration/demo runs it",
}

# Commands that are replaced in a test: a pattern, its replacement, and the reason.
REPLACED = (
    (r"\"\$REPOSITORY_URL\"", shlex.quote(str(ROOT)), "the address depends on the reader"),
    (r"^pip install (\S+)$", "command -v pip", "needs the internet"),
    (
        r"^OPENROUTER_API_KEY=(\S+) anthropic-proxy claude",
        r"OPENAI_API_KEY=\1 OPENAI_BASE_URL=https://openrouter.ai/api anthropic-proxy claude",
        "a key of OpenRouter has no variable for another address",
    ),
    (r"^make ", f"make -C {shlex.quote(str(ROOT))} -n ", "takes minutes"),
)


@dataclass(frozen=True)
class Special:
    """Requirements of one block, or the reason why it cannot run."""

    # why the block cannot run
    not_run: str = ""
    # files that the block needs: path in the working directory, content
    files: Mapping[str, str] = field(default_factory=dict)
    # commands that run before the block
    before: str = ""
    # False if the output differs each time
    compares_output: bool = True


# The key is the name of the block: the page and the first line, such as "docs/keys.md: make test".
SPECIAL: dict[str, Special] = {}

HINT = (
    f"Fix the page. If the command cannot run in a test, add it to NOT_RUN, REPLACED or SPECIAL "
    f"in {TEST_FILE}, with a reason. If only the output differs each time, write ... for the parts "
    f"that differ, or set compares_output=False in SPECIAL."
)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def _special(block: Block) -> Special:
    return SPECIAL.get(block.name, Special())


def _reason(block: Block) -> str:
    """Return the reason why a block does not run, or an empty string if it runs."""
    if _special(block).not_run:
        return _special(block).not_run
    for pattern, reason in NOT_RUN_TEXTS.items():
        if re.search(pattern, block.text):
            return reason
    return next((NOT_RUN[name] for name in block.programs if name in NOT_RUN), "")


def _groups() -> Iterator[tuple[Block, ...]]:
    """Yield the blocks that run in one shell."""
    running = [block for block in BLOCKS if not _reason(block)]
    for page in TUTORIALS:
        if steps := tuple(block for block in running if block.page == page):
            yield steps
    yield from ((block,) for block in running if block.page not in TUTORIALS)


GROUPS = [pytest.param(group, id=group[0].name) for group in _groups()]

_ADDRESS = re.compile(
    r"(?P<scheme>https?://)(?P<host>[\w.-]+)(?::(?P<url_port>\d+))?"
    r"|(?P<before>\b\w*PORT=|--port[ =]|-p |\blocalhost:|\b127\.0\.0\.1:|\b0\.0\.0\.0:)"
    r"(?P<port>\d{4,5})\b"
)
_LOOPBACK = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - the text of pages
_OLLAMA_PORT = 11434
# The default ports of upstreams: Ollama, vLLM, llama.cpp, SGLang, LM Studio, LiteLLM.
_UPSTREAM_PORTS = {_OLLAMA_PORT, 8000, 8080, 30000, 1234, 4000}


class Addresses:
    """Replaces the addresses of the pages by addresses of the test, consistently in all texts."""

    def __init__(self, place: Place, text: str, upstreams: contextlib.ExitStack) -> None:
        self._upstreams = upstreams
        self.by_origin: dict[str, PageUpstream] = {}
        self._ports = {3000: place.port}
        # A server of the page may use the default port of an upstream.
        self._own = {int(port) for port in re.findall(r"(?:\bPORT=|--port[ =]|-p )(\d+)", text)}

    def replace(self, text: str) -> str:
        """Return the text with addresses of this test."""
        return _ADDRESS.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        if match["before"]:
            return f"{match['before']}{self._port(int(match['port']))}"
        host, port = match["host"], int(match["url_port"] or 0)
        if host in _LOOPBACK and (port not in _UPSTREAM_PORTS or port in self._own):
            return f"{match['scheme']}{host}:{self._port(port)}" if port else match[0]
        return f"http://127.0.0.1:{self.upstream(match[0], port).port}"

    def upstream(self, origin: str, port: int = 0) -> PageUpstream:
        """Return the server that replaces an origin such as https://api.openai.com."""
        if origin not in self.by_origin:
            upstream = PageUpstream(is_ollama=port == _OLLAMA_PORT)
            self.by_origin[origin] = self._upstreams.enter_context(upstream.running())
        return self.by_origin[origin]

    def _port(self, port: int) -> int:
        if port not in self._ports:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self._ports[port] = int(free.getsockname()[1])
        return self._ports[port]


@dataclass
class Result:
    """The outcome of a command."""

    command: Command
    status: int | None  # None if the shell ended before the command
    output: str


class Reader:
    """A simulated reader with a separate home, who runs the commands of the pages in a shell."""

    def __init__(self, place: Place, blocks: tuple[Block, ...]) -> None:
        self.place = place
        self.blocks = blocks
        self.text = "\n".join(block.text for block in blocks)
        self._stack = contextlib.ExitStack()
        self.addresses = Addresses(place, self.text, self._stack)
        for name in ("foreground_server", "fake_claude"):
            shutil.copy(ROOT / "tests" / "support" / f"{name}.py", place.folder)
        python, folder = shlex.quote(sys.executable), shlex.quote(str(place.folder))
        place.install(
            "anthropic-proxy", f'exec {python} {folder}/foreground_server.py {folder} "$@"'
        )
        place.install("claude", f'exec {python} {folder}/fake_claude.py "$@"')
        # A checkout may belong to another user.
        (place.home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
        shutil.copy(ROOT / ".env.example", place.work)
        shutil.copytree(ROOT / "deploy", place.work / "deploy")

    def close(self) -> None:
        """Stop all servers."""
        foreground_server.stop(self.place.folder)
        self.place.clean()
        self._stack.close()

    def run(self) -> list[Result]:
        """Run all commands in one shell."""
        commands = [command for block in self.blocks for command in block.commands]
        script = self.place.folder / "commands.sh"
        end = "printf '\\036%s\\n' \"$?\""
        before = [self.addresses.replace(_special(block).before) for block in self.blocks]
        steps = [f"{self._translate(command)}\n{end}" for command in commands]
        lines = [*self._server(), *before, "printf '\\036'", *steps]
        script.write_text("\n".join(lines) + "\n")
        result = subprocess.run(
            ["/bin/sh", str(script)],
            cwd=self.place.work,
            env={
                **self.place.environment,
                **self._files(),
                "LOG_FORMAT": "console",
                "NO_COLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        started, _, rest = result.stdout.partition("\x1e")
        assert rest or not commands, started
        return list(self._results(commands, rest))

    def _results(self, commands: list[Command], rest: str) -> Iterator[Result]:
        for command in commands:
            output, _, rest = rest.partition("\x1e")
            status, _, rest = rest.partition("\n")
            yield Result(command, int(status) if status else None, output)

    def _translate(self, command: Command) -> str:
        text = command.text
        for pattern, replacement, _ in REPLACED:
            text = re.sub(pattern, replacement, text)
        return self.addresses.replace(text)

    def _server(self) -> Iterator[str]:
        """Yield the start of a server, if the commands use one and do not start it."""
        text = "\n".join([*(_special(block).before for block in self.blocks), self.text])
        uses = re.search(r":3000\b|^(\w+=\S+ )*claude\b|proxy (status|stop)", text, re.MULTILINE)
        if uses and not re.search(r"anthropic-proxy( -|$| >)", text, re.MULTILINE):
            port = self.addresses.upstream("https://openrouter.ai").port
            yield f"UPSTREAM_BASE_URL=http://127.0.0.1:{port} anthropic-proxy --daemon || exit 1"

    def _files(self) -> dict[str, str]:
        """Write the files that commands need, and return the variables that the files need."""
        files: dict[str, str] = {}
        for block in self.blocks:
            for language, content in block.earlier:
                if language in ("yaml", "toml") and f"upstreams.{language}" in block.text:
                    files.setdefault(f"upstreams.{language}", content)
            files |= _special(block).files
        for name, content in files.items():
            (self.place.work / name).write_text(self.addresses.replace(content))
        return {
            name: f"sk-{name.lower()}"
            for content in files.values()
            for name in re.findall(r"\$\{(\w+)\}", content)
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def _problem(result: Result, addresses: Addresses, *, compares: bool) -> str:
    """Return the difference of a result from the page, or an empty string without one."""
    shown = result.command.output or ()
    if result.status is None:
        return "the shell ended before the command"
    if result.status == 127 or (result.status and not shown):
        return f"exit code {result.status}"
    lines = iter(result.output.splitlines())
    for expected in filter(str.strip, shown if compares else ()):
        pattern = _pattern(addresses.replace(expected))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            return f"the output has no line (after the lines before it): {expected}"
    return ""


def _pattern(line: str) -> re.Pattern[str]:
    """Return a pattern for a line of output, with any numbers and ids, and any text for `...`."""
    parts = re.split(r"((?:sk-ant-proxy-|req_|msg_)[\w-]+|\.\.\.|…|\d+|\s+)", line.strip())
    return re.compile("".join(map(_part_pattern, parts)))


def _part_pattern(part: str) -> str:
    if part in {"...", "…"}:
        return ".*"
    if part.isdigit():
        return r"\d+"
    if part.isspace():
        return r"\s+"
    for prefix in ("sk-ant-proxy-", "req_", "msg_"):
        if part.startswith(prefix) and part != prefix:
            return prefix + r"[\w-]+"
    return re.escape(part)


def _check_programs(block: Block) -> None:
    unknown = sorted(set(block.programs) - PROGRAMS)
    assert not unknown, (
        f"{block.page}:{block.line} runs {', '.join(unknown)}: if every machine that runs the "
        f"tests has this program, add it to PROGRAMS in {TEST_FILE}. {HINT}"
    )


def _check_result(block: Block, result: Result, addresses: Addresses) -> None:
    problem = _problem(result, addresses, compares=_special(block).compares_output)
    if not problem and "claude" in result.command.programs and TEXT not in result.output:
        problem = "claude printed no response"
    assert not problem, (
        f"{block.page}:{block.line}: {result.command.text}\n{problem}\n"
        f"It printed:\n{result.output}\n{HINT}"
    )


def _check_servers(reader: Reader) -> None:
    upstreams = reader.addresses.by_origin.values()
    assert [problem for each in upstreams for problem in each.problems] == []
    if not re.search(r"MODEL_MAP|MODEL_ALIASES|_MODEL=", reader.text):
        models = {body["model"] for each in upstreams for body in each.bodies}
        assert set(re.findall(r"\bclaude --model (\S+)", reader.text)) <= models
    if re.search(r"anthropic-proxy stop\s*$", reader.text):
        assert not reader.place.is_running()
        assert refuses_connections(reader.place.address)


@pytest.mark.parametrize("blocks", GROUPS)
def test_commands_work_as_documented(place: Place, blocks: tuple[Block, ...]) -> None:
    for block in blocks:
        _check_programs(block)
    programs = {name for block in blocks for name in block.programs}
    if missing := [name for name in sorted(programs & TOOLS) if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    if "git" in programs and not (ROOT / ".git").exists():
        pytest.skip("there is no repository to clone")
    reader = Reader(place, blocks)
    with contextlib.closing(reader):
        results = iter(reader.run())
        for block in blocks:
            for _ in block.commands:
                _check_result(block, next(results), reader.addresses)
        _check_servers(reader)


def test_most_blocks_run() -> None:
    running = [block for group in _groups() for block in group]
    assert {block.page for block in running} >= {"README.md"}
    assert len(running) >= 4


def test_each_special_block_exists() -> None:
    assert SPECIAL.keys() <= {block.name for block in BLOCKS}


def test_the_parser_separates_commands_and_output() -> None:
    """Commands continue after a backslash, within quotation marks and in a heredoc."""
    commands = list(
        parse_commands(
            "$ a -x \\\n>  'b\nc'  # d\ne\n\n$ X=1 f <<END | g && h\nit's i\nEND\n$ # j\n"
        )
    )
    assert commands == [
        Command("a -x \\\n 'b\nc'  # d", ("e", "")),
        Command("X=1 f <<END | g && h\nit's i\nEND", ()),
    ]
    assert [command.programs for command in commands] == [["a"], ["f", "g", "h"]]
    (plain,) = parse_commands("# a\n\nb  # c\n")
    assert plain == Command("b  # c", None)


def test_an_unknown_program_is_rejected() -> None:
    block = Block("docs/page.md", 7, tuple(parse_commands("A=1 frobnicate | cat\n")), ())
    with pytest.raises(AssertionError, match=r"docs/page\.md:7 runs frobnicate: .*PROGRAMS"):
        _check_programs(block)


@pytest.mark.parametrize(
    ("shown", "status", "printed", "problem"),
    [
        (None, 0, "any text\n", ""),
        (None, 1, "", "exit code 1"),
        ((), 1, "", "exit code 1"),
        (("no such port",), 1, "no such port\n", ""),
        (("no such port",), 127, "no such port\n", "exit code 127"),
        (("PID 12  for 3 s", "", "... req_1 b"), 0, "x\nPID 9 for 44 s\na req_f00 b\n", ""),
        (("b", "a"), 0, "a\nb\n", "the output has no line (after the lines before it): a"),
        (("a",), None, "", "the shell ended before the command"),
    ],
)
def test_results_are_compared_with_the_page(
    place: Place, shown: tuple[str, ...] | None, status: int | None, printed: str, problem: str
) -> None:
    result = Result(Command("command", shown), status, printed)
    with contextlib.ExitStack() as upstreams:
        addresses = Addresses(place, "", upstreams)
        assert _problem(result, addresses, compares=True) == problem


def test_addresses_are_replaced(place: Place) -> None:
    page = "PORT=8080 http://localhost:3000/v1 https://api.example.com/v1 -p 8080 http://localhost:8080"
    with contextlib.ExitStack() as upstreams:
        addresses = Addresses(place, page, upstreams)
        port_setting, proxy, upstream, option, own_url = (
            addresses.replace(page).replace("-p ", "-p").split()
        )
        (server,) = addresses.by_origin.values()
    assert proxy == f"http://localhost:{place.port}/v1"
    assert upstream == f"http://127.0.0.1:{server.port}/v1"
    port = port_setting.removeprefix("PORT=")
    assert port not in ("8080", str(place.port))
    assert (option, own_url) == (f"-p{port}", f"http://localhost:{port}")


def test_the_demo_prints_the_quick_start() -> None:
    printed = run.CLAUDE_CODE.format(command="anthropic-proxy")
    commands = tuple(line.strip() for line in printed.splitlines())
    assert commands in {tuple(command.text for command in block.commands) for block in BLOCKS}


@pytest.mark.parametrize("on_path", [True, False])
def test_the_demo_prints_a_command_that_can_be_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, on_path: bool
) -> None:
    """The command also works if the environment of `make demo` is not activated."""
    monkeypatch.setenv("PATH", str(tmp_path))
    command = str(Path(sys.executable).with_name("anthropic-proxy"))
    if on_path:
        command = "anthropic-proxy"
        (tmp_path / command).write_text("#!/bin/sh\n")
        (tmp_path / command).chmod(0o755)
    assert run.format_claude_code_commands().splitlines()[-1] == f"  {command} stop"

"""Find Claude Code, choose its environment, and run it.

Source of the variables: https://code.claude.com/docs/en/settings, and recordings of its requests.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anthropic_proxy.config.network_variables import exempt_from_proxies
from anthropic_proxy.wire.json_codec import loads

INSTALL_HINT = """Claude Code is not installed, or `claude` is not on the PATH.
  Install it with one of these commands, then run this command again:
    curl -fsSL https://claude.ai/install.sh | bash       (macOS, Linux)
    irm https://claude.ai/install.ps1 | iex              (Windows PowerShell)
    npm install -g @anthropic-ai/claude-code             (needs Node.js)"""

# Where the installers of Claude Code put it, even if the directory is not on the PATH.
_INSTALL_PATHS = (".local/bin/claude", ".claude/local/claude")

# Each of these selects another server than ANTHROPIC_BASE_URL, or conflicts with the key.
# Tried with Claude Code 2.1.332.
_CONFLICTING_VARIABLES = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
)

# Without these, Claude Code requests models of Anthropic for the aliases and for small tasks.
_MODEL_SLOTS = (
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL",
)

_PERMISSION_OPTIONS = (
    "--permission-mode",
    "--dangerously-skip-permissions",
    "--allow-dangerously-skip-permissions",
)
# A single word is a subcommand, or a prompt that needs no tools.
_SUBCOMMAND = re.compile(r"[a-z][a-z-]*")

# Claude Code compacts a conversation 33,000 tokens before the end of the context, and its first
# request has about 20,000 tokens. Measured with versions 2.1.197 and 2.1.332.
MIN_CONTEXT_TOKENS = 64_000


def find_claude(environment: Mapping[str, str]) -> str | None:
    """Return the path of the program; None if it is not installed."""
    on_path = shutil.which("claude", path=environment.get("PATH"))
    if on_path:
        return on_path
    for path in _INSTALL_PATHS:
        candidate = Path(environment.get("HOME", ""), path)
        if candidate.is_absolute() and candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def claude_variables(base_url: str, token: str, model: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables for Claude Code with a model.

    model: an entry of `GET /v1/models`, or an object with only its `id`. Sizes that the upstream
    does not report are omitted: Claude Code then assumes a context of one million tokens.
    """
    name = str(model["id"])
    variables = {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_AUTH_TOKEN": token}
    variables["ANTHROPIC_MODEL"] = name
    variables |= dict.fromkeys(_MODEL_SLOTS, name)
    if model.get("max_input_tokens"):
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(model["max_input_tokens"])
    if model.get("max_tokens"):
        variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(model["max_tokens"])
    return variables


def claude_environment(
    variables: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the complete environment of Claude Code.

    Variables of the user for sizes and model slots have priority; other servers and keys have not.
    An HTTP proxy of the user gets no requests: Claude Code sends it those for 127.0.0.1 too, with
    the key and the conversation.
    """
    inherited = {
        name: value for name, value in environment.items() if name not in _CONFLICTING_VARIABLES
    }
    fixed = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL")
    host = urlsplit(variables["ANTHROPIC_BASE_URL"]).hostname or ""
    return {
        **variables,
        **inherited,
        **{name: variables[name] for name in fixed},
        **exempt_from_proxies(environment, host),
    }


def add_permission_mode(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the permission mode in which the user decides about commands.

    In the default mode of Claude Code, its auto mode, the model decides, which needs a verdict in a
    format that small models do not produce. A mode of the user has priority. Subcommands, such as
    `mcp`, have no mode.
    """
    is_subcommand = bool(arguments) and _SUBCOMMAND.fullmatch(arguments[0])
    has_mode = any(argument.startswith(_PERMISSION_OPTIONS) for argument in arguments)
    if is_subcommand or has_mode:
        return list(arguments)
    return ["--permission-mode", "default", *arguments]


def find_overriding_settings(environment: Mapping[str, str]) -> list[str]:
    """Return the variables in the user's settings of Claude Code that replace those of the command.

    Its `settings.json` has priority over the environment.
    """
    directory = environment.get("CLAUDE_CONFIG_DIR") or Path(environment.get("HOME", ""), ".claude")
    try:
        settings = loads(Path(directory, "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # Claude Code reports invalid settings itself
    variables = settings.get("env") if isinstance(settings, dict) else None
    if not isinstance(variables, dict):
        return []
    names = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL")
    return [name for name in (*names, *_CONFLICTING_VARIABLES) if variables.get(name)]


def run_claude(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run Claude Code in the terminal until it exits.

    Return its exit code, or 128 + n after signal n.
    """
    command = [program, *arguments]
    process = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - see `find_claude`
    with _forwarded_signals(process):
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _forwarded_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C to the process, which receives it from the terminal, and forward other ends."""

    def forward(number: int, _: object) -> None:
        process.send_signal(number)

    handlers: dict[int, Any] = {signal.SIGINT: lambda *_: None, signal.SIGTERM: forward}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = forward
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

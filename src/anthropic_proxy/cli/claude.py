"""The command `anthropic-proxy claude`: run Claude Code with the models of an upstream."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from anthropic_proxy.cli.launch import claude_code
from anthropic_proxy.cli.launch.discovery import (
    LOCAL_SERVERS,
    FoundUpstream,
    complete_url,
    find_key_variable,
    find_upstreams,
)
from anthropic_proxy.cli.launch.local_proxy import (
    ListError,
    LocalProxy,
    ProxyStart,
    configure_upstreams,
    find_daemon,
    read_probe_results,
    reuse_configuration,
    run_local_proxy,
)
from anthropic_proxy.cli.launch.model_choice import ChoiceError, choose_model
from anthropic_proxy.config.env_file import find_env_file, read_env_file
from anthropic_proxy.config.messages import show_value
from anthropic_proxy.config.settings import load_settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.demo.guard import ChildError
from anthropic_proxy.errors import ConfigError

# Each of these configures an upstream. Without one, the command looks for upstreams itself.
_CONFIGURATION_VARIABLES = ("UPSTREAM_BASE_URL", "ANTHROPIC_PROXY_BASE_URL", "CONFIG_FILE")

_NO_UPSTREAM = """no upstream found. Use one of these:
  anthropic-proxy claude --upstream http://localhost:11434    a server with an OpenAI-compatible API
  export OPENROUTER_API_KEY=sk-or-...                          a key of a hosted service
  UPSTREAM_BASE_URL=... in the environment or in .env          the configuration of the proxy
Servers on this machine are found on their default ports: {ports}"""


@click.command()
@click.option(
    "--upstream",
    metavar="URL",
    help="Use the server at this URL, and no .env file. Its key is read from the environment: "
    "the variable of the service, such as OPENROUTER_API_KEY, or UPSTREAM_API_KEY.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Model to use. Without it, the only model is used, or you choose one from a list.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="Read this .env file instead of the default ones.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENTS]...")
def claude(
    upstream: str | None, model: str | None, config: Path | None, arguments: tuple[str, ...]
) -> None:
    """Run Claude Code with the models of an upstream.

    The command finds the upstream: the configuration of the proxy, an API key in the environment
    (OPENROUTER_API_KEY, OPENAI_API_KEY, ...), or a server on this machine (Ollama, LM Studio,
    llama.cpp, vLLM). It uses the running daemon, or starts a proxy on a free loopback port that
    ends with Claude Code. Arguments after -- belong to Claude Code:

    \b
      anthropic-proxy claude --model qwen3:4b -- --continue
    """  # noqa: D301 - \b is the mark of click for lines that it must not join
    if upstream is not None and config is not None:
        raise click.UsageError("use either --upstream or --config")
    program = claude_code.find_claude(os.environ)
    if program is None:
        _fail(claude_code.INSTALL_HINT)
    try:
        with _open_proxy(upstream, config) as proxy:
            entry = _choose_entry(proxy, model)
            _report(proxy, entry)
            variables = claude_code.claude_variables(proxy.base_url, proxy.token, entry)
            environment = claude_code.claude_environment(variables, os.environ)
            with_mode = claude_code.add_permission_mode(arguments)
            code = _run_claude(program, with_mode, environment)
    except (ChildError, ChoiceError, ConfigError) as error:
        _fail(str(error))
    sys.exit(code)


def _run_claude(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return the exit code of Claude Code. Raises ChildError if it does not start."""
    try:
        return claude_code.run_claude(program, arguments, environment)
    except OSError as error:
        raise ChildError(f"{program} does not start: {error.strerror}") from error


@contextmanager
def _open_proxy(upstream: str | None, config: Path | None) -> Iterator[LocalProxy]:
    """Provide a proxy until the block ends: the daemon, or a child process.

    Raises ConfigError for an invalid configuration, ChildError if the proxy does not start, and
    ChoiceError if no upstream is found.
    """
    if upstream is None and config is None:
        running = find_daemon(os.environ.get("ANTHROPIC_AUTH_TOKEN") or "any-value")
        if running is not None and _accepts(running):
            yield running
            return
    with ExitStack() as stack:
        start = choose_start(stack, upstream, config)
        yield stack.enter_context(run_local_proxy(start))


def _accepts(running: LocalProxy) -> bool:
    """Return whether the daemon responds and accepts the key of the user."""
    try:
        running.fetch_models()
    except ListError as error:
        # With another failure, the daemon is the right proxy, and reports the failure.
        return error.status not in {0, 401, 403}
    return True


def choose_start(stack: ExitStack, upstream: str | None, config: Path | None) -> ProxyStart:
    """Return how to start the proxy: with its configuration, or with upstreams that are found."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="anthropic-proxy-"))
    if upstream is None:
        env_file = find_env_file(config)
        from_file = read_env_file(env_file)
        configured = from_file | dict(os.environ)
        if any(map(configured.get, _CONFIGURATION_VARIABLES)):
            token = _find_client_token(config)
            return reuse_configuration(os.environ, from_file, Path(directory), env_file, token)
    upstreams = _find_upstreams() if upstream is None else [_read_upstream(upstream)]
    return configure_upstreams(upstreams, os.environ, Path(directory))


def _read_upstream(text: str) -> FoundUpstream:
    """Return the upstream at a URL, or at `host:port`. Raises ChoiceError."""
    try:
        url = complete_url(text)
    except ValueError as error:
        raise ChoiceError(f"invalid --upstream: got {show_value(text)}, {error}") from error
    key_variable = find_key_variable(url, os.environ)
    # Next to another URL, UPSTREAM_API_KEY is the key of that upstream.
    if not key_variable and not any(map(os.environ.get, _CONFIGURATION_VARIABLES)):
        key_variable = "UPSTREAM_API_KEY" if os.environ.get("UPSTREAM_API_KEY") else ""
    return FoundUpstream("upstream", url, key_variable, url)


def _find_upstreams() -> list[FoundUpstream]:
    upstreams = find_upstreams(os.environ)
    if not upstreams:
        ports = ", ".join(f"{server.name} {server.port}" for server in LOCAL_SERVERS)
        raise ChoiceError(_NO_UPSTREAM.format(ports=ports))
    for each in upstreams:
        click.echo(f"✓ found {each.name} ({each.origin})", err=True)
    return upstreams


def _find_client_token(config: Path | None) -> str:
    """Return the key that the proxy forwards to its upstream; empty if it has a key of its own.

    Raises ConfigError, and ChoiceError if the proxy forwards keys and there is none.
    """
    routing = load_routing(load_settings(find_env_file(config)))
    if not any(upstream.key_passthrough for upstream in routing.upstreams):
        return ""
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"):
        if os.environ.get(name):
            return os.environ[name]
    raise ChoiceError(
        "the proxy forwards the client's key to the upstream: set ANTHROPIC_AUTH_TOKEN to it"
    )


def _choose_entry(proxy: LocalProxy, wanted: str | None) -> Mapping[str, Any]:
    """Return the entry of the chosen model in the list of the proxy. Raises ChoiceError."""
    try:
        entries = {str(entry["id"]): entry for entry in proxy.fetch_models()}
    except ListError as error:
        if wanted is None:
            raise ChoiceError(_explain_missing_list(proxy, error)) from error
        click.echo(f"! {error}", err=True)
        entries = {}
    is_interactive = sys.stdin.isatty() and sys.stderr.isatty()
    name = choose_model(list(entries), wanted, is_interactive=is_interactive)
    return entries.get(name, {"id": name})


def _explain_missing_list(proxy: LocalProxy, error: ListError) -> str:
    lines = [str(error)]
    if proxy.pid is None:
        lines += read_probe_results(Path(proxy.log))
    lines.append("If the upstream has no list of models, name one with --model")
    return "\n  ".join(lines)


def _report(proxy: LocalProxy, entry: Mapping[str, Any]) -> None:
    """Print what is used, and what will probably fail."""
    source = f"the daemon at {proxy.base_url} (PID {proxy.pid})"
    if proxy.pid is None:
        source = f"a proxy at {proxy.base_url} (log: {proxy.log})"
    click.echo(f"✓ {entry['id']} through {source}", err=True)
    context = entry.get("max_input_tokens")
    if isinstance(context, int) and context < claude_code.MIN_CONTEXT_TOKENS:
        click.echo(
            f"! {entry['id']} has a context of {context:,} tokens, but Claude Code needs "
            f"{claude_code.MIN_CONTEXT_TOKENS:,}: choose another model, or configure a larger "
            "context in the server (Ollama: OLLAMA_CONTEXT_LENGTH=65536)",
            err=True,
        )
    for name in claude_code.find_overriding_settings(os.environ):
        click.echo(
            f"! your settings.json of Claude Code sets {name}, which has priority over this "
            "command: remove it there",
            err=True,
        )


def _fail(reason: str) -> NoReturn:
    click.echo(f"✗ {reason}", err=True)
    sys.exit(1)

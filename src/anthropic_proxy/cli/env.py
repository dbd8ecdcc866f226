"""The command `anthropic-proxy env`: print the environment for an agent."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from anthropic_proxy.cli.launch.claude_code import claude_variables
from anthropic_proxy.cli.launch.discovery import complete_url
from anthropic_proxy.cli.launch.local_proxy import (
    LOOPBACK_HOSTS,
    ListError,
    LocalProxy,
    find_daemon,
)
from anthropic_proxy.cli.launch.model_choice import ChoiceError, choose_model
from anthropic_proxy.config.network_variables import exempt_from_proxies, proxy_addresses

_NO_PROXY = """no proxy is running: start one with `anthropic-proxy --daemon`, or use --url.
  For Claude Code, `anthropic-proxy claude` does all of this."""


def _sdk_variables(base_url: str, token: str, model: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of the Anthropic SDKs, and of the agents that use them."""
    del model  # programs name it in each request
    return {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": token}


def _litellm_variables(base_url: str, token: str, model: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of LiteLLM, which Aider and OpenHands use.

    Source: https://docs.litellm.ai/docs/providers/anthropic, https://aider.chat/docs/config/options
    """
    variables = {"ANTHROPIC_API_BASE": base_url, "ANTHROPIC_API_KEY": token}
    variables["AIDER_MODEL"] = variables["LLM_MODEL"] = f"anthropic/{model['id']}"
    return variables


def _goose_variables(base_url: str, token: str, model: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of Goose.

    Source: https://block.github.io/goose/docs/getting-started/providers
    """
    variables = {"GOOSE_PROVIDER": "anthropic", "GOOSE_MODEL": str(model["id"])}
    return variables | {"ANTHROPIC_HOST": base_url, "ANTHROPIC_API_KEY": token}


class _Agent(NamedTuple):
    # The base URL, the key, and the entry of the model -> variables.
    variables: Callable[[str, str, Mapping[str, Any]], dict[str, str]]
    needs_model: bool


_AGENTS: Mapping[str, _Agent] = {
    "claude": _Agent(claude_variables, needs_model=True),
    "sdk": _Agent(_sdk_variables, needs_model=False),
    "litellm": _Agent(_litellm_variables, needs_model=True),
    "goose": _Agent(_goose_variables, needs_model=True),
}


def _quote_posix(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _quote_fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


# PowerShell ends a string at typographic quotes too. Source: about_Quoting_Rules.
_POWERSHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")


def _quote_powershell(value: str) -> str:
    return "'" + _POWERSHELL_QUOTES.sub(r"\g<0>\g<0>", value) + "'"


# Returns the command that sets a variable.
_SHELLS: Mapping[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={_quote_posix(value)}",
    "fish": lambda name, value: f"set -gx {name} {_quote_fish(value)}",
    "powershell": lambda name, value: f"$env:{name} = {_quote_powershell(value)}",
}


def format_variable(shell: str, name: str, value: str) -> str:
    """Return the command of a shell, a key of `_SHELLS`, that sets a variable."""
    return _SHELLS[shell](name, value)


@click.command()
@click.option(
    "--agent",
    type=click.Choice(tuple(_AGENTS)),
    default="claude",
    show_default=True,
    help="Program to configure: claude (Claude Code), sdk (the Anthropic SDKs), litellm (also "
    "Aider and OpenHands) or goose.",
)
@click.option(
    "--shell",
    type=click.Choice(tuple(_SHELLS)),
    help="Shell that reads the output.  [default: the shell in SHELL; powershell on Windows]",
)
@click.option("--model", metavar="NAME", help="Model to use; required if there are several.")
@click.option("--url", metavar="URL", help="Address of the proxy.  [default: the daemon]")
def env(agent: str, shell: str | None, model: str | None, url: str | None) -> None:
    """Print the environment with which an agent uses the running proxy.

    \b
      eval "$(anthropic-proxy env --model qwen3:4b)"                sh, bash, zsh
      anthropic-proxy env --model qwen3:4b | source                 fish
      anthropic-proxy env --model qwen3:4b | Invoke-Expression      PowerShell

    The key is that of ANTHROPIC_AUTH_TOKEN or ANTHROPIC_API_KEY, else any-value.
    """  # noqa: D301 - \b is the mark of click for lines that it must not join
    token = os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY")
    proxy = _find_proxy(url, token or "any-value")
    if proxy is None:
        raise click.ClickException(_NO_PROXY)
    try:
        entries = {str(entry["id"]): entry for entry in proxy.fetch_models()}
    except ListError as error:
        if error.status in {401, 403}:
            raise click.ClickException(f"{error}: set ANTHROPIC_AUTH_TOKEN to a key") from error
        if model is None and _AGENTS[agent].needs_model:
            raise click.ClickException(f"{error}: name a model with --model") from error
        click.echo(f"! {error}", err=True)
        entries = {}
    entry = _choose_entry(entries, model, is_required=_AGENTS[agent].needs_model)
    variables = _AGENTS[agent].variables(proxy.base_url, proxy.token, entry)
    variables |= _exempt_from_proxies(proxy.base_url)
    shell = shell or _detect_shell(os.environ)
    for name, value in variables.items():
        click.echo(format_variable(shell, name, value))


def _exempt_from_proxies(base_url: str) -> dict[str, str]:
    """Return the variables that exempt a server on this machine from the user's HTTP proxy."""
    host = urlsplit(base_url).hostname
    if host not in LOOPBACK_HOSTS or not proxy_addresses(os.environ):
        return {}
    return exempt_from_proxies(os.environ, host)


def _find_proxy(url: str | None, token: str) -> LocalProxy | None:
    if url is None:
        return find_daemon(token)
    try:
        base_url = complete_url(url)
    except ValueError as error:
        raise click.BadParameter(f"got {url!r}, {error}", param_hint="--url") from error
    return LocalProxy(base_url.rstrip("/").removesuffix("/v1"), token, log="")


def _choose_entry(
    entries: Mapping[str, Mapping[str, Any]], wanted: str | None, *, is_required: bool
) -> Mapping[str, Any]:
    """Return the entry of the chosen model in the list of the proxy. Raises ClickException."""
    if wanted is None and not is_required:
        return {}
    try:
        name = choose_model(list(entries), wanted, is_interactive=False)
    except ChoiceError as error:
        raise click.ClickException(str(error)) from error
    return entries.get(name, {"id": name})


def _detect_shell(environment: Mapping[str, str]) -> str:
    if sys.platform == "win32":
        return "powershell"
    name = PurePath(environment.get("SHELL", "")).name
    return {"fish": "fish", "pwsh": "powershell"}.get(name, "sh")

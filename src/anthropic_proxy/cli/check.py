"""The command `anthropic-proxy check`: find faults of the configuration, upstream and model."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anthropic_proxy.cli.claude import choose_start
from anthropic_proxy.cli.launch.claude_code import MIN_CONTEXT_TOKENS, find_claude
from anthropic_proxy.cli.launch.local_proxy import (
    ListError,
    LocalProxy,
    read_events,
    run_local_proxy,
)
from anthropic_proxy.cli.launch.model_checks import MODEL_CHECKS, Result, State, run_model_check
from anthropic_proxy.cli.launch.model_choice import ChoiceError, choose_model
from anthropic_proxy.config.env_file import find_env_file, read_env_file
from anthropic_proxy.config.env_notices import all_variables
from anthropic_proxy.demo.guard import ChildError
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.wire.json_codec import dumps

_SIGNS: Mapping[State, str] = {"ok": "✓", "warning": "!", "failed": "✗"}
_NAME_WIDTH = 15
# Names of models in one line.
_SHOWN_MODELS = 5


@click.command()
@click.option("--upstream", metavar="URL", help="Check the server at this URL, and no .env file.")
@click.option(
    "--model", metavar="NAME", help="Model to check; required if the upstream has several."
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="Read this .env file instead of the default ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each check.")
def check(upstream: str | None, model: str | None, config: Path | None, *, as_json: bool) -> None:
    """Check the configuration, the upstream, and what a model can do.

    The command starts a proxy on a free loopback port, and sends requests for text, a stream, tool
    calls, an image, a JSON schema and reasoning. The upstream may charge for about 3,000 tokens.
    The exit code is 1 if Claude Code cannot work with the model.
    """
    if upstream is not None and config is not None:
        raise click.UsageError("use either --upstream or --config")
    has_failed = False
    for result in _run_checks(upstream, model, config):
        has_failed = has_failed or result.state == "failed"
        if as_json:
            click.echo(dumps(asdict(result)))
        else:
            click.echo(f"{_SIGNS[result.state]} {result.name:{_NAME_WIDTH}} {result.text}")
    sys.exit(1 if has_failed else 0)


def _run_checks(
    upstream: str | None, wanted_model: str | None, config: Path | None
) -> Iterator[Result]:
    """Yield the results, each as soon as it is known."""
    if upstream is None:
        yield from _describe_settings(config)
    with ExitStack() as stack:
        try:
            start = choose_start(stack, upstream, config)
            proxy = stack.enter_context(run_local_proxy(start))
        except (ChildError, ChoiceError, ConfigError) as error:
            yield Result("configuration", "failed", str(error))
            return
        yield from _check_models(proxy, wanted_model)
    if find_claude(os.environ) is None:
        yield Result("Claude Code", "warning", "not installed, or not on the PATH")


def _describe_settings(config: Path | None) -> Iterator[Result]:
    """Yield the source of each setting, without its value, which may be a secret."""
    env_file = find_env_file(config)
    in_file = {name.upper() for name, value in read_env_file(env_file).items() if value}
    in_environment = {name.upper() for name, value in os.environ.items() if value}
    names = sorted(set(all_variables()) & (in_file | in_environment))
    if not names:
        yield Result("configuration", "ok", "no setting is set")
    for name in names:
        source = "the environment" if name in in_environment else str(env_file)
        also = f", which overrides {env_file}" if name in in_file & in_environment else ""
        yield Result("configuration", "ok", f"{name} is set in {source}{also}")


def _check_models(proxy: LocalProxy, wanted: str | None) -> Iterator[Result]:
    try:
        entries = {str(entry["id"]): entry for entry in proxy.fetch_models()}
    except ListError as error:
        yield from _report_start(proxy)
        hint = "" if wanted else "; if the upstream has no list, name a model with --model"
        yield Result("models", "warning" if wanted else "failed", f"{error}{hint}")
        entries = {}
        if wanted is None:
            return
    else:
        yield from _report_start(proxy)
        yield Result("models", "ok", _describe_models(list(entries)))
    try:
        name = choose_model(list(entries), wanted, is_interactive=False)
    except ChoiceError as error:
        yield Result("models", "failed", str(error))
        return
    context = _check_context(entries.get(name, {}))
    yield context
    results = [context]
    for each in MODEL_CHECKS:
        result = run_model_check(each, proxy, name)
        results.append(result)
        yield result
        if result.state == "failed" and each is MODEL_CHECKS[0]:
            break  # the others would fail for the same reason
    yield _judge(name, results)


def _report_start(proxy: LocalProxy) -> Iterator[Result]:
    """Yield what the proxy has logged: probable mistakes in settings, and the upstreams."""
    for event in read_events(Path(proxy.log), "setting ignored", "key looks wrong"):
        place = " line ".join(str(event[key]) for key in ("file", "line") if key in event)
        yield Result("configuration", "warning", f"{place}: {event['reason']}".removeprefix(": "))
    latest: dict[str, dict[str, Any]] = {}
    for event in read_events(Path(proxy.log), "upstream probed"):
        latest[str(event.get("url"))] = event
    for url, event in latest.items():
        hint = f"; {event['hint']}" if event.get("hint") else ""
        state: State = "failed" if hint else "ok"
        yield Result("upstream", state, f"{url}: {event.get('result')}{hint}")


def _describe_models(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_MODELS else ""
    return f"{len(names)}: {', '.join(names[:_SHOWN_MODELS])}{more}"


def _check_context(entry: Mapping[str, Any]) -> Result:
    size = entry.get("max_input_tokens")
    if not isinstance(size, int):
        text = "the upstream does not report it: set CLAUDE_CODE_MAX_CONTEXT_TOKENS"
        return Result("context", "warning", text)
    if size < MIN_CONTEXT_TOKENS:
        text = f"{size:,} tokens, but Claude Code needs {MIN_CONTEXT_TOKENS:,}: configure a larger "
        text += "context in the server (Ollama: OLLAMA_CONTEXT_LENGTH=65536)"
        return Result("context", "failed", text)
    return Result("context", "ok", f"{size:,} tokens")


def _judge(model: str, results: Sequence[Result]) -> Result:
    if any(result.state == "failed" for result in results):
        return Result("verdict", "failed", f"{model} cannot run Claude Code")
    return Result("verdict", "ok", f"{model} can run Claude Code")

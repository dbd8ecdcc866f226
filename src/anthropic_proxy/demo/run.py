"""The command `anthropic-proxy demo`: run a real model, the proxy and the official SDK.

Model and proxy are context managers, so they stop when the demo ends, fails or receives a signal;
`guard` handles SIGKILL. Every failure is reported here, with its reason on stderr and exit code 1.
"""

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from anthropic_proxy.demo import embedded, figures, measure, proxied, steps
from anthropic_proxy.demo.embedded import MODEL, DemoUnavailable, Server
from anthropic_proxy.demo.guard import ChildError
from anthropic_proxy.demo.screen import Screen
from anthropic_proxy.demo.steps import StepError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE_SECONDS = 0.2
WATCH_SECONDS = 0.5

# The same as in the README. The server runs in the background, because Claude Code uses the
# terminal.
CLAUDE_CODE = (
    "  UPSTREAM_BASE_URL=https://openrouter.ai/api UPSTREAM_API_KEY=sk-or-... {command} --daemon\n"
    "  ANTHROPIC_BASE_URL=http://127.0.0.1:3000 ANTHROPIC_AUTH_TOKEN=any-value "
    "claude --model qwen/qwen3-coder\n"
    "  {command} stop"
)


class StopSignal(BaseException):
    """SIGINT or SIGTERM arrived. This is not an Exception, so that libraries do not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def run_demo(*, serve: bool) -> int:
    """Run the demo and return the exit code. Call this in the main thread: it handles signals.

    serve: keep the model and the proxy running until Ctrl-C or SIGTERM. Exit codes: 0 success,
    1 failure (with the reason on stderr), 128 + n if signal n arrived before the end.
    """
    screen = Screen(sys.stdout)
    try:
        with _raise_on_stop_signals():
            _run_servers(screen, serve=serve)
    except (StopSignal, DemoUnavailable, ChildError, StepError) as error:
        screen.end_line()
        sys.stderr.write(f"anthropic-proxy demo: {error}\n")
        if isinstance(error, StopSignal):
            return 128 + error.number
        return 1
    return 0


def _run_servers(screen: Screen, *, serve: bool) -> None:
    embedded.require("anthropic")
    threading.Thread(target=steps.preload_sdk, daemon=True).start()
    show_model = partial(screen.show_waiting, "Starting SmolLM2-135M on llama.cpp's server")
    show_proxy = partial(screen.show_waiting, "Starting the proxy in front of it")
    with embedded.run_model_server(progress=show_model) as model:
        screen.show_ready()
        with proxied.run_proxy(model.base_url, show_proxy) as proxy:
            screen.show_ready()
            screen.write_line(
                f"anthropic SDK -> proxy {proxy.base_url} -> "
                f"OpenAI-compatible server {model.base_url}"
            )
            run_steps(screen, model, proxy)
            if serve:
                _keep_running(screen, model, proxy)


def run_steps(screen: Screen, model: Server, proxy: Server) -> None:
    """Run all steps and print the figures. Raises StepError, or ChildError if a server exited."""
    step = partial(_explain_failures, (model, proxy))
    with step("the SDK"):
        client = steps.connect(proxy.base_url)
    with client:
        screen.write_title("1. A streamed response")
        screen.write(f"  > {steps.STREAM_PROMPT}\n  ")
        with step("streamed response"):
            stream = steps.stream_response(client, screen.write)
        screen.end_line()
        screen.write_title("2. A structured response that fits a JSON schema")
        screen.write_line(f"  > {steps.STRUCTURED_PROMPT}")
        with step("structured response"):
            screen.write_line(f"  {json.dumps(steps.request_structured(client))}")
        screen.write_title(
            "3. A response that uses a tool result (a replayed tool_use and tool_result)"
        )
        screen.write_line(f"  > {steps.TOOL_PROMPT}")
        screen.write_line(
            f"  {steps.TOOL['name']}({json.dumps(steps.TOOL_INPUT)}) = {steps.TOOL_RESULT!r}"
        )
        with step("response that uses a tool result"):
            screen.write_line(f"  {steps.replay_tool_call(client)}")
    with step("figures"):
        report = _format_figures(stream, measure.measure_pairs(model.base_url, proxy.base_url))
    screen.write_title("Run Claude Code with a real upstream")
    screen.write_line(format_claude_code_commands())
    screen.write_title("Measurements of this run, on this machine with this small model")
    screen.write_line(report)


def format_claude_code_commands() -> str:
    """Return the shell commands that run Claude Code with a real upstream."""
    installed = Path(sys.executable).with_name("anthropic-proxy")
    is_on_path = shutil.which("anthropic-proxy") is not None
    return CLAUDE_CODE.format(command="anthropic-proxy" if is_on_path else installed)


def _format_figures(stream: figures.StreamTimes, pairs: list[tuple[float, float]]) -> str:
    first_token_ms = figures.compute_first_token_ms(stream)
    rate = figures.compute_tokens_per_second(stream)
    added_ms = figures.compute_added_ms(pairs)
    return (
        f"  time to first token  {first_token_ms:6.0f} ms, through the proxy\n"
        f"  tokens per second    {rate:6.0f}\n"
        f"  the proxy adds       {added_ms:6.1f} ms to a request (median of {len(pairs)} pairs)"
    )


@contextmanager
def _explain_failures(servers: tuple[Server, ...], name: str) -> Iterator[None]:
    """Convert the failure of a step to ChildError if a server has exited, else to StepError."""
    try:
        yield
    except Exception as error:
        # A server that failed needs a moment to exit.
        time.sleep(NOTICE_SECONDS)
        for server in servers:
            server.child.check()
        reason = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
        raise StepError(f"{name}: {' '.join(reason.split())}") from error


def _keep_running(screen: Screen, model: Server, proxy: Server) -> None:
    question = {"role": "user", "content": "What is HTTP?"}
    body = {"model": MODEL, "max_tokens": 60, "stream": True, "messages": [question]}
    screen.write_title("Both run until Ctrl-C")
    screen.write_line(
        f"  proxy  {proxy.base_url}  (Anthropic Messages API; its log: {proxy.child.log})"
    )
    screen.write_line(
        f"  model  {model.base_url}  (OpenAI Chat Completions API; its log: {model.child.log})"
    )
    screen.write_line(
        f"  curl -N {proxy.base_url}/v1/messages "
        f"-H 'content-type: application/json' -d '{json.dumps(body)}'"
    )
    try:
        while True:
            model.child.check()
            proxy.child.check()
            time.sleep(WATCH_SECONDS)
    except StopSignal:
        screen.end_line()
        screen.write_line("stopping both")


@contextmanager
def _raise_on_stop_signals() -> Iterator[None]:
    """Raise StopSignal on SIGINT and SIGTERM until the block ends."""
    previous = {number: signal.signal(number, _raise_stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise_stop(number: int, _frame: FrameType | None) -> None:
    raise StopSignal(number)

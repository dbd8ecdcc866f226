"""The command line: `anthropic-proxy [OPTIONS] [claude|env|check|status|stop|demo|keys]`.

Exit codes: 0 success, 1 failure (with the reason on standard error), 2 invalid command line.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click

from anthropic_proxy import __version__
from anthropic_proxy.cli import keys
from anthropic_proxy.cli.check import check
from anthropic_proxy.cli.claude import claude
from anthropic_proxy.cli.env import env
from anthropic_proxy.cli.start_messages import StartMessages, read_log_format
from anthropic_proxy.config.env_file import find_env_file
from anthropic_proxy.config.keys_file import load_api_keys
from anthropic_proxy.config.network_variables import export_network_variables
from anthropic_proxy.config.settings import Settings, load_settings
from anthropic_proxy.config.upstreams import load_routing, read_text
from anthropic_proxy.config.yaml_toml import CONFIG_ENDINGS
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.server import daemon, early_signals
from anthropic_proxy.server.sockets import ListenError
from anthropic_proxy.server.supervisor import WorkerError

# Longer than the default DRAIN_TIMEOUT.
_STOP_TIMEOUT_SECONDS = 330

# File descriptors of a server without workers: those of the process itself, and two connections
# (client and upstream) for each of about twenty requests.
_MIN_OPEN_FILES = 64

_PID_FILE = click.option(
    "--pid-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PID file of the daemon.  [default: anthropic-proxy.pid in $XDG_RUNTIME_DIR, else in /tmp "
    "with your user id]",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    metavar="FILE",
    help="Read this .env file instead of ./.env, ~/.anthropic-proxy.env or "
    "/etc/anthropic-proxy/.env. A .yaml, .yml or .toml file is used as CONFIG_FILE.",
)
@click.option(
    "-d",
    "--debug",
    is_flag=True,
    default=None,
    help="Also log each routed request, and all fields of finished requests: ids, upstream, "
    "outcome.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    default=None,
    help="Also log all bodies, with keys redacted and images truncated.",
)
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port to listen on (0: any free port).  [default: PORT, else 3000]",
)
@click.option(
    "--host",
    metavar="H",
    help="Address to listen on.  [default: HOST, else 0.0.0.0 with client keys and 127.0.0.1 "
    "without]",
)
@click.option(
    "--daemon", "background", is_flag=True, help="Run as a daemon, in the background (Unix)."
)
@_PID_FILE
@click.version_option(
    __version__, "-V", "--version", prog_name="anthropic-proxy", message="%(prog)s %(version)s"
)
@click.pass_context
def cli(  # noqa: PLR0913, PLR0917 - one parameter for each option
    context: click.Context,
    config: Path | None,
    debug: bool | None,
    verbose: bool | None,
    port: int | None,
    host: str | None,
    background: bool,
    pid_file: Path | None,
) -> None:
    """Serve the Anthropic API with the models of OpenAI-compatible servers.

    Anthropic clients (Claude Code, the SDKs) use the proxy like the Anthropic API. The proxy
    translates their requests for any server with an OpenAI-compatible API. Set UPSTREAM_BASE_URL to
    its address, in the environment or in a .env file:

    \b
      UPSTREAM_BASE_URL=http://localhost:11434 anthropic-proxy

    docs/README.md of the project lists the documentation.
    """  # noqa: D301 - \b is the mark of click for lines that it must not join
    if context.invoked_subcommand is not None:
        early_signals.restore_handlers()
        _reject_server_options(context)
        return
    flags: dict[str, object] = {"DEBUG": debug, "VERBOSE": verbose, "PORT": port, "HOST": host}
    if config is not None and config.suffix.lower() in CONFIG_ENDINGS:
        flags["CONFIG_FILE"], config = config, None
    env_file = find_env_file(config)
    # `--daemon` exits at once and writes for people. A server writes to its log, perhaps in JSON.
    messages = StartMessages(read_log_format(env_file), is_server=not background)
    settings = _load_settings(env_file, flags, messages)

    def reload_settings() -> Settings:
        return load_settings(find_env_file(config), flags)

    if background:
        _start_daemon(settings, pid_file, reload_settings)
    else:
        messages.info("server starting", "✓ Starting proxy in foreground mode", version=__version__)
        _serve_in_foreground(settings, reload_settings, messages)


@cli.command()
@_PID_FILE
@click.pass_context
def status(context: click.Context, pid_file: Path | None) -> None:
    """Show the daemon: address, upstreams, uptime, log file."""
    _require_unix("status")
    pid_file = _choose_pid_file(context, pid_file)
    daemon_status = _read_status(pid_file)
    if daemon_status.running is None:
        _fail("Daemon is not running", _describe_not_running(daemon_status, pid_file))
    click.echo(f"✓ Daemon is running (PID: {daemon_status.running})\n  PID file: {pid_file}")
    details = daemon.ServerDetails.read(pid_file, daemon_status.running)
    if details is not None:
        click.echo(f"  Listening on: {details.address}")
        probes = daemon.Probes.read(pid_file, daemon_status.running)
        _show_upstreams(probes.lines if probes else details.upstreams)
        click.echo(f"  Running for: {_format_duration(time.time() - details.started)}")
        click.echo(f"  Log file: {details.log}")


@cli.command()
@_PID_FILE
@click.pass_context
def stop(context: click.Context, pid_file: Path | None) -> None:
    """Stop the daemon. It waits up to DRAIN_TIMEOUT seconds for open requests."""
    _require_unix("stop")
    pid_file = _choose_pid_file(context, pid_file)
    daemon_status = _read_status(pid_file)
    try:
        if daemon_status.stale is not None:
            daemon.PidFile.acquire(pid_file).release()
        if daemon_status.running is None:
            _fail("Daemon is not running", _describe_not_running(daemon_status, pid_file))
        daemon.stop_daemon(pid_file, daemon_status.running, _STOP_TIMEOUT_SECONDS, _report_waiting)
    except daemon.DaemonError as error:
        _fail(str(error))
    click.echo(f"✓ Daemon stopped (PID: {daemon_status.running})")


def _report_waiting() -> None:
    click.echo(
        "… Waiting for open requests to finish; run `anthropic-proxy stop` again to cancel them",
        err=True,
    )


@cli.command()
@click.option("--serve", is_flag=True, help="Keep the model and the proxy running until Ctrl-C.")
def demo(serve: bool) -> None:
    """Run a demo with a small real model on the CPU of this machine."""
    from anthropic_proxy.demo.run import run_demo  # only this command needs it

    sys.exit(run_demo(serve=serve))


cli.add_command(check)
cli.add_command(claude)
cli.add_command(env)
cli.add_command(keys.keys)


def _reject_server_options(context: click.Context) -> None:
    """Raise UsageError if options of the server precede another command."""
    options = []
    for option in context.command.params:
        has_value = option.name is not None and context.params.get(option.name)
        if has_value and option.name != "pid_file":
            options.append(option.opts[-1])
    if options:
        raise click.UsageError(
            f"{', '.join(options)}: option of the server, not of the command "
            f"{context.invoked_subcommand!r}"
        )


def _choose_pid_file(context: click.Context, pid_file: Path | None) -> Path:
    """Return the PID file from the option (before or after the command), else the default file."""
    group_value: Path | None = context.parent.params["pid_file"] if context.parent else None
    return pid_file or group_value or daemon.find_pid_file(os.environ)


def _format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as `1 d 2 h`."""
    remaining = max(int(seconds), 0)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, remaining = divmod(remaining, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _load_settings(
    env_file: Path | None, flags: dict[str, object], messages: StartMessages
) -> Settings:
    """Load the settings and the files that they name; report problems, and exit on errors."""
    messages.report_env_file(env_file)
    try:
        # Check before reading files, and again when the number of workers is known.
        _reject_low_file_limit(workers=1)
        settings = load_settings(env_file, flags)
        _reject_low_file_limit(settings.workers)
        routing = load_routing(settings, warn=messages.report_deprecation)
        load_api_keys(settings, read_text)
    except ConfigError as error:
        messages.report_ignored_settings(env_file, None)
        messages.report_failure(str(error))
        sys.exit(1)
    messages.report_ignored_settings(env_file, settings.config_file)
    messages.report_suspicious_keys(routing.upstreams, is_file=settings.config_file is not None)
    export_network_variables(settings.environment)
    return settings


def _reject_low_file_limit(workers: int) -> None:
    """Raise ConfigError if the limit of open files (RLIMIT_NOFILE) is too low for a server."""
    if sys.platform == "win32":
        return
    import resource  # not available on Windows

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _MIN_OPEN_FILES + workers
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ConfigError(
            f"the limit of open files and sockets is {limit}, but at least {needed} are needed: "
            f"raise the limit (`ulimit -n {needed}`, LimitNOFILE of systemd)"
        )


def _serve_in_foreground(
    settings: Settings, reload_settings: Callable[[], Settings], messages: StartMessages
) -> None:
    try:
        _serve(settings, reload_settings)
    except (ConfigError, ListenError, WorkerError) as error:
        messages.report_failure(str(error))
        sys.exit(1)


def _serve(
    settings: Settings,
    reload_settings: Callable[[], Settings],
    reporter: daemon.Reporter | None = None,
) -> None:
    """Listen and serve. For arguments and exceptions see `run_server`."""
    # Imported here because it takes most of a second, which other commands do not need.
    from anthropic_proxy.server.main import run_server

    if reporter is None:
        run_server(settings, lambda _: None, reload_settings)
    else:
        run_server(settings, reporter.report_address, reload_settings, reporter.report_probes)


def _start_daemon(
    settings: Settings, pid_file: Path | None, reload_settings: Callable[[], Settings]
) -> None:
    _require_unix("mode")
    pid_path = pid_file or _choose_free_pid_file()
    log_file = daemon.choose_log_file(os.environ)
    upstreams = [upstream.base_url for upstream in load_routing(settings).upstreams]
    # The output of the daemon is its log.
    messages = StartMessages(settings.log_format, is_server=True)
    try:
        started = daemon.start_daemon(
            lambda reporter: _serve(settings, reload_settings, reporter),
            pid_path,
            log_file,
            upstreams,
            log_failure=messages.report_failure,
        )
    except daemon.DaemonError as error:
        _fail(str(error))
    click.echo(f"✓ Daemon started, listening on {started.address}")
    click.echo(f"  PID file: {pid_path}\n  Log file: {log_file}")
    if started.probes is None:
        click.echo("  Upstream: not probed yet; `anthropic-proxy status` shows the result")
    else:
        _show_upstreams(started.probes)


def _show_upstreams(lines: Sequence[str]) -> None:
    """Print a line for each upstream."""
    for line in lines:
        # Parts of the lines come from upstreams, so escape control characters.
        shown_line = line if line.isprintable() else repr(line)
        click.echo(f"  Upstream: {shown_line}")


def _choose_free_pid_file() -> Path:
    """Return the default PID file to write; exit if a server runs with a default PID file."""
    pid_path = daemon.find_pid_file(os.environ)
    pid = _read_status(pid_path).running
    if pid is not None:
        _fail(f"Daemon is already running (PID: {pid}) with PID file {pid_path}")
    return daemon.default_pid_files(os.environ)[0]


def _read_status(pid_file: Path) -> daemon.Status:
    try:
        return daemon.read_status(pid_file)
    except daemon.DaemonError as error:
        _fail(str(error))


def _describe_not_running(daemon_status: daemon.Status, pid_file: Path) -> str:
    if daemon_status.stale is not None:
        return f"Stale PID file found: {pid_file} (PID: {daemon_status.stale})"
    if daemon_status.invalid is not None:
        return f"Invalid PID in file: {pid_file} ({daemon_status.invalid!r})"
    return f"PID file not found: {pid_file}"


def _require_unix(feature: str) -> None:
    if sys.platform == "win32":
        _fail(f"Daemon {feature} is only supported on Unix systems")


def _fail(reason: str, detail: str = "") -> NoReturn:
    """Print the reason for a failure, and exit with code 1."""
    click.echo(f"✗ {reason}", err=True)
    if detail:
        click.echo(f"  {detail}", err=True)
    sys.exit(1)

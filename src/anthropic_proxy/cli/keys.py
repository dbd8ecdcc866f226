"""The commands `anthropic-proxy keys create|list|revoke`, which edit the file of API keys.

A key is printed only when it is created, because the file stores its hash. A running server reloads
the file after a change. A server rejects a file with an invalid key and keeps its previous keys, so
the commands check each change with the settings of the server.
"""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError

from anthropic_proxy.auth.api_keys import (
    ApiKey,
    KeyLimits,
    describe_limit,
    hash_key,
    validate_key_name,
)
from anthropic_proxy.config import keys_file
from anthropic_proxy.config.env_file import find_env_file, read_env_file
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.messages import variable_problem
from anthropic_proxy.config.upstreams import read_text
from anthropic_proxy.errors import ConfigError

_PREFIX = "sk-ant-proxy-"
_SECRET_BYTES = 32
_LIMIT = click.IntRange(min=1)


class _TimeParameter(click.DateTime):
    """A date or time, in UTC unless it has a zone. The error message shows examples."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            time = super().convert(value, param, ctx)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        except (click.BadParameter, OverflowError):
            self.fail(
                f"got {value!r}, expected a date (2026-12-31) or a time (2026-12-31T18:00:00)",
                param,
                ctx,
            )


# The last format has a zone: `keys list` and the file show the time of a key in it.
_TIME = _TimeParameter(
    ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")
)


def _check_globs(_: click.Context, __: click.Parameter, globs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the globs of `--model`. Raises BadParameter for an empty one."""
    for glob in globs:
        if not glob.strip():
            raise click.BadParameter(f"got {glob!r}, expected the name of a model or a glob")
    return tuple(glob.strip() for glob in globs)


_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of API keys.  [default: PROXY_API_KEYS_FILE from the environment or the .env file]",
)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of clients."""
    # The library logs invalid lines of the .env file each time; the server reports them.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)


@keys.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=_check_globs,
    metavar="GLOB",
    help="Model that the key may use; may be repeated.  [default: all models]",
)
@click.option(
    "--expires",
    type=_TIME,
    metavar="TIME",
    help="Expiry: a date (2026-12-31) or a time (2026-12-31T18:00:00), in UTC unless the time ends "
    "with a zone (+02:00).  [default: never]",
)
@click.option(
    "--requests-per-minute",
    type=_LIMIT,
    help="Maximum number of requests per minute.  [default: unlimited]",
)
@click.option(
    "--tokens-per-minute",
    type=_LIMIT,
    help="Maximum number of tokens per minute.  [default: unlimited]",
)
@click.option(
    "--tokens-per-month",
    type=_LIMIT,
    help="Maximum number of tokens per calendar month.  [default: unlimited]",
)
@_FILE
def create(
    name: str,
    models: tuple[str, ...],
    expires: datetime | None,
    path: Path | None,
    **limits: int | None,
) -> None:
    """Create a key called NAME and print it. It cannot be printed again."""
    path, is_of_server = _choose_path(path)
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    new_key = ApiKey(name, hash_key(secret), models, expires, KeyLimits(**limits))

    def add_key(existing_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        validate_key_name(name)
        changed_keys = (*existing_keys, new_key)
        if is_of_server:
            _check_for_server(path, changed_keys)
        return changed_keys

    changed_keys = _change_keys_file(path, add_key)
    if not is_of_server:
        _warn_of_server(path, changed_keys)
    click.echo(secret)


@keys.command("list")
@_FILE
def list_keys(path: Path | None) -> None:
    """List the keys with their models, expiry and limits."""
    path, is_of_server = _choose_path(path)
    try:
        existing_keys = keys_file.parse_keys_file(read_text(path), str(path))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        _fail(str(error))
    click.echo("NAME\tMODELS\tEXPIRES\tLIMITS")
    for key in existing_keys:
        models = ", ".join(key.models) or "*"
        click.echo(f"{key.name}\t{models}\t{_describe_expiry(key)}\t{_describe_limits(key)}")
    if is_of_server:
        _warn_of_server(path, existing_keys)


@keys.command()
@click.argument("name")
@_FILE
def revoke(name: str, path: Path | None) -> None:
    """Revoke the key called NAME."""
    path, is_of_server = _choose_path(path)

    def remove_key(existing_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        remaining_keys = tuple(key for key in existing_keys if key.name != name)
        if len(remaining_keys) == len(existing_keys):
            raise ValueError(f"no key is called {name!r}")
        return remaining_keys

    remaining_keys = _change_keys_file(path, remove_key)
    if not is_of_server:
        _warn_of_server(path, remaining_keys)
    else:
        try:
            _check_for_server(path, remaining_keys)
        except ConfigError as error:
            _fail(
                f"Revoked {name} in {path}, but a running server keeps its previous keys until "
                f"this is fixed: {error}"
            )
    click.echo(f"✓ Revoked {name}")


def _change_keys_file(
    path: Path, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]
) -> tuple[ApiKey, ...]:
    if sys.platform == "win32":
        _fail("keys can only be changed on Unix systems")
    try:
        return keys_file.change_keys_file(path, change)
    except (ConfigError, OSError, ValueError) as error:
        _fail(str(error))


def _choose_path(path: Path | None) -> tuple[Path, bool]:
    """Return the keys file, and whether it is the one of PROXY_API_KEYS_FILE."""
    env_file = find_env_file(None)
    # The defaults replace all other settings, because they may be invalid.
    values: dict[str, Any] = {}
    for name, field in KeySettings.model_fields.items():
        values[name.upper()] = field.default
    del values["PROXY_API_KEYS_FILE"]
    try:
        read_env_file(env_file)  # raises ConfigError for a file that the library would ignore
        configured = KeySettings(_env_file=env_file, **values).proxy_api_keys_file
    except ConfigError as error:
        if path is None:
            _fail(str(error))
        configured = None
    path = path or configured
    if path is None:
        _fail("no keys file: set PROXY_API_KEYS_FILE or use --file")
    path = path.expanduser()
    if configured is None:
        return path, False
    return path, os.path.realpath(path) == os.path.realpath(configured.expanduser())


def _check_for_server(path: Path, changed_keys: Iterable[ApiKey]) -> None:
    """Raise ConfigError if a server with the settings of this environment rejects the keys."""
    env_file = find_env_file(None)
    read_env_file(env_file)  # raises ConfigError for a file that the library would ignore
    options: dict[str, Any] = {"_env_file": env_file}
    try:
        settings = KeySettings(**options)
    except ValidationError as error:
        problems = []
        for each in error.errors(include_url=False):
            problems.append(variable_problem(each, KeySettings.model_fields))
        raise ConfigError("\n".join(problems)) from None
    text = keys_file.format_keys_file(changed_keys).decode()
    keys_file.load_api_keys(
        settings.model_copy(update={"proxy_api_keys_file": path}), lambda _: text
    )


def _warn_of_server(path: Path, changed_keys: Iterable[ApiKey]) -> None:
    """Report a problem of a file that a server with other settings may use."""
    try:
        _check_for_server(path, changed_keys)
    except ConfigError as error:
        click.echo(f"! a server with these settings rejects {path}: {error}", err=True)


def _describe_expiry(key: ApiKey) -> str:
    if key.expires is None:
        return "never"
    verb = "expired" if key.expires <= datetime.now(UTC) else "expires"
    return f"{verb} {keys_file.format_time(key.expires)}"


def _describe_limits(key: ApiKey) -> str:
    descriptions = []
    for name, amount in asdict(key.limits).items():
        if amount:
            descriptions.append(describe_limit(name, amount))
    return ", ".join(descriptions) or "-"


def _fail(reason: str) -> NoReturn:
    click.echo(f"✗ {reason}", err=True)
    sys.exit(1)

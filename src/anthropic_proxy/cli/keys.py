"""The commands `anthropic-proxy keys create|list|revoke`, which edit the file of API keys.

A key is printed only when it is created, because the file stores its hash. A running server reloads
the file after a change.
"""

import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from anthropic_proxy.auth.api_keys import ApiKey, KeyLimits, hash_key, validate_key_name
from anthropic_proxy.config import keys_file
from anthropic_proxy.config.env_file import find_env_file
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.upstreams import read_text
from anthropic_proxy.errors import ConfigError

_PREFIX = "sk-ant-proxy-"
_SECRET_BYTES = 32
_LIMIT = click.IntRange(min=1)


class _TimeParameter(click.DateTime):
    """A date or time. The error message shows examples instead of format strings."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"got {value!r}, expected a date (2026-12-31) or a time (2026-12-31T18:00:00)",
                param,
                ctx,
            )


_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of API keys.  [default: PROXY_API_KEYS_FILE from the environment or the .env file]",
)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of clients."""


@keys.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="GLOB",
    help="Model that the key may use; may be repeated.  [default: all models]",
)
@click.option(
    "--expires",
    type=_TimeParameter(),
    metavar="TIME",
    help="Expiry in UTC: a date (2026-12-31) or a time (2026-12-31T18:00:00).  [default: never]",
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
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    expiry = expires.replace(tzinfo=UTC) if expires else None
    new_key = ApiKey(name, hash_key(secret), models, expiry, KeyLimits(**limits))

    def add_key(existing_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        validate_key_name(name)
        return (*existing_keys, new_key)

    _change_keys_file(path, add_key)
    click.echo(secret)


@keys.command("list")
@_FILE
def list_keys(path: Path | None) -> None:
    """List the keys with their models, expiry and limits."""
    path = _choose_path(path)
    try:
        existing_keys = keys_file.parse_keys_file(read_text(path), str(path))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        _fail(str(error))
    click.echo("NAME\tMODELS\tEXPIRES\tLIMITS")
    for key in existing_keys:
        models = ", ".join(key.models) or "*"
        click.echo(f"{key.name}\t{models}\t{_describe_expiry(key)}\t{_describe_limits(key)}")


@keys.command()
@click.argument("name")
@_FILE
def revoke(name: str, path: Path | None) -> None:
    """Revoke the key called NAME."""

    def remove_key(existing_keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        remaining_keys = tuple(key for key in existing_keys if key.name != name)
        if len(remaining_keys) == len(existing_keys):
            raise ValueError(f"no key is called {name!r}")
        return remaining_keys

    _change_keys_file(path, remove_key)
    click.echo(f"✓ Revoked {name}")


def _change_keys_file(
    path: Path | None, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]
) -> None:
    if sys.platform == "win32":
        _fail("keys can only be changed on Unix systems")
    try:
        keys_file.change_keys_file(_choose_path(path), change)
    except (ConfigError, OSError, ValueError) as error:
        _fail(str(error))


def _choose_path(path: Path | None) -> Path:
    # Load only these settings: others may be invalid.
    settings: Any = {"_env_file": find_env_file(None), "PROXY_API_KEYS": None}
    path = path or KeySettings(**settings).proxy_api_keys_file
    if path is None:
        _fail("no keys file: set PROXY_API_KEYS_FILE or use --file")
    return path.expanduser()


def _describe_expiry(key: ApiKey) -> str:
    if key.expires is None:
        return "never"
    verb = "expired" if key.expires <= datetime.now(UTC) else "expires"
    return f"{verb} {keys_file.format_time(key.expires)}"


def _describe_limits(key: ApiKey) -> str:
    descriptions = []
    for name, amount in asdict(key.limits).items():
        if amount:
            descriptions.append(f"{amount} {name.replace('_', ' ')}")
    return ", ".join(descriptions) or "-"


def _fail(reason: str) -> NoReturn:
    click.echo(f"✗ {reason}", err=True)
    sys.exit(1)

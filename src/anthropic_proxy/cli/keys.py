"""The commands `anthropic-proxy keys create|list|revoke`: the file with the clients' keys, from the command line.

A key is shown when it is made, and never again: the file has its hash alone. A running server looks at the file by itself.
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
from anthropic_proxy.config.settings import KeySettings
from anthropic_proxy.config.upstreams import read_text
from anthropic_proxy.errors import ConfigError

_PREFIX = "sk-ant-proxy-"
_BYTES = 32
_LIMIT = click.IntRange(min=1)


class _Time(click.DateTime):
    """A date or a time, whose formats an error shows by examples."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is not a day as 2026-12-31, or a time as 2026-12-31T18:00:00",
                param,
                ctx,
            )


_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the keys.  [default: PROXY_API_KEYS_FILE, of the environment or the .env file]",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of clients."""


@keys.command()
@click.argument("name")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="GLOB",
    help="A model that it may ask for.  [default: all]",
)
@click.option(
    "--expires",
    type=_Time(),
    metavar="TIME",
    help="When it expires, in UTC: a day as 2026-12-31, or a time as 2026-12-31T18:00:00.  [default: never]",
)
@click.option(
    "--requests-per-minute",
    type=_LIMIT,
    help="How many requests it may send in a minute.  [default: any]",
)
@click.option(
    "--tokens-per-minute",
    type=_LIMIT,
    help="How many tokens it may use in a minute.  [default: any]",
)
@click.option(
    "--tokens-per-month",
    type=_LIMIT,
    help="How many tokens it may use in a calendar month.  [default: any]",
)
@_FILE
def create(
    name: str,
    models: tuple[str, ...],
    expires: datetime | None,
    path: Path | None,
    **limits: int | None,
) -> None:
    """Make a key called NAME, and print it. It is not shown again."""
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    until = expires.replace(tzinfo=UTC) if expires else None
    made = ApiKey(name, hash_key(secret), models, until, KeyLimits(**limits))

    def with_it(known: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        validate_key_name(name)
        return (*known, made)

    _change(path, with_it)
    click.echo(secret)


@keys.command("list")
@_FILE
def list_keys(path: Path | None) -> None:
    """List the keys: their names, models, ends and limits."""
    path = _chosen(path)
    try:
        known = keys_file.parse_keys_file(read_text(path), str(path))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        _fail(str(error))
    click.echo("NAME\tMODELS\tEXPIRES\tLIMITS")
    for key in known:
        click.echo(f"{key.name}\t{', '.join(key.models) or '*'}\t{_end(key)}\t{_limits(key)}")


@keys.command()
@click.argument("name")
@_FILE
def revoke(name: str, path: Path | None) -> None:
    """Take the key called NAME away."""

    def without_it(known: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        left = tuple(key for key in known if key.name != name)
        if len(left) == len(known):
            raise ValueError(f"there is no key called {name!r}")
        return left

    _change(path, without_it)
    click.echo(f"✓ Revoked {name}")


def _change(path: Path | None, changed: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    if sys.platform == "win32":
        _fail("Keys can be changed on Unix systems only")
    try:
        keys_file.change_keys_file(_chosen(path), changed)
    except (ConfigError, OSError, ValueError) as error:
        _fail(str(error))


def _chosen(path: Path | None) -> Path:
    # What else is configured need not be right for this.
    settings: Any = {"_env_file": find_env_file(None), "PROXY_API_KEYS": None}
    path = path or KeySettings(**settings).proxy_api_keys_file
    if path is None:
        _fail("Which file? Set PROXY_API_KEYS_FILE, or give --file")
    return path.expanduser()


def _end(key: ApiKey) -> str:
    if key.expires is None:
        return "never expires"
    verb = "expired" if key.expires <= datetime.now(UTC) else "expires"
    return f"{verb} {keys_file.written_time(key.expires)}"


def _limits(key: ApiKey) -> str:
    return (
        ", ".join(
            f"{amount} {name.replace('_', ' ')}"
            for name, amount in asdict(key.limits).items()
            if amount
        )
        or "-"
    )


def _fail(reason: str) -> NoReturn:
    click.echo(f"✗ {reason}", err=True)
    sys.exit(1)

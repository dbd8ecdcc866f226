"""docs/command-line.md lists all commands and options."""

import re

import click
import pytest

from anthropic_proxy.cli.main import cli
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "command-line.md").read_text()
SYNOPSIS = PAGE.split("```")[1].strip().splitlines()


def _commands() -> dict[str, click.Command]:
    """Return the commands without subcommands, by their full names."""
    commands: dict[str, click.Command] = {}
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            commands |= {f"{name} {each}": sub for each, sub in command.commands.items()}
        else:
            commands[name] = command
    return commands


COMMANDS = _commands()


def _options(command: click.Command) -> list[str]:
    """Return the long options of a command."""
    return [
        option.opts[-1]
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]


def test_the_synopsis_has_each_command() -> None:
    names = [f"anthropic-proxy {name}" for name in COMMANDS]
    lines = SYNOPSIS[1:]
    assert len(lines) == len(names)
    for name in names:
        assert any(line.startswith(name) for line in lines)


@pytest.mark.parametrize("option", _options(cli))
def test_the_table_has_each_option_of_the_server(option: str) -> None:
    assert re.search(rf"^\| `[^|]*{re.escape(option)}\b", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_is_documented(name: str) -> None:
    title = name.split(maxsplit=1)[0].capitalize()
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    line = next(line for line in SYNOPSIS if line.startswith(f"anthropic-proxy {name}"))
    for option in _options(COMMANDS[name]):
        assert option in line or option in section


def test_each_option_of_the_page_exists() -> None:
    options = {"--help", "--version", *_options(cli)}
    for command in COMMANDS.values():
        options |= set(_options(command))
    assert set(re.findall(r"--[a-z][\w-]*", PAGE)) <= options

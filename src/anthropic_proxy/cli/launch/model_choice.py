"""Choose a model: the one that the user names, the only one, or one of a list."""

import difflib
from collections.abc import Sequence

import click

# Models that one screen shows. The user can enter a part of the name of the others.
_SHOWN_MODELS = 20


class ChoiceError(Exception):
    """No model can be chosen. The text is the reason."""


def choose_model(names: Sequence[str], wanted: str | None, *, is_interactive: bool) -> str:
    """Return the name of a model. Raises ChoiceError.

    names: the listed models. wanted: the name that the user has given. is_interactive: whether the
    user can answer a question.
    """
    if wanted is not None:
        return _find_wanted(names, wanted)
    if not names:
        raise ChoiceError("the upstream has no models: install one, or name one with --model")
    if len(names) == 1:
        return names[0]
    if not is_interactive:
        raise ChoiceError(f"choose a model with --model: {_join(names)}")
    return _ask(names)


def _find_wanted(names: Sequence[str], wanted: str) -> str:
    """Return the listed name. With several upstreams, it begins with the name of the upstream.

    Prints similar names if there is a list without this name. This is not an error: servers accept
    names that they do not list, such as aliases and variants.
    """
    if not names or wanted in names:
        return wanted
    with_upstream = [name for name in names if name.partition("/")[2] == wanted]
    if len(with_upstream) == 1:
        return with_upstream[0]
    similar = difflib.get_close_matches(wanted, names, n=3) or _containing(names, wanted)[:3]
    question = f"; did you mean {' or '.join(similar)}?" if similar else ""
    click.echo(f"! the upstream does not list the model {wanted}{question}", err=True)
    return wanted


def _ask(names: Sequence[str]) -> str:
    """Let the user enter the number of a model, or a part of its name, until one is chosen."""
    shown = list(names)
    while True:
        _show(shown)
        text = str(click.prompt("Model (number, or a part of its name)", err=True)).strip()
        if text.isdecimal() and 1 <= int(text) <= min(len(shown), _SHOWN_MODELS):
            return shown[int(text) - 1]
        if text in names:
            return text
        matches = _containing(names, text)
        if len(matches) == 1:
            return matches[0]
        if not matches:
            click.echo(f"! no model contains {text!r}", err=True)
        shown = matches or list(names)


def _show(names: Sequence[str]) -> None:
    click.echo(err=True)
    for number, name in enumerate(names[:_SHOWN_MODELS], 1):
        click.echo(f"  {number:2}  {name}", err=True)
    if len(names) > _SHOWN_MODELS:
        click.echo(f"      ... and {len(names) - _SHOWN_MODELS} more", err=True)


def _containing(names: Sequence[str], text: str) -> list[str]:
    return [name for name in names if text.casefold() in name.casefold()]


def _join(names: Sequence[str]) -> str:
    text = ", ".join(names[:_SHOWN_MODELS])
    if len(names) > _SHOWN_MODELS:
        text += f", ... ({len(names)} models)"
    return text

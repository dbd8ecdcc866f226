"""Find probable mistakes in a valid `.env` file: misspelled names and lines without a setting.

Other programs (Docker Compose, shells) read the same file, so a name is reported only when it
resembles a setting. Notices show neither values nor texts that are not names, because they may be
secrets.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from anthropic_proxy.config.network_variables import NETWORK_VARIABLES
from anthropic_proxy.config.setting_fields import variable_names
from anthropic_proxy.config.settings import Settings

# All names with these prefixes belong to the proxy.
_PREFIXES = ("UPSTREAM_", "PROXY_API_KEY", "RATE_LIMIT_STORAGE")
# Names in the environment with these prefixes may be misspelled settings.
_SETTING_PREFIXES = (
    *_PREFIXES,
    "ANTHROPIC_PROXY_",
    "PROXY_",
    "MODEL_",
    "COMPLETION_",
    "REASONING_",
    "RATE_LIMIT_",
    "DOWNLOAD",
    "SIGNATURE_",
    "KEY_",
    "METRICS_",
    "TLS_",
    "DRAIN_",
    "RELOAD_",
    "READY_",
    "MAX_",
    "CORS_",
)
# Variables of docker-compose.yml, which resemble settings.
_OF_COMPOSE = frozenset({"ANTHROPIC_PROXY_PORT", "ANTHROPIC_PROXY_VERSION"})
# Prefixes of the variables of Claude Code and the Anthropic SDKs. No notice may suggest a setting
# for them: with the client's ANTHROPIC_BASE_URL, the proxy would be its own upstream.
_CLIENT_PREFIXES = ("ANTHROPIC_", "CLAUDE_CODE_")
_OUR_CLIENT_LIKE_PREFIX = "ANTHROPIC_PROXY"
_OF_CLIENT = (
    "is a variable of the client: set it where Claude Code runs; the proxy does not read it"
)
# Suggestions for names that do not resemble the right setting.
_REPLACEMENTS = {
    "UPSTREAM_MODEL": "COMPLETION_MODEL or MODEL_MAP",
    "UPSTREAM_MODELS": "COMPLETION_MODEL or MODEL_MAP",
}
# Other programs use shorter names, such as HOSTS or PORT2.
_SHORTEST_NAME = 6
# Similarity in difflib: PROXY_API_KEY and PROXY_API_KEYS have 0.96,
# LOG_LEVEL and LOG_FORMAT 0.63.
_CLOSE = 0.85
# For names with a prefix of _PREFIXES.
_CLOSE_FOR_OURS = 0.6
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_MOST_NOTICES = 10
# Maximum number of unknown names to compare with the settings.
_MOST_NAMES = 500
# Characters in the name of a setting.
_LONGEST_NAME = 64
_NO_SETTING = "expected NAME=value; the line is ignored"


@dataclass(frozen=True)
class Notice:
    """A probable mistake, for the operator."""

    file: Path
    # Counted from 1; 0 for the complete file.
    line: int
    problem: str

    def __str__(self) -> str:
        if self.line:
            return f"{self.file} line {self.line}: {self.problem}"
        return f"{self.file}: {self.problem}"


def notices(path: Path, text: str, config_text: str = "") -> list[Notice]:
    """Return at most _MOST_NOTICES notices on a `.env` file, in the order of its lines.

    text: of the file. config_text: of the configuration file, which may refer to variables as
    `${NAME}`.
    """
    references = {*_REFERENCE.findall(text), *_REFERENCE.findall(config_text)}
    every = list(_each_notice(path, text, {name.upper() for name in references}))
    left_out = len(every) - _MOST_NOTICES
    if left_out <= 0:
        return every
    return [*every[:_MOST_NOTICES], Notice(path, 0, f"{left_out} more such lines")]


def _each_notice(path: Path, text: str, references: set[str]) -> Iterator[Notice]:
    variables = all_variables()
    names_left = _MOST_NAMES
    for binding in _parse(text):
        line = _line(binding)
        name = (binding.key or "").upper()
        has_no_value = binding.key is not None and binding.value is None
        if name in variables and not binding.error:
            if has_no_value:
                yield Notice(path, line, f"{name} has no value: {_NO_SETTING}")
        elif binding.error or has_no_value:
            yield Notice(path, line, _NO_SETTING)
        elif name and name not in references and names_left:
            names_left -= 1
            problem = describe_unknown_name(name, variables)
            if problem:
                yield Notice(path, line, problem)


def environment_notices(names: Iterable[str], *texts: str) -> list[str]:
    """Return the problems of names in the environment of the process.

    Most names belong to other programs, so only names that closely resemble a setting are reported.
    texts: of files that may refer to variables as `${NAME}`.
    """
    variables = all_variables()
    references = set(chain.from_iterable(map(_REFERENCE.findall, texts)))
    candidates = [name for name in sorted(names) if name.startswith(_SETTING_PREFIXES)]
    problems = []
    for name in candidates[:_MOST_NAMES]:
        if name in variables or name in references or not _can_be_ours(name):
            continue
        similar = get_close_matches(name, variables, 1, _CLOSE)
        if similar:
            problems.append(f"{name} is not known; did you mean {similar[0]}?")
    return problems[:_MOST_NOTICES]


def all_variables() -> tuple[str, ...]:
    """Return the names of all variables that the proxy and its libraries read."""
    names = []
    for field in Settings.model_fields.values():
        names += variable_names(field)
    return (*names, *(name.upper() for name in NETWORK_VARIABLES))


def describe_unknown_name(name: str, variables: tuple[str, ...]) -> str:
    """Return the problem with an unknown name; empty if it belongs to another program."""
    if not _can_be_ours(name):
        return ""
    if name.startswith(_CLIENT_PREFIXES) and not name.startswith(_OUR_CLIENT_LIKE_PREFIX):
        return f"{name} {_OF_CLIENT}"
    if name in _REPLACEMENTS:
        return f"{name} is not known; did you mean {_REPLACEMENTS[name]}?"
    is_ours = name.startswith(_PREFIXES)
    if not is_ours and len(name) < _SHORTEST_NAME:
        return ""
    similar = get_close_matches(name, variables, 1, _CLOSE_FOR_OURS if is_ours else _CLOSE)
    if similar:
        return f"{name} is not known; did you mean {similar[0]}?"
    return f"{name} is not known" if is_ours else ""


def _can_be_ours(name: str) -> bool:
    is_name = len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None
    return is_name and name not in _OF_COMPOSE


def _line(binding: Binding) -> int:
    """Return the line number of a statement, after the empty lines before it."""
    original = binding.original
    before = original.string[: len(original.string) - len(original.string.lstrip())]
    return original.line + before.count("\n")


def variable(text: str, name: str, environment: Mapping[str, str]) -> str:
    """Return a variable from the environment, else from the text of a `.env` file, else ""."""
    value = environment.get(name, "")
    if value:
        return value
    for binding in _parse(text):
        if binding.key is not None and binding.key.upper() == name and not binding.error:
            value = binding.value or ""
    return value


def _parse(text: str) -> Iterator[Binding]:
    return parse_stream(io.StringIO(text.removeprefix("\ufeff")))

"""The kinds of values in a configuration file: a type for each, with what makes it usable.

Each check raises ValueError with words that go on after the given value: "'x' must ...".
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo

from anthropic_proxy.config.env_values import extra_body, header_name, header_value
from anthropic_proxy.providers.base_url import api_address, has_login
from anthropic_proxy.providers.profiles import DIALECTS, GENERIC

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIALECTS = tuple(each.name for each in (*DIALECTS, GENERIC))


@dataclass(frozen=True)
class Around:
    """What the models are given beside their values. upstreams: the names of all. read: the text of a file, by its path as
    it stands in the configuration; raises OSError or UnicodeDecodeError.
    """

    upstreams: tuple[str, ...]
    read: Callable[[PurePath], str]


def _around(info: ValidationInfo) -> Around:
    return cast("Around", info.context)


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """How a message about an unknown name goes on: the nearest known one, and all of them."""
    near = get_close_matches(name, known, 1)
    return (f"; did you mean {near[0]}?" if near else "") + f" (known: {', '.join(known)})"


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number")  # noqa: TRY004 - pydantic gathers ValueErrors
    return value


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _not_empty(value: Any) -> Any:
    # pydantic's min_length counts what is valid, and tells of a lack beside what is wrong.
    if value in ([], {}):
        raise ValueError("should not be empty")
    return value


def _split(value: Any) -> Any:
    return re.split(r"[\s,;]+", value) if isinstance(value, str) else value


def _stripped_key(value: str) -> str:
    if not re.fullmatch(r"[!-~]*", value.strip()):
        raise ValueError("must be printable ASCII characters without spaces")
    return value.strip()


def _unique_name(name: str, info: ValidationInfo) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "must be letters, digits, '.', '_' and '-', and begin with a letter or a digit"
        )
    if Counter(each.casefold() for each in _around(info).upstreams)[name.casefold()] > 1:
        raise ValueError("stands there twice: capital letters make no difference")
    return name


def _usable_url(url: str) -> str:
    if has_login(url):
        raise ValueError("must not hold a user or password: put the key into `key`")
    api_address(url)
    return url.strip()


def _known_dialect(name: str) -> str:
    if name.lower() not in _DIALECTS:
        raise ValueError("is no dialect" + suggestion(name, _DIALECTS))
    return name.lower()


def _content(path: Any, info: ValidationInfo) -> str:
    if not isinstance(path, str):
        raise ValueError("should be the path of a file")  # noqa: TRY004 - pydantic gathers ValueErrors
    try:
        text = _around(info).read(PurePath(path))
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or 'unknown reason'}") from None
    except UnicodeDecodeError:
        raise ValueError("can't be read: it is not UTF-8") from None
    if not text.strip():
        raise ValueError("holds no key")
    return text


def _lines(text: str) -> list[str]:
    stripped = [line.strip() for line in text.splitlines()]
    keys = [line for line in stripped if line and not line.startswith("#")]
    if not keys:
        raise ValueError("holds no key")
    return keys


def _existing_upstream(name: str, info: ValidationInfo) -> str:
    """The name as it is written among the upstreams."""
    for each in (known := _around(info).upstreams):
        if each.casefold() == name.casefold():
            return each
    raise ValueError("names no upstream" + suggestion(name.casefold(), known))


NotEmpty = BeforeValidator(_not_empty)
AsList = BeforeValidator(_as_list)
Text = Annotated[str, Field(min_length=1)]
Integer = Annotated[int, BeforeValidator(_not_a_boolean)]
Number = Annotated[float, BeforeValidator(_not_a_boolean)]
Seconds = Annotated[Number, Field(gt=0)]
Url = Annotated[str, AfterValidator(_usable_url)]
Key = Annotated[str, AfterValidator(_stripped_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_split)]
KeyFile = Annotated[Key, BeforeValidator(_content)]
KeysFile = Annotated[tuple[Key, ...], BeforeValidator(_lines), BeforeValidator(_content)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
NewName = Annotated[str, AfterValidator(_unique_name)]
UpstreamName = Annotated[str, AfterValidator(_existing_upstream)]
Fields = Annotated[Mapping[str, JsonValue], AfterValidator(extra_body)]
DialectName = Annotated[str, AfterValidator(_known_dialect)]

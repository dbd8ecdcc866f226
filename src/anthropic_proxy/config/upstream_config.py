"""The schema of one upstream, for the configuration file and the variables UPSTREAM_*.

Each check raises ValueError with a text that follows the value in messages: "must ...".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import PurePath
from typing import Annotated, Any, Self, cast, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from anthropic_proxy.config.env_values import (
    check_extra_body,
    check_header_name,
    check_header_value,
    strip_key,
    strip_quotes,
)
from anthropic_proxy.providers.base_url import resolve_api_address
from anthropic_proxy.providers.profiles import PROFILE_NAMES, ProviderProfile
from anthropic_proxy.routing.upstream import (
    RECORD_CONFIG,
    ConcurrencyLimits,
    Integer,
    Timeouts,
    UpstreamApi,
)

# Former names of settings in the configuration file.
FORMER_NAMES = {"dialect": "provider", "facts": "provider_settings"}

# Words before a key that was copied with its header.
_SCHEME_WORDS = ("authorization:", "bearer")
_QUOTED = re.compile(r"""["'\u2018\u2019\u201c\u201d]|^`|`$""")

_KEY_SOURCES = ("key", "keys", "key_file", "keys_file", "passthrough")


@dataclass(frozen=True)
class ValidationContext:
    """Data that validators need in addition to the values."""

    # Returns the text of a file, by its path in the configuration. Raises OSError and
    # UnicodeDecodeError.
    read: Callable[[PurePath], str]
    # Names of all upstreams.
    upstreams: tuple[str, ...] = ()
    # Whether the values are from environment variables.
    is_environment: bool = False

    def find_upstreams(self, name: str) -> list[str]:
        """Return the names of upstreams that equal `name`, ignoring case."""
        return self._upstreams_by_folded_name.get(name.casefold(), [])

    @cached_property
    def _upstreams_by_folded_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for upstream in self.upstreams:
            names.setdefault(upstream.casefold(), []).append(upstream)
        return names


def validation_context(info: ValidationInfo) -> ValidationContext:
    """Return the context that the caller passed to `model_validate`."""
    return cast("ValidationContext", info.context)


def suggestion(name: str, names: tuple[str, ...]) -> str:
    """Return the end of a message about an unknown name: the most similar name and all names."""
    all_names = f" (known: {', '.join(names)})"
    similar = get_close_matches(name, names, 1)
    if not similar:
        return all_names
    return f"; did you mean {similar[0]}?{all_names}"


def _check_url(url: str, info: ValidationInfo) -> str:
    url = strip_quotes(url).strip()
    try:
        resolve_api_address(url)
    except ValueError as error:
        message = str(error)
        if not validation_context(info).is_environment:
            message = message.replace("UPSTREAM_API_KEY", "`key`")
        raise ValueError(message) from None
    return url


def _split_keys(value: Any) -> Any:
    if isinstance(value, str):
        words = re.split(r"[\s,;]+", strip_quotes(value))
        return [word for word in words if word.lower() not in _SCHEME_WORDS]
    return value


def _check_key(value: str, info: ValidationInfo) -> str:
    key = strip_key(value)
    if validation_context(info).is_environment:
        return check_header_value(key)
    if not re.fullmatch(r"[!-~]*", key):
        raise ValueError("must contain only printable ASCII characters, without spaces")
    return key


def key_hint(key: str) -> str:
    """Return the probable mistake in a valid key, without the key; empty if there is none."""
    if _QUOTED.search(key):
        return "the key contains quotes: remove them"
    if re.search(r"\s", key):
        return "the key contains spaces: check that it is one complete key"
    return ""


def _read_file(path: Any, info: ValidationInfo) -> str:
    if not isinstance(path, str):
        raise ValueError("should be the path of a file")  # noqa: TRY004 - for pydantic
    try:
        text = validation_context(info).read(PurePath(path))
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or 'unknown reason'}") from None
    except UnicodeDecodeError:
        raise ValueError("can't be read: it is not UTF-8") from None
    if not text.strip():
        raise ValueError("contains no key")
    return text


def _split_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError("contains no key")
    return keys


def _check_provider(name: str) -> str:
    if name.lower() not in PROFILE_NAMES:
        raise ValueError("must be a known provider" + suggestion(name.lower(), PROFILE_NAMES))
    return name.lower()


def _check_provider_settings(value: Any) -> Any:
    return ProviderSettings.model_validate(value).model_dump(exclude_unset=True)


Url = Annotated[str, AfterValidator(_check_url)]
Key = Annotated[str, AfterValidator(_check_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_split_keys)]
KeyFile = Annotated[Key, BeforeValidator(_read_file)]
KeysFile = Annotated[tuple[Key, ...], BeforeValidator(_split_lines), BeforeValidator(_read_file)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
HeaderValue = Annotated[str, AfterValidator(check_header_value)]
RequestFields = Annotated[Mapping[str, JsonValue], AfterValidator(check_extra_body)]
ProviderName = Annotated[str, AfterValidator(_check_provider)]


def _profile_fields() -> dict[str, tuple[Any, None]]:
    """Return the fields of ProviderProfile that a configuration may set, for `create_model`."""
    types = get_type_hints(ProviderProfile)
    names = [field.name for field in fields(ProviderProfile)]
    return {name: (types[name], None) for name in names if name not in ("name", "hosts")}


ProviderSettings = create_model(  # type: ignore[call-overload]
    "ProviderSettings",
    __config__=RECORD_CONFIG,
    **_profile_fields(),
)


class UpstreamConfig(BaseModel):
    """One upstream. Its representation omits fields that may contain secrets."""

    model_config = RECORD_CONFIG

    url: Url = Field(
        description="base URL as in SDKs, or the full URL of the Chat Completions API",
        repr=False,
    )
    key: Key | None = Field(None, description="API key", repr=False)
    keys: Keys = Field(
        (),
        description="several API keys, used in turn: a list, "
        "or a text with spaces, commas or semicolons between them",
        repr=False,
    )
    key_file: KeyFile | None = Field(None, description="file with the API key", repr=False)
    keys_file: KeysFile = Field(
        (),
        description="file with a key on each line; lines that begin with `#` are ignored",
        repr=False,
    )
    passthrough: bool = Field(
        default=False,
        description="whether to send the client's key instead of a configured key",
    )
    api: UpstreamApi = Field(
        "chat_completions",
        description="its API: `chat_completions`, `responses`, or `messages` for the Messages API",
    )
    provider: ProviderName | None = Field(
        None, description="provider; default: by its host, or detected"
    )
    provider_settings: Annotated[Mapping[str, Any], BeforeValidator(_check_provider_settings)] = (
        Field({}, description="settings of the provider that differ at this server")
    )
    headers: Mapping[HeaderName, HeaderValue] = Field(
        {}, description="headers of every request", repr=False
    )
    query: Mapping[str, str] = Field({}, description="parameters of every URL", repr=False)
    extra_body: RequestFields = Field(
        {},
        description="fields of every request body; they replace fields of the same name",
        repr=False,
    )
    timeouts: Timeouts = Field(Timeouts(), description="time limits")
    limits: ConcurrencyLimits = Field(
        ConcurrencyLimits(), description="limits on concurrent requests"
    )
    retries: Annotated[Integer, Field(ge=0, le=10)] = Field(
        0, description="retries of a request after a temporary error"
    )

    @property
    def all_keys(self) -> tuple[str, ...]:
        """The keys of all sources."""
        keys = (self.key, self.key_file, *self.keys, *self.keys_file)
        return tuple(key for key in keys if key)

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        sources = [name for name in _KEY_SOURCES if getattr(self, name)]
        if len(sources) > 1:
            raise PydanticCustomError(
                "key_sources", "only one of {names} may be set", {"names": " and ".join(sources)}
            )
        return self


_HIDDEN = {name for name, field in UpstreamConfig.model_fields.items() if not field.repr}
# Fields whose values messages never show. Messages show a part of `url`.
SECRET_FIELDS = frozenset(_HIDDEN - {"url"})

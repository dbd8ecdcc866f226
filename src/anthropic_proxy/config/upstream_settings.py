"""The variables UPSTREAM_*: one upstream, or several that differ only in their addresses."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, NamedTuple, NoReturn, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode

from anthropic_proxy.config import env_values
from anthropic_proxy.config.messages import (
    MISSING_URL_TYPE,
    WHOLE_SENTENCE,
    show_name,
    upstream_field,
    variable_names,
)
from anthropic_proxy.config.upstream_config import (
    ProviderSettings,
    UpstreamConfig,
    ValidationContext,
    suggestion,
)

MISSING_URL = """\
UPSTREAM_BASE_URL is required: the address of an OpenAI-compatible server, \
set as a variable or in ./.env:
  OpenRouter  UPSTREAM_BASE_URL=https://openrouter.ai/api
  OpenAI      UPSTREAM_BASE_URL=https://api.openai.com
  Ollama      UPSTREAM_BASE_URL=http://localhost:11434"""

_TWO_KEYS = (
    "UPSTREAM_API_KEY and UPSTREAM_API_KEY_PASSTHROUGH exclude each other: "
    "the upstream is sent either the proxy's key or the client's own"
)
_TWO_SOURCES = (
    "UPSTREAM_BASE_URL and CONFIG_FILE exclude each other: with CONFIG_FILE all upstreams "
    "stand in the file, and the variables that begin with UPSTREAM_ don't apply"
)

# Former names of variables.
FORMER_VARIABLES = {
    "UPSTREAM_DIALECT": "UPSTREAM_PROVIDER",
    "UPSTREAM_FACTS": "UPSTREAM_PROVIDER_SETTINGS",
}

_SECONDS = "a number of seconds above 0"

# Text of a variable, or a value that UpstreamConfig takes.
_Value = Annotated[Any, NoDecode]


def _variable(path: str, expected: str, *names: str) -> Any:
    """Return the settings field for a field of UpstreamConfig, with its default.

    path: of that field, separated by dots. expected: describes valid values in messages. names: of
    the variable, if it has several.
    """
    steps = tuple(path.split("."))
    model: type[BaseModel] = UpstreamConfig
    for step in steps[:-1]:
        model = type(model.model_fields[step].default)
    field = model.model_fields[steps[-1]]
    default = field.default
    if not isinstance(default, str | int | float):
        default = None
    return Field(
        default=default,
        validation_alias=AliasChoices(*names) if names else None,
        description=expected,
        repr=field.repr,
        json_schema_extra={"upstream_field": steps},  # type: ignore[dict-item]
    )


class UpstreamSettings(BaseSettings):
    """Part of `Settings`: the texts of the variables UPSTREAM_*, parsed in `upstreams`."""

    _upstreams: tuple[UpstreamConfig, ...] = PrivateAttr(default=())

    config_file: Path | None = Field(
        default=None, description="a YAML or TOML file with upstreams and routes"
    )
    upstream_base_url: str | None = _variable(
        "url",
        "an http(s) address of an OpenAI-compatible server, or several separated by ;",
        "UPSTREAM_BASE_URL",
        "ANTHROPIC_PROXY_BASE_URL",
    )
    upstream_api_key: SecretStr | None = _variable(
        "keys",
        "the key that is sent to the upstream, or several separated by ;",
        "UPSTREAM_API_KEY",
        "OPENROUTER_API_KEY",
    )
    upstream_api_key_passthrough: _Value = _variable("passthrough", "true or false")
    upstream_api: _Value = _variable("api", "chat_completions, responses or messages")
    upstream_provider: _Value = _variable(
        "provider", "the name of a provider", "UPSTREAM_PROVIDER", "UPSTREAM_DIALECT"
    )
    upstream_provider_settings: _Value = _variable(
        "provider_settings",
        "a list of name=value of the provider's settings, separated by ; or new lines",
        "UPSTREAM_PROVIDER_SETTINGS",
        "UPSTREAM_FACTS",
    )
    upstream_headers: _Value = _variable(
        "headers", "a list of name=value or a JSON object of headers"
    )
    upstream_extra_body: _Value = _variable("extra_body", "a JSON object of request fields")
    upstream_connect_timeout: _Value = _variable("timeouts.connect", _SECONDS)
    upstream_first_byte_timeout: _Value = _variable("timeouts.first_byte", _SECONDS)
    upstream_idle_timeout: _Value = _variable("timeouts.idle", _SECONDS)
    upstream_total_timeout: _Value = _variable("timeouts.total", _SECONDS)
    upstream_concurrency: _Value = _variable("limits.concurrency", "a number from 1 on")
    upstream_queue: _Value = _variable("limits.queue", "a number from 0 on")
    upstream_queue_timeout: _Value = _variable(
        "limits.queue_seconds", "a number of seconds from 0 on"
    )
    upstream_retries: _Value = _variable("retries", "a number from 0 to 10")
    max_upstream_requests: int = Field(default=16, ge=1, description="a number from 1 on")
    max_upstream_bytes: int = Field(
        default=64 * 1024 * 1024, ge=2**20, description="a number of bytes from 1048576 on"
    )

    @property
    def upstreams(self) -> tuple[UpstreamConfig, ...]:
        """One upstream for each URL, in their order; none with CONFIG_FILE."""
        return self._upstreams

    @model_validator(mode="wrap")
    @classmethod
    def _validate_upstreams(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the upstreams with all other settings, to report every problem at once."""
        upstreams, problems = _parse_upstreams(data, cls.model_fields)
        try:
            settings = handler(data)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                problems.append(_problem(each["type"], each["msg"], each["loc"], each["input"]))
        if problems:
            problems = _sort_by_field(problems, cls.model_fields)
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)
        settings._upstreams = upstreams  # noqa: SLF001 - same class
        return settings


def _sort_by_field(
    problems: list[InitErrorDetails], fields: Mapping[str, FieldInfo]
) -> list[InitErrorDetails]:
    """Return problems in the order of the fields, those without a variable last."""
    positions: dict[str, int] = {}
    for field in fields.values():
        for name in variable_names(field):
            positions[name] = len(positions)

    def position(problem: InitErrorDetails) -> int:
        location = problem.get("loc")
        return positions[str(location[0])] if location else len(positions)

    return sorted(problems, key=position)


class Deprecation(NamedTuple):
    """A former name of a setting that is set."""

    former: str
    name: str
    # The configuration file; empty for variables.
    file: str = ""

    def __str__(self) -> str:
        file = f"{self.file}: " if self.file else ""
        return f"{file}{self.former} is deprecated: use {self.name}"


def deprecated_variables(environment: Mapping[str, str]) -> tuple[Deprecation, ...]:
    """Return the former names of variables that are set."""
    names = {name.upper() for name, value in environment.items() if value}
    former_names = [former for former in FORMER_VARIABLES if former in names]
    return tuple(Deprecation(former, FORMER_VARIABLES[former]) for former in former_names)


def used_name(variable: str, environment: Mapping[str, str]) -> str:
    """Return the name under which a variable is set: its own, or its former one."""
    names = {name.upper() for name, value in environment.items() if value}
    if variable in names:
        return variable
    for former, name in FORMER_VARIABLES.items():
        if name == variable and former in names:
            return former
    return variable


def conflicting_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each variable whose former name has another value."""
    values = {name.upper(): value for name, value in environment.items() if value}
    for former, name in FORMER_VARIABLES.items():
        if former not in values or name not in values:
            continue
        # Names of providers are case-insensitive.
        if values[former].lower() != values[name].lower():
            yield (
                f"{former} and {name} have different values: "
                f"{former} is the former name, use {name} alone"
            )


class _Variable(NamedTuple):
    """A variable that is set, and the path of the field of UpstreamConfig that it sets."""

    name: str
    value: Any
    path: tuple[str, ...]


def _parse_upstreams(
    data: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> tuple[tuple[UpstreamConfig, ...], list[InitErrorDetails]]:
    """Return the upstreams that variables describe, and the problems of the variables.

    data: values by variable. fields: of the settings.
    """
    variables = _upstream_variables(data, fields)
    mapping, problems = _to_mapping(variables)
    urls = mapping.pop("url", ())
    has_file = bool(data.get("CONFIG_FILE"))
    if not urls and not has_file:
        problems.append(_problem(MISSING_URL_TYPE, MISSING_URL, ("UPSTREAM_BASE_URL",)))
    if urls and has_file:
        problems.append(_problem(WHOLE_SENTENCE, _TWO_SOURCES))
    upstreams = []
    try:
        # Without a URL the other variables are validated all the same.
        for url in urls or ["http://localhost"]:
            config = {**mapping, "url": url}
            upstreams.append(UpstreamConfig.model_validate(config, context=_CONTEXT))
    except ValidationError as error:
        return (), [*problems, *_problems_by_variable(error, variables)]
    return tuple(upstreams) if urls else (), problems


def _upstream_variables(
    data: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> list[_Variable]:
    """Return the variables that are set and belong to an upstream."""
    variables = []
    for field in fields.values():
        name, path = variable_names(field)[0], upstream_field(field)
        if path and data.get(name) is not None:
            variables.append(_Variable(name, data[name], path))
    return variables


def _to_mapping(
    variables: Iterable[_Variable],
) -> tuple[dict[str, Any], list[InitErrorDetails]]:
    """Return the input of UpstreamConfig, with all URLs in `url`, and the problems of its texts."""
    mapping: dict[str, Any] = {}
    problems = []
    for name, value, path in variables:
        try:
            parsed = _parse(value, path)
        except ValueError as error:
            problems.append(_problem("value_error", str(error), (name,), value))
            continue
        section = mapping.setdefault(path[0], {}) if len(path) > 1 else mapping
        if parsed is not None:
            section[path[-1]] = parsed
    return mapping, problems


def _parse(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value for the field of UpstreamConfig at `path`. Raises ValueError."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    parser = _PARSERS.get(path[0])
    if parser is None or not isinstance(value, str):
        return value
    return parser(value)


def _parse_keys(text: str) -> tuple[str, ...]:
    # White space within a key is a mistake and does not separate keys.
    return env_values.split_list(text, ";")


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "url": env_values.split_list,
    "keys": _parse_keys,
    "provider_settings": env_values.parse_pairs,
    "headers": env_values.parse_header_pairs,
    "extra_body": env_values.parse_object,
}


def _problems_by_variable(
    error: ValidationError, variables: Iterable[_Variable]
) -> Iterator[InitErrorDetails]:
    variables_by_path: dict[tuple[int | str, ...], _Variable] = {}
    for variable in variables:
        variables_by_path[variable.path] = variable
    for each in error.errors(include_url=False):
        path = each["loc"]
        # Paths of variables have one or two parts.
        found = variables_by_path.get(path[:1]) or variables_by_path.get(path[:2])
        if found is None:
            # No single field is wrong: there are two sources of keys.
            yield _problem(WHOLE_SENTENCE, _TWO_KEYS)
        else:
            yield _problem(each["type"], _reason(each), (found.name,), found.value)


def _reason(error: ErrorDetails) -> str:
    path, message = error["loc"], error["msg"].removeprefix("Value error, ")
    if path[0] != "provider_settings":
        return message
    name = str(path[-1])
    if error["type"] == "extra_forbidden":
        message = "is not known" + suggestion(name, tuple(ProviderSettings.model_fields))
    return f"{show_name(name)}: {message}"


def _problem(
    kind: str, message: str, path: tuple[int | str, ...] = (), value: object = None
) -> InitErrorDetails:
    custom = PydanticCustomError(kind, "{text}", {"text": message})
    return {"type": custom, "loc": path, "input": value}


def _read_nothing(path: PurePath) -> NoReturn:
    raise FileNotFoundError(path)  # no variable names a file with keys


_CONTEXT = ValidationContext(_read_nothing, is_environment=True)

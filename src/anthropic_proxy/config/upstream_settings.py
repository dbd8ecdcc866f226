"""The variables UPSTREAM_*, for one upstream or for several that differ only in their URLs."""

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
)
from anthropic_proxy.config.setting_fields import (
    Section,
    reference,
    upstream_path,
    variable_names,
)
from anthropic_proxy.config.upstream_config import (
    ProviderSettings,
    UpstreamConfig,
    ValidationContext,
    suggestion,
)

MISSING_URL = """\
UPSTREAM_BASE_URL is required: set it to the address of an OpenAI-compatible server, \
in the environment or in ./.env:
  OpenRouter  UPSTREAM_BASE_URL=https://openrouter.ai/api
  OpenAI      UPSTREAM_BASE_URL=https://api.openai.com
  Ollama      UPSTREAM_BASE_URL=http://localhost:11434"""

_TWO_KEYS = (
    "UPSTREAM_API_KEY and UPSTREAM_API_KEY_PASSTHROUGH exclude each other: "
    "the proxy sends either its own key or the key of the client"
)
_TWO_SOURCES = (
    "UPSTREAM_BASE_URL and CONFIG_FILE exclude each other: with CONFIG_FILE all upstreams "
    "are in the file, and the variables UPSTREAM_* do not apply"
)

# Former names of variables.
FORMER_VARIABLES = {
    "UPSTREAM_DIALECT": "UPSTREAM_PROVIDER",
    "UPSTREAM_FACTS": "UPSTREAM_PROVIDER_SETTINGS",
}

_SECONDS = "seconds above 0"

# The text of a variable, or a value of UpstreamConfig.
_Value = Annotated[Any, NoDecode]


def _variable(
    section: Section,
    path: str,
    description: str,
    expected: str,
    *names: str,
    if_unset: str = "none",
) -> Any:
    """Return the settings field for a field of UpstreamConfig, with its default.

    path: of that field, separated by dots. names: of the variable, if it has several. The other
    parameters are those of `Field` and `reference`.
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
        repr=field.repr,
        description=description,
        json_schema_extra=reference(section, expected, if_unset=if_unset, upstream_field=steps),
    )


class UpstreamSettings(BaseSettings):
    """Settings of the upstreams. The texts of UPSTREAM_* are parsed in `upstreams`."""

    _upstreams: tuple[UpstreamConfig, ...] = PrivateAttr(default=())

    config_file: Path | None = Field(
        default=None,
        description="[Configuration file](configuration.md) with several upstreams and the routes "
        "to them. The variables of one upstream (`UPSTREAM_*`) do not apply with it.",
        json_schema_extra=reference(Section.UPSTREAM, "the path of a YAML or TOML file"),
    )
    upstream_base_url: str | None = _variable(
        Section.UPSTREAM,
        "url",
        "Base URL of an OpenAI-compatible server, or the full URL of its API. The proxy tries "
        "several URLs in their order.",
        "an http:// or https:// URL, several with `;` between them",
        "UPSTREAM_BASE_URL",
        "ANTHROPIC_PROXY_BASE_URL",
        if_unset="required without `CONFIG_FILE`",
    )
    upstream_api_key: SecretStr | None = _variable(
        Section.UPSTREAM,
        "keys",
        "API key for the upstream. The proxy uses several keys in turn.",
        "a key, several with `;` between them",
        "UPSTREAM_API_KEY",
        "OPENROUTER_API_KEY",
    )
    upstream_api_key_passthrough: _Value = _variable(
        Section.UPSTREAM,
        "passthrough",
        "Forward the API key of the client to the upstream. It cannot be combined with "
        "`UPSTREAM_API_KEY`, `PROXY_API_KEYS` or `PROXY_API_KEYS_FILE`.",
        "`true` or `false`",
    )
    upstream_api: _Value = _variable(
        Section.UPSTREAM,
        "api",
        "API of the upstream: Chat Completions, the Responses API of OpenAI, or the Messages API. "
        "With `messages`, the proxy forwards requests without translation.",
        "`chat_completions`, `responses` or `messages`",
    )
    upstream_provider: _Value = _variable(
        Section.UPSTREAM,
        "provider",
        "Provider of the upstream, if the proxy does not detect it: see "
        "[upstreams.md](upstreams.md).",
        "the name of a provider",
        "UPSTREAM_PROVIDER",
        "UPSTREAM_DIALECT",
        if_unset="detected",
    )
    upstream_provider_settings: _Value = _variable(
        Section.UPSTREAM,
        "provider_settings",
        "[Settings of the provider](upstreams.md#settings-of-providers) to override for your "
        "server.",
        "`name=value`, several with `;` or new lines between them",
        "UPSTREAM_PROVIDER_SETTINGS",
        "UPSTREAM_FACTS",
    )
    upstream_headers: _Value = _variable(
        Section.UPSTREAM,
        "headers",
        "Headers of every request to the upstream.",
        "`name=value`, several with `;` or new lines between them; or a JSON object",
    )
    upstream_extra_body: _Value = _variable(
        Section.UPSTREAM,
        "extra_body",
        "Body fields of every request to the upstream. They replace fields of the same name.",
        "a JSON object without `model` and `stream`",
    )
    upstream_connect_timeout: _Value = _variable(
        Section.UPSTREAM_TIMEOUTS,
        "timeouts.connect",
        "Maximum time to connect to the upstream.",
        _SECONDS,
    )
    upstream_first_byte_timeout: _Value = _variable(
        Section.UPSTREAM_TIMEOUTS,
        "timeouts.first_byte",
        "Maximum time from the connection to the response headers.",
        _SECONDS,
    )
    upstream_first_token_timeout: _Value = _variable(
        Section.UPSTREAM_TIMEOUTS,
        "timeouts.first_token",
        "Maximum time from the request to the first content of a stream. Set it higher for models "
        "that think for longer without sending their thoughts.",
        _SECONDS,
        if_unset="`60` if the request has another target, otherwise no limit",
    )
    upstream_idle_timeout: _Value = _variable(
        Section.UPSTREAM_TIMEOUTS,
        "timeouts.idle",
        "Maximum time without data within a response.",
        _SECONDS,
    )
    upstream_total_timeout: _Value = _variable(
        Section.UPSTREAM_TIMEOUTS,
        "timeouts.total",
        "Maximum time from the request to the end of the response.",
        _SECONDS,
        if_unset="no limit",
    )
    upstream_concurrency: _Value = _variable(
        Section.UPSTREAM_REQUESTS,
        "limits.concurrency",
        "Maximum number of concurrent requests to each upstream. Requests above the limit wait in "
        "a queue.",
        "1 or more",
        if_unset="no limit",
    )
    upstream_queue: _Value = _variable(
        Section.UPSTREAM_REQUESTS,
        "limits.queue",
        "Maximum number of requests in the queue of each upstream. Additional requests fail over "
        "to the next upstream, or get status 529.",
        "0 or more",
    )
    upstream_queue_timeout: _Value = _variable(
        Section.UPSTREAM_REQUESTS,
        "limits.queue_seconds",
        "Maximum time that a request waits in the queue.",
        "seconds, 0 or more",
    )
    upstream_retries: _Value = _variable(
        Section.UPSTREAM_REQUESTS,
        "retries",
        "Maximum number of retries after a temporary error, such as status 429 or 503. Clients "
        "retry by themselves as well.",
        "0 to 10",
    )
    session_affinity: bool = Field(
        default=True,
        description="Whether all requests of a session have the same order of the "
        "[targets of a group](routing.md#sessions), so that they share the upstream's prompt "
        "cache. With `false`, each request draws its targets at random.",
        json_schema_extra=reference(Section.UPSTREAM_REQUESTS, "`true` or `false`"),
    )
    max_upstream_requests: int = Field(
        default=16,
        ge=1,
        description="Maximum number of upstream requests for one client request, for all reasons "
        "together.",
        json_schema_extra=reference(Section.UPSTREAM_REQUESTS, "1 or more"),
    )
    max_upstream_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=2**20,
        description="Maximum size of a response that is not streamed. Streams have no limit.",
        json_schema_extra=reference(Section.UPSTREAM_REQUESTS, "bytes, 1048576 or more"),
    )

    @property
    def upstreams(self) -> tuple[UpstreamConfig, ...]:
        """One upstream for each URL, in their order; none with CONFIG_FILE."""
        return self._upstreams

    @model_validator(mode="wrap")
    @classmethod
    def _validate_upstreams(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the upstreams with all other settings, to report all problems at once."""
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
    """A former name of a setting, which the configuration uses."""

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
    """Return the name by which a variable is set: the name itself, or its former name."""
    names = {name.upper() for name, value in environment.items() if value}
    if variable in names:
        return variable
    for former, name in FORMER_VARIABLES.items():
        if name == variable and former in names:
            return former
    return variable


def conflicting_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each variable whose former name has a different value."""
    values = {name.upper(): value for name, value in environment.items() if value}
    for former, name in FORMER_VARIABLES.items():
        if former not in values or name not in values:
            continue
        # Names of providers are case-insensitive.
        if values[former].lower() != values[name].lower():
            yield (
                f"{former} and {name} have different values: "
                f"{former} is the former name, use only {name}"
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
        # Also validates the other variables if there is no URL.
        for url in urls or ["http://localhost"]:
            config = {**mapping, "url": url}
            upstreams.append(UpstreamConfig.model_validate(config, context=_CONTEXT))
    except ValidationError as error:
        return (), [*problems, *_problems_by_variable(error, variables)]
    return tuple(upstreams) if urls else (), problems


def _upstream_variables(
    data: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> list[_Variable]:
    """Return the variables of upstreams that are set."""
    variables = []
    for field in fields.values():
        name, path = variable_names(field)[0], upstream_path(field)
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
    # White space does not separate keys: within a key it is a mistake.
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
        source = variables_by_path.get(path[:1]) or variables_by_path.get(path[:2])
        if source is None:
            # The only error without a field: two sources of keys.
            yield _problem(WHOLE_SENTENCE, _TWO_KEYS)
        else:
            # The reason for a part of the value is always shown.
            kind = each["type"] if path == source.path else "value_error"
            yield _problem(kind, _reason(each), (source.name,), source.value)


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
    raise FileNotFoundError(path)  # variables do not name files with keys


_CONTEXT = ValidationContext(_read_nothing, is_environment=True)

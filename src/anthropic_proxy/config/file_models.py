"""What a configuration file may hold: one model for each kind of entry. Their descriptions are the file's documentation.

The models are given the names of all upstreams and a way to read files (config_values.Around), so that one validation
finds every problem, wrong references among them.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from anthropic_proxy.config.file_values import (
    AsList,
    DialectName,
    Fields,
    HeaderName,
    HeaderValue,
    Integer,
    Key,
    KeyFile,
    Keys,
    KeysFile,
    NewName,
    NotEmpty,
    Number,
    Seconds,
    Text,
    UpstreamName,
    Url,
)
from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.routing.upstream import Api

# Of these an upstream has one, or none.
_KEY_SOURCES = ("key", "keys", "key_file", "keys_file", "passthrough")

Tier = Literal["haiku", "sonnet", "opus", "fable"]


def _checked_facts(value: Any) -> Any:
    return FactsEntry.model_validate(value).model_dump(exclude_unset=True)


class Entry(BaseModel):
    """What all entries have in common: an unknown name is an error, and nothing changes them. They are made ready when
    there is such a file, not at each start.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,
    )


class TimeoutsEntry(Entry):
    """How long an upstream may take, in seconds."""

    connect: Seconds = Field(10, description="to accept a connection")
    first_byte: Seconds = Field(600, description="to send the head of its answer")
    idle: Seconds = Field(600, description="to send the next bytes of it")
    total: Seconds | None = Field(None, description="for all of it")


class LimitsEntry(Entry):
    """How much an upstream is given at a time."""

    concurrency: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="requests at a time"
    )
    queue: Annotated[Integer, Field(ge=0)] = Field(
        100, description="requests that may wait for their turn"
    )
    queue_seconds: Annotated[Number, Field(ge=0)] = Field(
        30, description="how long they may wait, in seconds"
    )


FactsEntry = create_model(  # type: ignore[call-overload]
    "FactsEntry",
    __base__=Entry,
    **{
        each.name: (get_type_hints(Dialect)[each.name], None)
        for each in fields(Dialect)
        if each.name not in ("name", "hosts")
    },
)


class UpstreamEntry(Entry):
    """One upstream."""

    url: Url = Field(
        description="the base URL, as SDKs are given it, or the full address of Chat Completions",
        repr=False,
    )
    key: Key | None = Field(None, description="the key that is sent to it", repr=False)
    keys: Keys = Field(
        (),
        description="several keys, used in turn: a list, or a text with spaces, commas or semicolons between them",
        repr=False,
    )
    key_file: KeyFile | None = Field(None, description="a file that holds the key", repr=False)
    keys_file: KeysFile = Field(
        (),
        description="a file with a key on each line; lines that begin with # are ignored",
        repr=False,
    )
    passthrough: bool = Field(
        default=False,
        description="whether the client's own key is sent, in place of one that is configured",
    )
    api: Api = Field(
        "chat_completions", description="what it speaks; messages is the Anthropic API itself"
    )
    dialect: DialectName | None = Field(
        None, description="which kind of server it is; found out by default"
    )
    facts: Annotated[Mapping[str, Any], BeforeValidator(_checked_facts)] = Field(
        {}, description="what of its dialect is different here"
    )
    headers: Mapping[HeaderName, HeaderValue] = Field(
        {}, description="headers that every request gets", repr=False
    )
    query: Mapping[str, str] = Field(
        {}, description="parameters that every address gets", repr=False
    )
    extra_body: Fields = Field(
        {},
        description="fields that every request gets, in place of its own of that name",
        repr=False,
    )
    timeouts: TimeoutsEntry = Field(TimeoutsEntry(), description="how long it may take")
    limits: LimitsEntry = Field(LimitsEntry(), description="how much it is given at a time")
    retries: Annotated[Integer, Field(ge=0, le=10)] = Field(
        0, description="how often a request that failed for a passing reason is sent to it again"
    )

    @property
    def key_passthrough(self) -> bool:
        """Whether the client's own key is sent."""
        return self.passthrough

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        given = [name for name in _KEY_SOURCES if getattr(self, name)]
        if len(given) > 1:
            raise PydanticCustomError(
                "whole", "only one of {given} may be given", {"given": " and ".join(given)}
            )
        return self

    def with_all_keys(self) -> Self:
        """The same with all its keys in `keys`, wherever they came from."""
        single = [each for each in (self.key, self.key_file) if each]
        keys = (*single, *self.keys, *self.keys_file)
        return self.model_copy(
            update={
                "keys": tuple(filter(None, keys)),
                "key": None,
                "key_file": None,
                "keys_file": (),
            }
        )


class TargetEntry(Entry):
    """One upstream that may answer, and its name for the model. In short `upstream/model`, or `upstream` alone."""

    upstream: UpstreamName = Field(description="the name of an upstream")
    model: Text | None = Field(None, description="its name for the model; the client's by default")
    weight: Annotated[Number, Field(gt=0)] = Field(
        1, description="its share within its group, beside the others' weights"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        upstream, slash, model = value.partition("/")
        return {"upstream": upstream} | ({"model": model} if slash else {})


Group = Annotated[tuple[TargetEntry, ...], NotEmpty, AsList]


class RouteEntry(Entry):
    """Which upstreams answer a request that fits all of its conditions; without any, all requests fit."""

    models: Annotated[tuple[Text, ...], NotEmpty, AsList] | None = Field(
        None, description="names of the client's model, with * and ? as wildcards; one of them fits"
    )
    tier: Annotated[tuple[Tier, ...], NotEmpty, AsList] | None = Field(
        None, description="the tier of the client's model; one of them fits"
    )
    thinking: bool | None = Field(None, description="whether the client asks for thinking")
    min_input_tokens: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="tokens that the request has at least, as estimated"
    )
    images: bool | None = Field(None, description="whether the request holds images")
    targets: Annotated[tuple[Group, ...], NotEmpty, AsList] = Field(
        description="who answers, one after the other; of a list within the list, by weight and in turn"
    )


class FileEntry(Entry):
    """The whole file."""

    upstreams: Annotated[Mapping[NewName, UpstreamEntry], NotEmpty] = Field(
        description="the upstreams by name"
    )
    routes: tuple[RouteEntry, ...] = Field(
        (),
        description="who answers what: the first that fits; without one all upstreams, in their order",
    )
    aliases: Mapping[Text, TargetEntry] = Field(
        {}, description="targets by the name of a model that clients ask for"
    )

"""The schema of a configuration file: upstreams, routes, targets and aliases.

docs/configuration.md shows the descriptions. The validation context contains the names of all
upstreams, so that one validation also finds unknown names.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from anthropic_proxy.config.upstream_config import (
    UpstreamConfig,
    suggestion,
    validation_context,
)
from anthropic_proxy.routing.upstream import RECORD_CONFIG, Integer, Number

Tier = Literal["haiku", "sonnet", "opus", "fable"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _reject_empty(value: Any) -> Any:
    # min_length of pydantic counts only valid items, so it would report invalid items twice.
    if value in ([], {}):
        raise ValueError("should not be empty")
    return value


def _check_new_name(name: str, info: ValidationInfo) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "must consist of letters, digits, '.', '_' and '-', and begin with a letter or digit"
        )
    if len(validation_context(info).find_upstreams(name)) > 1:
        raise ValueError("is a duplicate: names are case-insensitive")
    return name


def _resolve_upstream(name: str, info: ValidationInfo) -> str:
    """Return the name in the case of the section `upstreams`."""
    context = validation_context(info)
    names = context.find_upstreams(name)
    if not names:
        raise ValueError(
            "does not name an upstream" + suggestion(name.casefold(), context.upstreams)
        )
    return names[0]


NotEmpty = BeforeValidator(_reject_empty)
AsList = BeforeValidator(_as_list)
Text = Annotated[str, Field(min_length=1)]
NewName = Annotated[str, AfterValidator(_check_new_name)]
UpstreamName = Annotated[str, AfterValidator(_resolve_upstream)]


class TargetEntry(BaseModel):
    """One upstream that may serve a request, and its name for the model.

    The short form is `upstream/model`, or `upstream` alone.
    """

    model_config = RECORD_CONFIG

    upstream: UpstreamName = Field(description="name of an upstream")
    model: Text | None = Field(
        None, description="its name for the model; default: the client's name"
    )
    weight: Annotated[Number, Field(gt=0)] = Field(
        1, description="its share of the requests, relative to the other targets of its group"
    )

    @model_validator(mode="before")
    @classmethod
    def _parse_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        upstream, slash, model = value.partition("/")
        if not slash:
            return {"upstream": upstream}
        return {"upstream": upstream, "model": model}


Group = Annotated[tuple[TargetEntry, ...], NotEmpty, AsList]


class RouteEntry(BaseModel):
    """The upstreams for requests that meet all conditions, or for all if it has none."""

    model_config = RECORD_CONFIG

    models: Annotated[tuple[Text, ...], NotEmpty, AsList] | None = Field(
        None,
        description="names or patterns with `*` and `?`, one of which matches the client's model",
    )
    tier: Annotated[tuple[Tier, ...], NotEmpty, AsList] | None = Field(
        None, description="tiers, one of which is the tier of the client's model"
    )
    thinking: bool | None = Field(None, description="whether the request enables thinking")
    min_input_tokens: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="minimum of input tokens, as estimated"
    )
    images: bool | None = Field(None, description="whether the request contains images")
    targets: Annotated[tuple[Group, ...], NotEmpty, AsList] = Field(
        description="targets in their order; "
        "the targets of a list within the list are one group, and share the requests by weight"
    )


class FileEntry(BaseModel):
    """The complete file."""

    model_config = RECORD_CONFIG

    upstreams: Annotated[Mapping[NewName, UpstreamConfig], NotEmpty] = Field(
        description="upstreams by name"
    )
    routes: tuple[RouteEntry, ...] = Field(
        (),
        description="routes, of which the first match decides; "
        "without a match, all upstreams in their order",
    )
    aliases: Mapping[Text, TargetEntry] = Field(
        {}, description="targets by the client's name of the model"
    )

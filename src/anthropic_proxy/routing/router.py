"""Which upstreams and models answer a request, in which order: a pure look-up in what is configured.

The first rule that fits a request decides. A rule has groups of targets: the groups are tried in their order, and within
a group the targets share the requests by weight.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from anthropic_proxy.errors.redaction import Secret
from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.wire.json_codec import JsonObject

# With these the client wants the model to think. "disabled" and "between_tools" (progress notes only) are not among them.
_THINKING_TYPES = frozenset({"enabled", "adaptive"})

# Claude Code's words for what a model is for; they stand in the names of the models.
TIERS = ("haiku", "sonnet", "opus", "fable")

_TIER = re.compile(rf"(?<![a-z])(?:{'|'.join(TIERS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Route:
    """Where a request goes, and the upstream's name for the model."""

    endpoint: Endpoint
    model: str

    @property
    def dialect(self) -> Dialect:
        """How the upstream is spoken to."""
        return self.endpoint.dialect


@dataclass(frozen=True)
class Target:
    """model: None for the name that the client asks for. weight: share of the requests of its group, above 0."""

    endpoint: Endpoint
    model: str | None = None
    weight: float = 1


Groups = tuple[tuple[Target, ...], ...]


@dataclass(frozen=True)
class Rule:
    """What a request must be to fit; what is None or empty does not matter.

    models: exact names or globs, any of which the model's name is. tiers: any of which stands in the model's name.
    thinking: whether the client wants the model to think. images: whether there are images in the conversation.
    min_input_tokens: estimated size of the request.
    """

    groups: Groups
    models: tuple[str, ...] = ()
    tiers: frozenset[str] = frozenset()
    thinking: bool | None = None
    images: bool | None = None
    min_input_tokens: int | None = None

    def fits(self, request: JsonObject, input_tokens: Callable[[], int]) -> bool:
        """Whether a checked request is one for this rule; `input_tokens` is only called when its size matters."""
        model = request["model"]
        return (
            (not self.models or any(_istargets_named(model, pattern) for pattern in self.models))
            and (not self.tiers or tier_of(model) in self.tiers)
            and self.thinking in (None, wants_thinking(request))
            and (self.images is None or self.images == has_images(request))
            and (self.min_input_tokens is None or input_tokens() >= self.min_input_tokens)
        )


@dataclass(frozen=True)
class Routing:
    """endpoints: in their order; a request that no rule fits goes to them. aliases: names and their targets, before all
    rules.
    """

    endpoints: tuple[Endpoint, ...]
    rules: tuple[Rule, ...] = ()
    aliases: Mapping[str, Groups] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets of all endpoints."""
        return tuple(secret for endpoint in self.endpoints for secret in endpoint.secrets)

    def groups(self, request: JsonObject, input_tokens: Callable[[], int]) -> Groups:
        """The targets of a checked request."""
        model = request["model"]
        known = self.aliases.get(model) or targets_named(self.endpoints, model)
        if known:
            return known
        fitting = next(
            (rule.groups for rule in self.rules if rule.fits(request, input_tokens)), None
        )
        return fitting or tuple((Target(each),) for each in self.endpoints)

    def models(self, endpoint: Endpoint) -> list[str]:
        """The models of an endpoint that are configured: for the most requests first, and aliases last."""
        groups = [*(rule.groups for rule in reversed(self.rules)), *self.aliases.values()]
        targets = [target for each in groups for group in each for target in group]
        return [target.model for target in targets if target.endpoint == endpoint and target.model]


def routes(targets: Sequence[Target], model: str) -> list[Route]:
    """The routes of a request for `model` to targets, in their order."""
    return [Route(target.endpoint, target.model or model) for target in targets]


def tier_of(model: str) -> str | None:
    """The tier whose word stands in a model's name."""
    found = _TIER.search(model)
    return found[0].lower() if found else None


def wants_thinking(request: JsonObject) -> bool:
    """Whether the client asked for thinking."""
    return (request.get("thinking") or {}).get("type") in _THINKING_TYPES


def has_images(request: JsonObject) -> bool:
    """Whether there is an image in the messages, results of tools included."""
    return any(_holds_image(message.get("content")) for message in request["messages"])


def _holds_image(content: object) -> bool:
    return isinstance(content, list) and any(
        block.get("type") == "image"
        or (block.get("type") == "tool_result" and _holds_image(block.get("content")))
        for block in content
        if isinstance(block, dict)
    )


def targets_named(endpoints: tuple[Endpoint, ...], model: str) -> Groups:
    """The target of `upstream/model`, the form in which the models of several upstreams are listed."""
    name, _, rest = model.partition("/")
    if len(endpoints) == 1 or not rest:
        return ()
    return tuple((Target(each, rest),) for each in endpoints if each.name == name)


def _istargets_named(model: str, pattern: str) -> bool:
    """A name may hold what is a glob to others: `claude-opus-4-6[1m]`."""
    return model == pattern or fnmatch.fnmatchcase(model, pattern)

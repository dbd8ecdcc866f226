"""Which upstreams and models answer a request, in which order: a pure look-up in what is configured.

The first rule that fits a request decides. A rule has groups of targets: the groups are tried in their order, and within
a group the targets share the requests by weight.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from anthropic_proxy.errors.redaction import Secret
from anthropic_proxy.providers.profiles import ProviderProfile
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.wire.json_codec import JsonObject

# With these the client wants the model to think. "disabled" and "between_tools" (progress notes only) are not among them.
_THINKING_TYPES = frozenset({"enabled", "adaptive"})

# Claude Code's words for what a model is for; they stand in the names of the models.
TIERS = ("haiku", "sonnet", "opus", "fable")

_TIER_PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(TIERS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Route:
    """Where a request goes, and the upstream's name for the model."""

    upstream: Upstream
    model: str

    @property
    def profile(self) -> ProviderProfile:
        """How the upstream is spoken to."""
        return self.upstream.profile


@dataclass(frozen=True)
class Target:
    """model: None for the name that the client asks for. weight: share of the requests of its group, above 0."""

    upstream: Upstream
    model: str | None = None
    weight: float = 1


TargetGroups = tuple[tuple[Target, ...], ...]


@dataclass(frozen=True)
class RoutingRule:
    """What a request must be to fit; what is None or empty does not matter.

    models: exact names or globs, any of which the model's name is. tiers: any of which stands in the model's name.
    thinking: whether the client wants the model to think. images: whether there are images in the conversation.
    min_input_tokens: estimated size of the request.
    """

    groups: TargetGroups
    models: tuple[str, ...] = ()
    tiers: frozenset[str] = frozenset()
    thinking: bool | None = None
    images: bool | None = None
    min_input_tokens: int | None = None

    def matches(self, request: JsonObject, input_tokens: Callable[[], int]) -> bool:
        """Whether a checked request is one for this rule; `input_tokens` is only called when its size matters."""
        model = request["model"]
        return (
            (not self.models or any(_matches_pattern(model, pattern) for pattern in self.models))
            and (not self.tiers or parse_tier(model) in self.tiers)
            and self.thinking in (None, requests_thinking(request))
            and (self.images is None or self.images == has_images(request))
            and (self.min_input_tokens is None or input_tokens() >= self.min_input_tokens)
        )


@dataclass(frozen=True)
class Routing:
    """endpoints: in their order; a request that no rule fits goes to them. aliases: names and their targets, before all
    rules.
    """

    upstreams: tuple[Upstream, ...]
    rules: tuple[RoutingRule, ...] = ()
    aliases: Mapping[str, TargetGroups] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets of all endpoints."""
        return tuple(secret for upstream in self.upstreams for secret in upstream.secrets)

    def select_groups(self, request: JsonObject, input_tokens: Callable[[], int]) -> TargetGroups:
        """The targets of a checked request."""
        model = request["model"]
        named_groups = self.aliases.get(model) or find_named_targets(self.upstreams, model)
        if named_groups:
            return named_groups
        rule_groups = next(
            (rule.groups for rule in self.rules if rule.matches(request, input_tokens)), None
        )
        return rule_groups or tuple((Target(upstream),) for upstream in self.upstreams)

    def list_models(self, upstream: Upstream) -> list[str]:
        """The models of an endpoint that are configured: for the most requests first, and aliases last."""
        groups = [*(rule.groups for rule in reversed(self.rules)), *self.aliases.values()]
        targets = [target for each in groups for group in each for target in group]
        return [target.model for target in targets if target.upstream == upstream and target.model]


def build_routes(targets: Sequence[Target], model: str) -> list[Route]:
    """The routes of a request for `model` to targets, in their order."""
    return [Route(target.upstream, target.model or model) for target in targets]


def parse_tier(model: str) -> str | None:
    """The tier whose word stands in a model's name."""
    match = _TIER_PATTERN.search(model)
    return match[0].lower() if match else None


def requests_thinking(request: JsonObject) -> bool:
    """Whether the client asked for thinking."""
    return (request.get("thinking") or {}).get("type") in _THINKING_TYPES


def has_images(request: JsonObject) -> bool:
    """Whether there is an image in the messages, results of tools included."""
    return any(_contains_image(message.get("content")) for message in request["messages"])


def _contains_image(content: object) -> bool:
    return isinstance(content, list) and any(
        block.get("type") == "image"
        or (block.get("type") == "tool_result" and _contains_image(block.get("content")))
        for block in content
        if isinstance(block, dict)
    )


def find_named_targets(upstreams: tuple[Upstream, ...], model: str) -> TargetGroups:
    """The target of `upstream/model`, the form in which the models of several upstreams are listed."""
    upstream_name, _, upstream_model = model.partition("/")
    if len(upstreams) == 1 or not upstream_model:
        return ()
    return tuple(
        (Target(upstream, upstream_model),)
        for upstream in upstreams
        if upstream.name == upstream_name
    )


def _matches_pattern(model: str, pattern: str) -> bool:
    """A name may hold what is a glob to others: `claude-opus-4-6[1m]`."""
    return model == pattern or fnmatch.fnmatchcase(model, pattern)

"""Select the upstreams and models that may serve a request, and their order.

The first rule that matches a request is used. A rule has groups of targets. The groups are tried in
their order, and the targets of a group share the requests by weight.

A `Route` is a resolved pair of an upstream and a model. In the configuration file, `routes` are the
rules (`RoutingRule`).
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from anthropic_proxy.errors.redaction import Secret
from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.routing.model_names import decode_claude_id, strip_context_suffix
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.wire.json_codec import JsonObject

# The types that enable thinking. "disabled" and "between_tools" (only progress notes) do not.
_THINKING_TYPES = frozenset({"enabled", "adaptive"})

# Claude Code's classes of models. The name of a model contains the name of its class.
TIERS = ("haiku", "sonnet", "opus", "fable")

_TIER_PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(TIERS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Route:
    """The upstream to which a request is sent, and the upstream's name of the model."""

    upstream: Upstream
    model: str

    @property
    def profile(self) -> ProviderProfile:
        """The profile of the upstream."""
        return self.upstream.profile


@dataclass(frozen=True)
class Target:
    """An upstream and model that may serve a request."""

    upstream: Upstream
    # The upstream's name of the model; None: the model in the request.
    model: str | None = None
    # The share of the group's requests, relative to the other targets; above 0.
    weight: float = 1


TargetGroups = tuple[tuple[Target, ...], ...]


@dataclass(frozen=True)
class RoutingRule:
    """Conditions on a request, and the target groups for requests that meet all of them.

    A condition that is None or empty is always met.
    """

    groups: TargetGroups
    # Exact names or globs. The name of the model must match at least one of them.
    models: tuple[str, ...] = ()
    # The name of the model must contain one of these words.
    tiers: frozenset[str] = frozenset()
    # Whether the request must, or must not, enable thinking.
    thinking: bool | None = None
    # Whether the conversation must, or must not, contain images.
    images: bool | None = None
    # Minimum of the estimated input tokens.
    min_input_tokens: int | None = None

    def matches(self, request: JsonObject, model: str, input_tokens: Callable[[], int]) -> bool:
        """Return whether a validated request for `model` meets all conditions.

        input_tokens: estimates the input tokens. It is called only if a condition needs it.
        """
        if self.models and not self.names_model(model):
            return False
        if self.tiers and parse_tier(model) not in self.tiers:
            return False
        if self.thinking is not None and self.thinking != requests_thinking(request):
            return False
        if self.images is not None and self.images != has_images(request):
            return False
        return self.min_input_tokens is None or input_tokens() >= self.min_input_tokens

    def names_model(self, model: str) -> bool:
        """Return whether one of the names or globs matches a model."""
        return any(_matches_pattern(model, pattern) for pattern in self.models)


@dataclass(frozen=True)
class Routing:
    """The configured upstreams, rules and aliases."""

    # In the configured order. A request that no rule matches is sent to them in this order.
    upstreams: tuple[Upstream, ...]
    rules: tuple[RoutingRule, ...] = ()
    # Names of models, and their targets. They have priority over the rules.
    aliases: Mapping[str, TargetGroups] = field(default_factory=dict)
    # Whether the list of models is for the pickers of Claude Desktop and Claude Code.
    lists_claude_ids: bool = False

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets of all upstreams."""
        return tuple(chain.from_iterable(upstream.secrets for upstream in self.upstreams))

    def select_groups(self, request: JsonObject, input_tokens: Callable[[], int]) -> TargetGroups:
        """Return the target groups for a validated request."""
        requested = request["model"]
        model = self.resolve_model(requested)
        named_groups = self.aliases.get(model) or find_named_targets(self.upstreams, model)
        if named_groups:
            return named_groups
        model = self._find_name_for_rules(requested)
        for rule in self.rules:
            if rule.matches(request, model, input_tokens):
                return rule.groups
        return tuple((Target(upstream),) for upstream in self.upstreams)

    def build_routes(self, targets: Sequence[Target], requested: str) -> list[Route]:
        """Return the routes for a request for a model, in the order of the targets."""
        model = self.resolve_model(requested)
        return [Route(target.upstream, target.model or model) for target in targets]

    def resolve_model(self, requested: str) -> str:
        """Return the name of the model that a client requests.

        A name in the configuration stays as it is. Otherwise a Claude id is decoded, and a suffix
        for the context size is removed, because no upstream knows it.
        """
        decoded = decode_claude_id(requested)
        for name in (requested, decoded):
            if self._is_configured(name):
                return name
        return strip_context_suffix(decoded)

    def list_names(self, requested: str) -> tuple[str, ...]:
        """Return the names by which an API key may allow a requested model.

        A Claude id is not one of them, because each of them matches `claude-*`. The name without a
        suffix is, unless the name with the suffix has its own targets.
        """
        if self._is_configured(requested):
            return (requested,)
        return decode_claude_id(requested), self._find_name_for_rules(requested)

    def _is_configured(self, model: str) -> bool:
        """Return whether an alias, or a name in a rule, is exactly this name."""
        return model in self.aliases or any(model in rule.models for rule in self.rules)

    def _find_name_for_rules(self, requested: str) -> str:
        """Return the name without its suffix, unless a glob matches only the complete name."""
        model = self.resolve_model(requested)
        if model == requested:
            return model
        complete = decode_claude_id(requested)
        for rule in self.rules:
            if rule.names_model(complete) and not rule.names_model(model):
                return complete
        return model

    def list_models(self, upstream: Upstream) -> list[str]:
        """Return the configured models of an upstream.

        The models of the last rule, which is usually the most general one, are first. The models of
        aliases are last.
        """
        rule_groups = [rule.groups for rule in reversed(self.rules)]
        models = []
        for groups in (*rule_groups, *self.aliases.values()):
            for target in chain.from_iterable(groups):
                if target.upstream == upstream and target.model:
                    models.append(target.model)
        return models


def parse_tier(model: str) -> str | None:
    """Return the tier whose name the model's name contains, or None."""
    match = _TIER_PATTERN.search(model)
    return match[0].lower() if match else None


def requests_thinking(request: JsonObject) -> bool:
    """Return whether the request enables thinking."""
    return (request.get("thinking") or {}).get("type") in _THINKING_TYPES


def has_images(request: JsonObject) -> bool:
    """Return whether the messages, tool results included, contain an image."""
    return any(_contains_image(message.get("content")) for message in request["messages"])


def _contains_image(content: object) -> bool:
    if not isinstance(content, list):
        return False
    for block in content:
        if not isinstance(block, dict):
            continue
        block_type = block.get("type")
        if block_type == "image":
            return True
        if block_type == "tool_result" and _contains_image(block.get("content")):
            return True
    return False


def find_named_targets(upstreams: tuple[Upstream, ...], model: str) -> TargetGroups:
    """Return the target for a model name of the form `upstream/model`; empty for other names.

    If there are several upstreams, the list of models contains names of this form.
    """
    upstream_name, _, upstream_model = model.partition("/")
    if len(upstreams) == 1 or not upstream_model:
        return ()
    for upstream in upstreams:
        if upstream.name == upstream_name:
            return ((Target(upstream, upstream_model),),)
    return ()


def _matches_pattern(model: str, pattern: str) -> bool:
    """Return whether a model's name equals a pattern, or matches it as a glob.

    Equality is checked too, because a name may contain glob characters: `claude-opus-4-6[1m]`.
    """
    return model == pattern or fnmatch.fnmatchcase(model, pattern)

"""List the models that clients may request: the aliases, and the models of the upstreams."""

import asyncio
from collections.abc import Mapping

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.gateway.backend import Backend
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.model_names import (
    decode_claude_id,
    strip_context_suffix,
    to_claude_id,
)
from anthropic_proxy.routing.router import TIERS, Route, Routing
from anthropic_proxy.translate.model_list import (
    MAX_LIMIT,
    add_aliases,
    to_claude_models,
    to_configured_models,
    to_model_infos,
)
from anthropic_proxy.translate.upstream_errors import html_page_error, is_html_page
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamResponse
from anthropic_proxy.wire.json_codec import JsonObject, loads
from anthropic_proxy.wire.quoting import shorten

# Seconds. Clients show no models before they have the complete list, so a slow upstream must not
# delay the models of the others.
_TIMEOUT_SECONDS = 10

# The Messages API returns its list in pages. This query requests the largest page.
_ALL_QUERY = f"limit={MAX_LIMIT}"


class ModelList:
    """Requests the models of all upstreams for each list. Nothing is cached."""

    def __init__(self, routing: Routing, backends: Mapping[str, Backend]) -> None:
        self._routing = routing
        self._backends = backends

    async def list_models(self, caller: Caller, observation: Observation) -> list[JsonObject]:
        """Return the aliases and the models of the upstreams.

        If an upstream has no list of models, its configured models are returned instead. If there
        are several upstreams, the name of a model is `upstream/model`. The models of an upstream
        that fails are omitted. With `CLAUDE_MODEL_IDS`, the list has the ids and fields that
        Claude's clients need, and includes the tiers of the rules. Raises ApiError if all upstreams
        fail.
        """
        requests = []
        for backend in self._backends.values():
            requests.append(self._fetch_models_in_time(backend, caller, observation))
        results = await asyncio.gather(*requests, return_exceptions=True)
        models: list[JsonObject] = []
        errors: list[BaseException] = []
        for result in results:
            if isinstance(result, BaseException):
                errors.append(result)
            else:
                models += result
        if len(errors) == len(results) or not all(isinstance(error, ApiError) for error in errors):
            raise errors[0]
        if not self._routing.lists_claude_ids:
            return add_aliases(models, self._aliases())
        return to_claude_models(add_aliases(models, {**self._tiers(), **self._aliases()}))

    def with_debug_info(self, models: list[JsonObject]) -> list[JsonObject]:
        """Return the models, each with its upstreams and their state in `anthropic_proxy`."""
        return [{**model, "anthropic_proxy": self._debug_info(model["id"])} for model in models]

    def _debug_info(self, model_id: str) -> JsonObject:
        groups = self._routing.select_groups({"model": model_id, "messages": []}, lambda: 0)
        targets = []
        for group in groups:
            routes = self._routing.build_routes(group, model_id)
            targets += [self._describe_route(route) for route in routes]
        return {"targets": targets}

    def _describe_route(self, route: Route) -> JsonObject:
        upstream = route.upstream
        backend = self._backends[upstream.name]
        return {
            "upstream": upstream.name,
            "model": route.model,
            "api": upstream.api,
            "provider": upstream.profile.name,
            "left_alone": backend.client.is_circuit_open,
            "learned": backend.describe_memory(route.model),
        }

    async def get_model(
        self, model_id: str, caller: Caller, observation: Observation
    ) -> JsonObject:
        """Return a listed model, by its id or by a form of it that requests accept.

        Raises ApiError (404) if no model has that id.
        """
        models = await self.list_models(caller, observation)
        models_by_id = {model["id"]: model for model in models}
        base = strip_context_suffix(model_id)
        name = decode_claude_id(base)
        for form in (model_id, base, name, to_claude_id(name)):
            if form in models_by_id:
                return models_by_id[form]
        raise ApiError(404, f"model: {shorten(model_id)}")

    def _tiers(self) -> dict[str, str]:
        """Return the listed name of the first target of each tier that has a model.

        A rule may name a tier and have conditions that a plain request does not meet.
        """
        names = {}
        for tier in TIERS:
            if any(tier in rule.tiers for rule in self._routing.rules):
                model = f"claude-{tier}"
                groups = self._routing.select_groups({"model": model, "messages": []}, lambda: 0)
                route = self._routing.build_routes(groups[0], model)[0]
                if route.model != model:
                    names[model] = self._listed_name(route)
        return names

    def _aliases(self) -> dict[str, str]:
        """Return the listed name of the first target of each alias."""
        names = {}
        for alias, groups in self._routing.aliases.items():
            first_target = groups[0][0]
            route = Route(first_target.upstream, first_target.model or alias)
            names[alias] = self._listed_name(route)
        return names

    def _listed_name(self, route: Route) -> str:
        if len(self._backends) == 1:
            return route.model
        return f"{route.upstream.name}/{route.model}"

    async def _fetch_models_in_time(
        self,
        backend: Backend,
        caller: Caller,
        observation: Observation,
    ) -> list[JsonObject]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                return await self._fetch_models(backend, caller, observation)
        except TimeoutError:
            text = (
                f"The upstream {backend.client.upstream.name} did not send its list of models "
                f"within {_TIMEOUT_SECONDS} s"
            )
            raise ApiError(504, text) from None

    async def _fetch_models(
        self,
        backend: Backend,
        caller: Caller,
        observation: Observation,
    ) -> list[JsonObject]:
        client = backend.client.for_request(caller, observation, None)
        upstream = client.upstream
        query = _ALL_QUERY if upstream.api == "messages" else ""
        response = await client.get(upstream.build_url("/models", query))
        if response.status in MISSING_PATH_STATUSES:
            await response.aclose()
            models = to_configured_models(self._routing.list_models(upstream))
            if not models:
                raise _no_list_error(upstream.name, response.status)
        else:
            request_id = observation.request_id
            body = await backend.read_successful_body(client, response, request_id)
            models = _parse_models(body, client, response)
        for model in models:
            model["id"] = self._listed_name(Route(upstream, model["id"]))
        return models


def _no_list_error(name: str, status: int) -> ApiError:
    hint = "set COMPLETION_MODEL or MODEL_ALIASES, or check UPSTREAM_BASE_URL"
    error = ApiError(404, f"The upstream {name} has no list of models (status {status}): {hint}")
    error.upstream_status = status
    return error


def _parse_models(
    body: bytes, client: UpstreamClient, response: UpstreamResponse
) -> list[JsonObject]:
    """Return the models in a successful response. Raises ApiError."""
    try:
        models = to_model_infos(loads(body))
    except ValueError:
        models = None
    if models is not None:
        return models
    if is_html_page(response.headers):
        raise html_page_error(client.identity)
    raise ApiError(500, f"The upstream {client.upstream.name} returned an invalid list of models")

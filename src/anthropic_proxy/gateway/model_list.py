"""The models that clients may ask for: aliases, and what the upstreams offer."""

import asyncio
from collections.abc import Mapping

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.gateway.backend import Backend
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route, Routing, build_routes
from anthropic_proxy.translate.model_list import (
    MAX_LIMIT,
    add_aliases,
    to_configured_models,
    to_model_infos,
)
from anthropic_proxy.translate.upstream_errors import html_page_error, is_html_page
from anthropic_proxy.wire.json_codec import JsonObject, loads
from anthropic_proxy.wire.quoting import shorten

# Seconds. Clients show nothing until the list is there, and one upstream that hangs must not hold up those of the others.
_TIMEOUT_SECONDS = 10

# The Messages API gives its list in pages, of this many models at most.
_ALL_QUERY = f"limit={MAX_LIMIT}"


class ModelList:
    """The models of all upstreams, asked for each time."""

    def __init__(self, routing: Routing, backends: Mapping[str, Backend]) -> None:
        self._routing = routing
        self._backends = backends

    async def list_models(self, caller: Caller, observation: Observation) -> list[JsonObject]:
        """The aliases, and what the upstreams offer or, where one has no list, what is configured for it; of several
        upstreams under the names `upstream/model`. One that fails is left out as long as another answers. Raises ApiError.
        """
        requests = [
            self._fetch_models_in_time(backend, caller, observation)
            for backend in self._backends.values()
        ]
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
        return add_aliases(models, self._aliases())

    def with_debug_info(self, models: list[JsonObject]) -> list[JsonObject]:
        """The models, each with what is known of it: the upstream, its kind, and what was learned from its answers."""
        return [{**model, "anthropic_proxy": self._debug_info(model["id"])} for model in models]

    def _debug_info(self, model_id: str) -> JsonObject:
        groups = self._routing.select_groups({"model": model_id, "messages": []}, lambda: 0)
        return {
            "targets": [
                self._describe_route(route)
                for group in groups
                for route in build_routes(group, model_id)
            ]
        }

    def _describe_route(self, route: Route) -> JsonObject:
        backend, upstream = self._backends[route.upstream.name], route.upstream
        memory = backend.describe_memory(route.model)
        description = {
            "upstream": upstream.name,
            "model": route.model,
            "api": upstream.api,
            "dialect": upstream.profile.name,
        }
        return {**description, "left_alone": backend.client.is_circuit_open, "learned": memory}

    async def get_model(
        self, model_id: str, caller: Caller, observation: Observation
    ) -> JsonObject:
        """One of `models`. Raises ApiError (404) when the upstreams have none of that id."""
        for model in await self.list_models(caller, observation):
            if model["id"] == model_id:
                return model
        raise ApiError(404, f"model: {shorten(model_id)}")

    def _aliases(self) -> dict[str, str]:
        return {
            alias: self._listed_name(Route(groups[0][0].upstream, groups[0][0].model or alias))
            for alias, groups in self._routing.aliases.items()
        }

    def _listed_name(self, route: Route) -> str:
        """The name under which a model is listed."""
        return route.model if len(self._backends) == 1 else f"{route.upstream.name}/{route.model}"

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
        is_native = upstream.api == "messages"
        response = await client.get(upstream.build_url("/models", _ALL_QUERY if is_native else ""))
        fallback = to_configured_models(self._routing.list_models(upstream))
        if fallback and response.status in MISSING_PATH_STATUSES:
            await response.aclose()
            models: list[JsonObject] | None = fallback
        elif response.status in MISSING_PATH_STATUSES:
            await response.aclose()
            raise _no_list(upstream.name, response.status)
        else:
            models = _parse_models(await backend.read_ok(client, response, observation.request_id))
        if models is None:
            if is_html_page(response.headers):
                raise html_page_error(client.identity)
            raise ApiError(
                500,
                f"The upstream {upstream.name} answered 200 with something that is no list of models",
            )
        return [
            {**model, "id": self._listed_name(Route(upstream, model["id"]))} for model in models
        ]


def _no_list(name: str, status: int) -> ApiError:
    hint = "set COMPLETION_MODEL or MODEL_ALIASES, or check UPSTREAM_BASE_URL"
    error = ApiError(404, f"The upstream {name} has no list of models ({status}): {hint}")
    error.upstream_status = status
    return error


def _parse_models(body: bytes) -> list[JsonObject] | None:
    try:
        return to_model_infos(loads(body))
    except ValueError:
        return None

"""The models that clients may ask for: aliases, and what the upstreams offer."""

import asyncio
from collections.abc import Mapping

from anthropic_proxy.auth.caller import Client
from anthropic_proxy.errors import NOT_THERE, ApiError
from anthropic_proxy.gateway.passthrough_backend import Passing
from anthropic_proxy.gateway.translating_backend import Serving
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.router import Route, Routing, routes
from anthropic_proxy.translate.model_list import (
    MAX_LIMIT,
    configured_models,
    to_model_infos,
    with_aliases,
)
from anthropic_proxy.translate.upstream_errors import is_page, no_api
from anthropic_proxy.upstream.retry import Repeats
from anthropic_proxy.wire.json_codec import JsonObject, loads
from anthropic_proxy.wire.quoting import shortened

# Seconds. Clients show nothing until the list is there, and one upstream that hangs must not hold up those of the others.
_PATIENCE = 10

# The Messages API gives its list in pages, of this many models at most.
_ALL = f"limit={MAX_LIMIT}"


class Catalogue:
    """The models of all upstreams, asked for each time."""

    def __init__(self, routing: Routing, serving: Mapping[str, Serving | Passing]) -> None:
        self._routing = routing
        self._serving = serving

    async def models(self, client: Client, observation: Observation) -> list[JsonObject]:
        """The aliases, and what the upstreams offer or, where one has no list, what is configured for it; of several
        upstreams under the names `upstream/model`. One that fails is left out as long as another answers. Raises ApiError.
        """
        asked = [self._in_time(each, client, observation) for each in self._serving.values()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        models: list[JsonObject] = []
        failed: list[BaseException] = []
        for offered in found:
            if isinstance(offered, BaseException):
                failed.append(offered)
            else:
                models += offered
        if len(failed) == len(found) or not all(isinstance(error, ApiError) for error in failed):
            raise failed[0]
        return with_aliases(models, self._aliases())

    def debugged(self, models: list[JsonObject]) -> list[JsonObject]:
        """The models, each with what is known of it: the upstream, its kind, and what was learned from its answers."""
        return [{**model, "anthropic_proxy": self._known_of(model["id"])} for model in models]

    def _known_of(self, model_id: str) -> JsonObject:
        groups = self._routing.groups({"model": model_id, "messages": []}, lambda: 0)
        return {
            "targets": [self._told(route) for group in groups for route in routes(group, model_id)]
        }

    def _told(self, route: Route) -> JsonObject:
        serving, endpoint = self._serving[route.endpoint.name], route.endpoint
        learned = serving.learned(route.model)
        told = {
            "upstream": endpoint.name,
            "model": route.model,
            "api": endpoint.api,
            "dialect": endpoint.dialect.name,
        }
        return {**told, "left_alone": serving.client.is_left_alone, "learned": learned}

    async def model(self, model_id: str, client: Client, observation: Observation) -> JsonObject:
        """One of `models`. Raises ApiError (404) when the upstreams have none of that id."""
        for model in await self.models(client, observation):
            if model["id"] == model_id:
                return model
        raise ApiError(404, f"model: {shortened(model_id)}")

    def _aliases(self) -> dict[str, str]:
        return {
            alias: self._listed(Route(groups[0][0].endpoint, groups[0][0].model or alias))
            for alias, groups in self._routing.aliases.items()
        }

    def _listed(self, route: Route) -> str:
        """The name under which a model is listed."""
        return route.model if len(self._serving) == 1 else f"{route.endpoint.name}/{route.model}"

    async def _in_time(
        self, serving: Serving | Passing, client: Client, observation: Observation
    ) -> list[JsonObject]:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._offered(serving, client, observation)
        except TimeoutError:
            text = f"The upstream {serving.client.endpoint.name} did not send its list of models within {_PATIENCE} s"
            raise ApiError(504, text) from None

    async def _offered(
        self, serving: Serving | Passing, client: Client, observation: Observation
    ) -> list[JsonObject]:
        asking = serving.client.for_client(client, observation, Repeats())
        endpoint = asking.endpoint
        is_native = endpoint.api == "messages"
        reply = await asking.get(endpoint.url("/models", _ALL if is_native else ""))
        configured = configured_models(self._routing.models(endpoint))
        if configured and reply.status in NOT_THERE:
            await reply.aclose()
            offered: list[JsonObject] | None = configured
        elif reply.status in NOT_THERE:
            await reply.aclose()
            raise _no_list(endpoint.name, reply.status)
        else:
            offered = _infos(await serving.good(asking, reply, observation.request_id))
        if offered is None:
            if is_page(reply.headers):
                raise no_api(asking.source)
            raise ApiError(
                500,
                f"The upstream {endpoint.name} answered 200 with something that is no list of models",
            )
        return [{**model, "id": self._listed(Route(endpoint, model["id"]))} for model in offered]


def _no_list(name: str, status: int) -> ApiError:
    hint = "set COMPLETION_MODEL or MODEL_ALIASES, or check UPSTREAM_BASE_URL"
    error = ApiError(404, f"The upstream {name} has no list of models ({status}): {hint}")
    error.upstream_status = status
    return error


def _infos(raw: bytes) -> list[JsonObject] | None:
    try:
        return to_model_infos(loads(raw))
    except ValueError:
        return None

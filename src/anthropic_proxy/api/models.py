"""`GET /v1/models` and `/v1/models/{id}`: what the upstream offers, in the API's shape."""

from quart import Blueprint, Response, g, request
from werkzeug.routing import BaseConverter

from anthropic_proxy.api.messages import PREFIXES
from anthropic_proxy.api.request import Request
from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.gateway.gateway import Generations
from anthropic_proxy.translate.model_list import DEFAULT_LIMIT, page
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shortened


class ModelId(BaseConverter):
    """A model's id in a path. Some servers use the paths of files, so slashes may stand anywhere, also in front."""

    regex = ".+?"
    part_isolating = False


# Name of the converter in rules.
MODEL_ID = "model_id"


def routes(gateways: Generations) -> Blueprint:
    """The routes; ids may hold slashes, encoded or not."""
    blueprint = Blueprint("models", __name__)

    async def models() -> Response:
        received = _received()
        arguments = request.args
        offered = await gateways.current.catalogue.models(received.client, received.observation)
        allowed = [model for model in offered if received.key.may_use(model["id"])]
        told = page(
            _of_lifecycle(allowed, arguments.getlist("lifecycle[]")),
            limit=_limit(arguments.get("limit")),
            before_id=arguments.get("before_id"),
            after_id=arguments.get("after_id"),
        )
        return _json(
            {**told, "data": gateways.current.catalogue.debugged(told["data"])}
            if _debug()
            else told
        )

    async def model(model_id: str) -> Response:
        received = _received()
        if not received.key.may_use(model_id):
            raise ApiError(404, f"model: {shortened(model_id)}")
        found = await gateways.current.catalogue.model(
            model_id, received.client, received.observation
        )
        return _json(gateways.current.catalogue.debugged([found])[0] if _debug() else found)

    for prefix in PREFIXES:
        blueprint.add_url_rule(f"{prefix}/models", f"{prefix}/models", models, strict_slashes=False)
        blueprint.add_url_rule(f"{prefix}/models/<{MODEL_ID}:model_id>", f"{prefix}/model", model)
    return blueprint


def _received() -> Request:
    """The request that is being answered."""
    received: Request = g.received
    received.observation.operation = "models"
    return received


def _of_lifecycle(models: list[JsonObject], wanted: list[str]) -> list[JsonObject]:
    return [model for model in models if not wanted or model.get("lifecycle", "active") in wanted]


def _debug() -> bool:
    """Whether the one who asks runs the server and wants to know what it has learned."""
    return request.args.get("debug", "").lower() in ("1", "true")


def _limit(given: str | None) -> int:
    if given is None:
        return DEFAULT_LIMIT
    try:
        return int(given)
    except ValueError:
        raise invalid_request(
            f"limit: Input should be a valid integer, not {shortened(given)!r}"
        ) from None


def _json(body: JsonObject) -> Response:
    return Response(dumps(body), content_type="application/json")

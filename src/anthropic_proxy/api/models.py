"""`GET /v1/models` and `GET /v1/models/{id}`: the models of the upstreams."""

from quart import Blueprint, Response, g, request
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from anthropic_proxy.api.paths import PREFIXES
from anthropic_proxy.api.request import Request
from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.gateway.reloadable import ReloadableGateway
from anthropic_proxy.translate.model_list import DEFAULT_LIMIT, paginate
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.quoting import shorten


class ModelIdConverter(BaseConverter):
    """Match a model id in a URL path. Some servers use file paths as ids (`/models/a.gguf`)."""

    regex = ".+?"
    part_isolating = False


def _register_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["model_id"] = ModelIdConverter


def create_model_routes(gateway: ReloadableGateway) -> Blueprint:
    """Return the routes. Model ids may contain slashes, percent-encoded or not."""
    blueprint = Blueprint("models", __name__)
    blueprint.record_once(_register_converter)

    async def list_models() -> Response:
        current = _current_request()
        arguments = request.args
        allowed = []
        for model in await gateway.current.model_list.list_models(
            current.caller, current.observation
        ):
            if current.key.allows_model(gateway.current.list_model_names(model["id"])):
                allowed.append(model)
        lifecycles = arguments.getlist("lifecycle[]")
        if lifecycles:
            allowed = [each for each in allowed if each.get("lifecycle", "active") in lifecycles]
        listing = paginate(
            allowed,
            limit=_parse_limit(arguments.get("limit")),
            before_id=arguments.get("before_id"),
            after_id=arguments.get("after_id"),
        )
        if _wants_debug_info():
            models = gateway.current.model_list.with_debug_info(listing["data"])
            listing = {**listing, "data": models}
        return _to_json_response(listing)

    async def get_model(model_id: str) -> Response:
        current = _current_request()
        if not current.key.allows_model(gateway.current.list_model_names(model_id)):
            raise ApiError(404, f"model: {shorten(model_id)}")
        info = await gateway.current.model_list.get_model(
            model_id, current.caller, current.observation
        )
        if _wants_debug_info():
            (info,) = gateway.current.model_list.with_debug_info([info])
        return _to_json_response(info)

    for prefix in PREFIXES:
        blueprint.add_url_rule(
            f"{prefix}/models", f"{prefix}/models", list_models, strict_slashes=False
        )
        blueprint.add_url_rule(f"{prefix}/models/<model_id:model_id>", f"{prefix}/model", get_model)
    return blueprint


def _current_request() -> Request:
    """Return the request of the current context, and set its operation."""
    current: Request = g.received
    current.observation.operation = "models"
    return current


def _wants_debug_info() -> bool:
    """Return whether the request selects debug information on the models (`?debug=1`)."""
    return request.args.get("debug", "").lower() in ("1", "true")


def _parse_limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    try:
        return int(text)
    except ValueError:
        raise invalid_request(
            f"limit: Input should be a valid integer, not {shorten(text)!r}"
        ) from None


def _to_json_response(body: JsonObject) -> Response:
    return Response(dumps(body), content_type="application/json")

"""Whether spans are made, as OpenTelemetry's own variables of the environment say
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). Without one that names an exporter or
where to send them nothing of it is loaded.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from anthropic_proxy.observe.logs import Log

if TYPE_CHECKING:
    from anthropic_proxy.observe.traces import Traces

_EXPORTERS = ("otlp", "console")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


def traces(environment: Mapping[str, str], log: Log, quiet: Collection[str]) -> "list[Traces]":
    """The sink of spans, where they are wanted; `quiet` as there. What is wanted and can't be had is logged."""
    wanted = _wanted(environment)
    exporters = [name for name in wanted if name in _EXPORTERS]
    protocol = _first(environment, _PROTOCOLS) or _PROTOCOL
    for name in wanted:
        if name not in _EXPORTERS:
            log.warning("no such exporter of traces", name=name, hint=f"OTEL_TRACES_EXPORTER: {', '.join(_EXPORTERS)}")
    if "otlp" in exporters and protocol != _PROTOCOL:
        hint = f"set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}, and the port that the collector has for it (4318 as a rule)"
        log.warning("traces are not sent by this protocol", protocol=protocol, hint=hint)
        exporters.remove("otlp")
    if not exporters:
        return []
    try:
        from anthropic_proxy.observe.traces import Traces  # an extra, and half a second of the start
    except ImportError as error:
        hint = "pip install 'anthropic-proxy[otel]', or set OTEL_TRACES_EXPORTER=none"
        log.warning("traces can't be sent without OpenTelemetry", missing=error.name, hint=hint)
        return []
    log.hide(_secrets(environment))
    return [Traces(exporters, log, quiet, environment)]


def _wanted(environment: Mapping[str, str]) -> list[str]:
    """Names of exporters, each once."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    default = "otlp" if _first(environment, _ENDPOINTS) else "none"
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    return [name for name in dict.fromkeys(each.strip() for each in named.split(",")) if name not in ("", "none")]


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """What says to the collector who sends, within the headers and addresses for it: what the SDK says may repeat it."""
    headers = (pair.partition("=")[2] for name in _HEADERS for pair in environment.get(name, "").split(","))
    addresses = [urlsplit(environment.get(name, "").strip()) for name in _ENDPOINTS]
    parts = [part for address in addresses for part in (address.query, address.password) if part]
    return {form for given in (*headers, *parts) for form in (given.strip(), unquote(given.strip())) if form}


def _first(environment: Mapping[str, str], names: Collection[str]) -> str:
    return next(filter(None, (environment.get(name, "").strip() for name in names)), "")

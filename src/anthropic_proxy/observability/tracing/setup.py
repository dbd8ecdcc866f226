"""Configure the export of spans by the environment variables of OpenTelemetry.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
OpenTelemetry is not imported unless a variable names an exporter or a collector.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anthropic_proxy.errors.redaction import Secret, find_url_secrets
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.providers.base_url import check_login

if TYPE_CHECKING:
    from anthropic_proxy.observability.tracing.exporter import TraceExporter

_EXPORTERS = ("otlp", "console")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


def create_trace_exporters(
    environment: Mapping[str, str], log: Log, quiet_paths: Collection[str]
) -> "list[TraceExporter]":
    """Return the sinks that the environment requests. Log a warning for unusable exporters."""
    exporter_names = _requested_exporters(environment)
    exporters = [name for name in exporter_names if name in _EXPORTERS]
    protocol = _first_value(environment, _PROTOCOLS) or _PROTOCOL
    for name in exporter_names:
        if name not in _EXPORTERS:
            log.warning(
                "trace exporter rejected",
                name=name,
                hint=f"set OTEL_TRACES_EXPORTER to {', '.join(_EXPORTERS)} or none",
            )
    if "otlp" in exporters and protocol != _PROTOCOL:
        hint = (
            f"set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}, "
            "and use the port of the collector for it (usually 4318)"
        )
        log.warning("trace protocol rejected", protocol=protocol, hint=hint)
        exporters.remove("otlp")
    log.add_secrets(_collector_secrets(environment))
    if "otlp" in exporters and not _has_usable_address(environment, log):
        exporters.remove("otlp")
    if not exporters:
        return []
    try:
        # Optional dependency, which takes half a second to import.
        from anthropic_proxy.observability.tracing.exporter import TraceExporter
    except ImportError as error:
        hint = "pip install '.[otel]' in the checkout, or set OTEL_TRACES_EXPORTER=none"
        log.warning("trace export disabled", missing=error.name, hint=hint)
        return []
    return [TraceExporter(exporters, log, quiet_paths, environment)]


def _requested_exporters(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the requested exporters without duplicates."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    default = "otlp" if _first_value(environment, _ENDPOINTS) else "none"
    exporter_list = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    names = dict.fromkeys(name.strip() for name in exporter_list.split(","))
    return [name for name in names if name not in ("", "none")]


def _has_usable_address(environment: Mapping[str, str], log: Log) -> bool:
    """Return whether the address of the collector is valid; log the reason if not.

    The errors of the exporter could contain parts of a password.
    """
    for name in _ENDPOINTS:
        address = environment.get(name, "").strip()
        try:
            check_login(address)
        except ValueError as error:
            log.warning("trace export disabled", reason=f"{name} {error}")
            return False
        if address and not address.lower().startswith(("http://", "https://")):
            log.warning(
                "trace export disabled", reason=f"{name} must begin with http:// or https://"
            )
            return False
    return True


def _collector_secrets(environment: Mapping[str, str]) -> set[Secret]:
    """Return the credentials in the headers and addresses of the collector.

    Errors of the SDK may contain them, possibly percent-decoded.
    """
    secrets = set()
    for name in _HEADERS:
        for pair in environment.get(name, "").split(","):
            header, _, value = pair.partition("=")
            secrets.add(Secret(value.strip(), header.strip()))
    for name in _ENDPOINTS:
        secrets.update(find_url_secrets(environment.get(name, "").strip()))
    return secrets | {Secret(unquote(secret.value), secret.name) for secret in secrets}


def _first_value(environment: Mapping[str, str], names: Collection[str]) -> str:
    for name in names:
        value = environment.get(name, "").strip()
        if value:
            return value
    return ""

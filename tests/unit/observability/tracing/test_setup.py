"""Conditions for trace export, and the warnings about invalid settings."""

import sys
from unittest import mock

import pytest

from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.tracing.setup import create_trace_exporters


@pytest.mark.parametrize(
    ("variables", "warnings"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, [], id="empty"),
        pytest.param({"OTEL_SERVICE_NAME": "a"}, [], id="a-name-alone"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "True"},
            [],
            id="disabled",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"},
            [],
            id="none",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"},
            ["trace export disabled"],
            id="no-scheme",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "a/v1/traces"},
            ["trace export disabled"],
            id="no-scheme-either",
        ),
        pytest.param({"OTEL_TRACES_EXPORTER": "zipkin"}, ["trace exporter rejected"], id="unknown"),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["trace protocol rejected"],
            id="protocol",
        ),
    ],
)
def test_trace_export_is_disabled(variables: dict[str, str], warnings: list[str]) -> None:
    log = mock.create_autospec(Log, instance=True)
    assert create_trace_exporters(variables, log, ()) == []
    assert [call.args[0] for call in log.warning.call_args_list] == warnings


def test_a_missing_opentelemetry_package_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(
        sys.modules, "anthropic_proxy.observability.tracing.exporter", raising=False
    )
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    log = mock.create_autospec(Log, instance=True)
    assert create_trace_exporters({"OTEL_TRACES_EXPORTER": "otlp"}, log, ()) == []
    hint = "pip install '.[otel]' in the checkout, or set OTEL_TRACES_EXPORTER=none"
    log.warning.assert_called_once_with("trace export disabled", missing="opentelemetry", hint=hint)

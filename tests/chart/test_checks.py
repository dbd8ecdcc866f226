"""Invalid values of a release are rejected, with a hint for the correct value."""

from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings
from tests.chart.helm import (
    HelmError,
    Values,
    get_object,
    objects,
    objects_by_kind,
    render_templates,
)
from tests.chart.settings import MANAGED, SETTINGS

# Variables of the chart that operators may also set, for a mounted file.
FILE_VARIABLES = {"CONFIG_FILE", "PROXY_API_KEYS_FILE"}
CHART_VARIABLES = sorted((MANAGED - FILE_VARIABLES) | {"HOST"})


def _error(values: Values, **options: Any) -> str:
    with pytest.raises(HelmError) as error:
        objects(values, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"image": {"repository": ""}}, "set image.repository"),
        (
            {"upstream": {"url": ""}},
            "set upstream.url to an OpenAI-compatible server, or configFile, or ollama.enabled",
        ),
    ],
)
def test_required_values_are_reported(values: Values, hint: str) -> None:
    assert hint in _error(values)


@pytest.mark.parametrize(
    "values",
    [
        {"ollama": {"enabled": True}},
        {"configFile": {"content": "upstreams: {}"}},
        {"configFile": {"existingConfigMap": {"name": "mine"}}},
        {"extraEnv": [{"name": "CONFIG_FILE", "value": "/mine/upstreams.yaml"}]},
    ],
)
def test_other_upstream_values_replace_the_default_url(values: Values) -> None:
    settings = next(
        each["data"] for each in objects_by_kind({"upstream": {"url": ""}, **values})["ConfigMap"]
    )
    assert "http://ollama:11434" not in settings.values()


@pytest.mark.parametrize(("name", "is_secret"), SETTINGS.items())
def test_all_secret_settings_are_accepted_as_secrets(name: str, is_secret: bool) -> None:
    values = {"secrets": {"values": {name: "a"}}}
    if is_secret:
        assert get_object("Secret", values)["stringData"] == {name: "a"}
    elif name not in {"UPSTREAM_HEADERS", "UPSTREAM_EXTRA_BODY"}:
        assert name in _error(values)


@pytest.mark.parametrize("section", ["values", "fromKeys"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("UPSTREAM_APIKEY", "did you mean UPSTREAM_API_KEY?"),
        ("upstream_api_key", "did you mean UPSTREAM_API_KEY?"),
        ("UPSTREAM_API_KEYS", "did you mean UPSTREAM_API_KEY?"),
        ("PROXY_API_KEY", "did you mean PROXY_API_KEYS?"),
        ("SIGNATURE", "did you mean SIGNATURE_SECRET?"),
        ("SECRET", "Known are UPSTREAM_API_KEY, "),
        ("MODEL_MAP", "belongs in settings"),
    ],
)
def test_unknown_secret_names_are_rejected(section: str, name: str, hint: str) -> None:
    value = "canary" if section == "values" else {"name": "a", "key": "canary"}
    error = _error({"secrets": {section: {name: value}}})
    assert f"secrets.{section}.{name}" in error
    assert hint in error
    assert "canary" not in error


@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_HEADERS", "HTTPS_PROXY", "no_proxy", "UPSTREAM_EXTRA_BODY"]
)
def test_other_variables_are_accepted_as_secrets(name: str) -> None:
    assert get_object("Secret", {"secrets": {"values": {name: "a"}}})["stringData"] == {name: "a"}


@pytest.mark.parametrize("content", ["{key: '${OPENAI_KEY}'}", "{key: '${OPENAI_KEY:-none}'}"])
def test_secrets_in_the_configuration_file_are_accepted(content: str) -> None:
    values = {"configFile": {"content": content}, "secrets": {"values": {"OPENAI_KEY": "a"}}}
    assert get_object("Secret", values)["stringData"] == {"OPENAI_KEY": "a"}
    for config_file in ({"content": "{key: '${OPENAI_KEY_2}'}"}, {"content": "OPENAI_KEY"}):
        assert "secrets.values.OPENAI_KEY" in _error({**values, "configFile": config_file})
    with_config_map = {
        "configFile": {"existingConfigMap": {"name": "mine"}},
        "secrets": values["secrets"],
    }
    assert get_object("Secret", with_config_map)
    with_mounted_file = {
        "extraEnv": [{"name": "CONFIG_FILE", "value": "/mine/upstreams.yaml"}],
        "secrets": values["secrets"],
    }
    assert get_object("Secret", with_mounted_file)


@pytest.mark.parametrize("name", CHART_VARIABLES)
def test_variables_of_the_chart_are_rejected(name: str) -> None:
    """With a different port or address, pods would be ready but unreachable by the Service."""
    all_values: list[Values] = [
        {"secrets": {"values": {name: "8080"}}},
        {"secrets": {"fromKeys": {name: {"name": "a", "key": "b"}}}},
        {"secrets": {"values": {name.lower(): "8080"}}},
        {"secrets": {"fromKeys": {name.lower(): {"name": "a", "key": "b"}}}},
        {"extraEnv": [{"name": name, "value": "8080"}]},
        {"extraEnv": [{"name": name.lower(), "value": "8080"}]},
        {"extraEnv": [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
    ]
    for values in all_values:
        assert f"the chart sets {name} itself: use " in _error(values)


@pytest.mark.parametrize(
    "argument",
    ["--port=8080", "--port", "-p8080", "-dp8080", "-dvp", "--host", "--daemon"],
)
def test_unsuitable_arguments_are_rejected(argument: str) -> None:
    assert f"extraArgs: {argument} does not fit a pod" in _error({"extraArgs": [argument]})


@pytest.mark.parametrize("argument", ["--debug", "-dv", "-c/opt/.env", "--verbose"])
def test_suitable_arguments_are_accepted(argument: str) -> None:
    assert objects_by_kind({"extraArgs": [argument]})["Deployment"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_unreachable_listen_addresses_are_rejected(host: str) -> None:
    assert "HOST" in _error({"settings": {"HOST": host}})


def test_variables_of_the_chart_are_settings() -> None:
    names = {str(name) for name in SETTINGS}
    assert set(CHART_VARIABLES) <= names
    assert len(names) >= len(Settings.model_fields)


@pytest.mark.parametrize("key", ["extraEnv", "ollama"])
@pytest.mark.parametrize("value", [1, True, None, {"a": "b"}])
def test_environment_variables_must_be_text(key: str, value: object) -> None:
    variables = [{"name": "A", "value": value}]
    values = (
        {"extraEnv": variables}
        if key == "extraEnv"
        else {"ollama": {"enabled": True, "extraEnv": variables}}
    )
    assert "extraEnv/0/value" in _error(values)


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (
            {"autoscaling": {"enabled": True, "minReplicas": 12}},
            "minReplicas is 12, which is more than",
        ),
        (
            {"keda": {"enabled": True, "minReplicas": 12, "prometheusAddress": "http://p"}},
            "keda.minReplicas is 12, which is more than keda.maxReplicas: 10",
        ),
        (
            {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "set resources.requests.cpu",
        ),
        ({"autoscaling": {"enabled": True}, "resources": None}, "set resources.requests.cpu"),
        ({"service": {"port": 9090}}, "service.port and metrics.port are both 9090"),
        (
            {"drain": {"timeoutSeconds": 7200}, "ingress": {"enabled": True, "controller": "alb"}},
            "must not exceed that",
        ),
        ({"global": {"imageRegistyr": "a"}}, "global.imageRegistyr is not known"),
    ],
)
def test_conflicting_values_are_rejected(values: Values, hint: str) -> None:
    assert hint in _error(values)


@pytest.mark.parametrize(
    "values",
    [
        {
            "autoscaling": {"enabled": True},
            "resources": {"requests": {"cpu": None}, "limits": {"cpu": 1}},
        },
        {"autoscaling": {"enabled": True, "minReplicas": 10}},
        {"service": {"type": "LoadBalancer", "port": 9090}},
        {"drain": {"timeoutSeconds": 7200}, "ingress": {"enabled": True}},
    ],
)
def test_compatible_values_are_accepted(values: Values) -> None:
    assert objects(values)


@pytest.mark.parametrize(
    ("values", "path", "api"),
    [
        (
            {"metrics": {"serviceMonitor": {"enabled": True}}},
            "metrics.serviceMonitor.enabled",
            "monitoring.coreos.com/v1",
        ),
        (
            {"metrics": {"podMonitor": {"enabled": True}}},
            "metrics.podMonitor.enabled",
            "monitoring.coreos.com/v1",
        ),
        (
            {"metrics": {"prometheusRule": {"enabled": True}}},
            "metrics.prometheusRule.enabled",
            "monitoring.coreos.com/v1",
        ),
        (
            {"keda": {"enabled": True, "prometheusAddress": "http://p"}},
            "keda.enabled",
            "keda.sh/v1alpha1",
        ),
        (
            {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}},
            "httpRoute.enabled",
            "gateway.networking.k8s.io/v1",
        ),
    ],
)
def test_kinds_that_the_cluster_does_not_support_are_rejected(
    values: Values, path: str, api: str
) -> None:
    error = _error(values, apis=())
    assert f"{path} needs " in error
    assert f"the cluster does not have {api}" in error
    assert objects(values, apis=(api,))
    assert objects({**values, "disableCrdChecks": True}, apis=())


def test_the_defaults_need_no_additional_apis() -> None:
    assert render_templates(apis=())


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"upstream": {"url": None}}, "set upstream.url to an OpenAI-compatible server"),
        ({"ingress": {"enabled": True, "hosts": None}}, "at '/ingress': missing property 'hosts'"),
        ({"service": {"port": None}}, "at '/service': missing property 'port'"),
        ({"metrics": {"port": None}}, "at '/metrics': missing property 'port'"),
        ({"drain": {"timeoutSeconds": None}}, "at '/drain': missing property 'timeoutSeconds'"),
        ({"fullnameOverride": "My_Name"}, "at '/fullnameOverride': 'My_Name' does not match"),
        ({"fullnameOverride": "a.b"}, "at '/fullnameOverride': 'a.b' does not match"),
        ({"fullnameOverride": "1a"}, "at '/fullnameOverride': '1a' does not match"),
        ({"nameOverride": "My Name"}, "at '/nameOverride': 'My Name' does not match"),
        ({"settings": {"UPSTREAM_RETRIES": "abc"}}, "at '/settings/UPSTREAM_RETRIES': 'abc'"),
        ({"settings": {"UPSTREAM_RETRIES": True}}, "at '/settings/UPSTREAM_RETRIES'"),
        ({"settings": {"BODY_TIMEOUT": "5s"}}, "at '/settings/BODY_TIMEOUT': '5s'"),
        ({"settings": {"DEBUG": "maybe"}}, "at '/settings/DEBUG': 'maybe'"),
        ({"settings": {"LOG_FORMAT": "xml"}}, "at '/settings/LOG_FORMAT'"),
    ],
)
def test_null_and_malformed_values_are_rejected(values: Values, hint: str) -> None:
    assert hint in _error(values)


@pytest.mark.parametrize(
    "name",
    [
        "replicaCount",
        "upstream",
        "global",
        "tls",
        "ingress",
        "service",
        "metrics",
        "settings",
        "drain",
        "image",
    ],
)
def test_null_is_rejected_for_required_sections(name: str) -> None:
    assert f"missing property '{name}'" in _error({name: None})


@pytest.mark.parametrize(
    "settings",
    [
        {"UPSTREAM_RETRIES": 2, "BODY_TIMEOUT": 1.5, "DEBUG": True, "MAX_UPSTREAM_BYTES": 67108864},
        {"UPSTREAM_RETRIES": "2", "BODY_TIMEOUT": "1.5", "DEBUG": "true", "LOG_FORMAT": "json"},
        {"UPSTREAM_RETRIES": "", "BODY_TIMEOUT": "", "DEBUG": "", "VERBOSE": "0"},
    ],
)
def test_numbers_and_flags_are_accepted_as_text(settings: Values) -> None:
    data = get_object("ConfigMap", {"settings": settings})["data"]
    assert data["UPSTREAM_RETRIES"] == str(settings["UPSTREAM_RETRIES"])

"""Objects of the chart: security, shutdown, and agreement with the server settings."""

import base64
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from anthropic_proxy.config.file import parse_config
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.server.supervisor import _KILL_SECONDS
from tests.chart.helm import (
    CI_VALUES,
    HelmError,
    Object,
    Values,
    get_object,
    objects,
    objects_by_kind,
    pod_specs,
    proxy_container,
    read_values,
    render_templates,
)

EACH_VALUES_FILE = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
CANARY = "canary"


def _settings(values: Values) -> dict[str, str]:
    config_maps = [each for each in objects_by_kind(values)["ConfigMap"] if "PORT" in each["data"]]
    return dict(config_maps[0]["data"])


@EACH_VALUES_FILE
def test_pods_are_hardened(path: Any) -> None:
    rendered = [each for each in objects(read_values(path)) if each["kind"] != "ConfigMap"]
    assert pod_specs(rendered)
    for pod in pod_specs(rendered):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in (each for each in pod["containers"] if each["image"] != "busybox"):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_user_is_set_unless_it_is_removed() -> None:
    assert (
        get_object("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        == 10001
    )
    values = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    context = get_object("Deployment", values)["spec"]["template"]["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)


@pytest.mark.parametrize(
    ("kubernetes", "action"),
    [("1.29", {"exec": {"command": ["sleep", "10"]}}), ("1.30", {"sleep": {"seconds": 10}})],
)
def test_pods_pause_before_they_end(kubernetes: str, action: Object) -> None:
    assert proxy_container(kubernetes=kubernetes)["lifecycle"] == {"preStop": action}


@pytest.mark.parametrize(
    "drain", [{}, {"preStopSeconds": 0, "timeoutSeconds": 0.5}, {"timeoutSeconds": 3600}]
)
def test_the_grace_period_covers_the_shutdown(drain: Values) -> None:
    values = {"drain": drain}
    grace_period = get_object("Deployment", values)["spec"]["template"]["spec"][
        "terminationGracePeriodSeconds"
    ]
    pause = drain.get("preStopSeconds", 10)
    assert grace_period > pause + float(_settings(values)["DRAIN_TIMEOUT"]) + _KILL_SECONDS
    assert ("lifecycle" in proxy_container(values)) == (pause > 0)


def test_a_rolling_update_starts_a_pod_before_it_stops_another() -> None:
    spec = get_object("Deployment")["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert spec["replicas"] > 1
    volume = {"replicaCount": 1, "persistence": {"enabled": True}}
    assert get_object("Deployment", volume)["spec"]["strategy"] == {"type": "Recreate"}
    shared_volume = {"persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]}}
    assert get_object("Deployment", shared_volume)["spec"]["strategy"]["type"] == "RollingUpdate"


def test_probes_use_the_metrics_port() -> None:
    container = proxy_container()
    requests = {
        probe: container[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "liveness", "readiness")
    }
    assert requests == {
        "startup": {"path": "/startupz", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    assert {
        "name": "metrics",
        "containerPort": int(_settings({})["METRICS_PORT"]),
        "protocol": "TCP",
    } in container["ports"]
    changed = proxy_container(
        {
            "livenessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 60},
            "startupProbe": None,
        }
    )
    assert (changed["livenessProbe"]["periodSeconds"], "startupProbe" in changed) == (60, False)


def test_configuration_changes_replace_pods() -> None:
    all_values: list[Values] = [
        {},
        {"upstream": {"url": "http://a"}},
        {"settings": {"MODEL_MAP": "a=b"}},
        {"secrets": {"values": {"UPSTREAM_API_KEY": "a"}}},
        {"secrets": {"values": {"UPSTREAM_API_KEY": "b"}}},
        {"configFile": {"content": "upstreams: {}"}},
    ]
    annotations = [
        get_object("Deployment", values)["spec"]["template"]["metadata"]["annotations"]
        for values in all_values
    ]
    assert all(a != b for a, b in itertools.combinations(annotations, 2))
    assert (
        get_object("Deployment", {"replicaCount": 5})["spec"]["template"]["metadata"]["annotations"]
        == annotations[0]
    )


@EACH_VALUES_FILE
def test_secrets_are_only_in_secret_objects(path: Any) -> None:
    values = read_values(path)
    for each in objects(values):
        assert each["kind"] == "Secret" or CANARY not in yaml.safe_dump(each)
    assert CANARY not in render_templates(values)["NOTES.txt"]
    secrets = values.get("secrets", {}).get("values", {})
    assert [each["stringData"] for each in objects_by_kind(values).get("Secret", [])] == (
        [secrets] if secrets else []
    )


def test_secret_values_are_not_changed() -> None:
    unusual = {
        "UPSTREAM_API_KEY": "12345678901234567890",
        "SIGNATURE_SECRET": "0123456789",
        "PROXY_API_KEYS": "1e10",
        "TLS_KEY_PASSWORD": 'a"b\\c\n$d',
        "UPSTREAM_HEADERS": "{{ .Values }}",
        "OPENROUTER_API_KEY": base64.b64encode(b"\0").decode(),
    }
    assert get_object("Secret", {"secrets": {"values": unusual}})["stringData"] == unusual


@pytest.mark.parametrize("value", [12345678901234567890, 1e10, 0, True])
def test_values_that_yaml_changes_are_rejected(value: object) -> None:
    """Helm would render 12345678901234567890 as 12345678901234567000."""
    with pytest.raises(HelmError, match=r"secrets\.values\.UPSTREAM_API_KEY is not text.*quote it"):
        objects({"secrets": {"values": {"UPSTREAM_API_KEY": value}}})


def test_existing_secrets_are_used() -> None:
    secrets = {
        "existingSecret": "mine",
        "fromKeys": {"UPSTREAM_API_KEY": {"name": "openrouter", "key": "token"}},
    }
    container = proxy_container({"secrets": secrets})
    assert {"secretRef": {"name": "mine"}} in container["envFrom"]
    reference = {"secretKeyRef": {"name": "openrouter", "key": "token"}}
    assert container["env"] == [{"name": "UPSTREAM_API_KEY", "valueFrom": reference}]


def test_settings_are_rendered_in_the_format_of_the_server() -> None:
    settings = {
        "MAX_UPSTREAM_BYTES": 134217728,
        "DEBUG": True,
        "UPSTREAM_EXTRA_BODY": {"a": [1]},
        "LOG_FORMAT": "console",
        "HOST": "::",
    }
    data = _settings({"settings": settings})
    assert {name: data[name] for name in settings} == {
        "MAX_UPSTREAM_BYTES": "134217728",
        "DEBUG": "true",
        "UPSTREAM_EXTRA_BODY": '{"a":[1]}',
        "LOG_FORMAT": "console",
        "HOST": "::",
    }


def test_the_upstream_depends_on_the_values() -> None:
    assert _settings({})["UPSTREAM_BASE_URL"] == "http://ollama:11434"
    assert (
        _settings({"ollama": {"enabled": True}})["UPSTREAM_BASE_URL"]
        == "http://demo-anthropic-proxy-ollama:11434"
    )
    content = "# The first one first\nupstreams:\n  b: {url: http://b}\n  a: {url: http://a}\n"
    values = {"configFile": {"content": content}}
    assert "UPSTREAM_BASE_URL" not in _settings(values)
    file = next(
        each
        for each in objects_by_kind(values)["ConfigMap"]
        if each["metadata"]["name"].endswith("-file")
    )
    assert file["data"]["upstreams.yaml"] == content
    assert _settings(values)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/upstreams.yaml"
    existing = {"configFile": {"existingConfigMap": {"name": "mine", "key": "a.yaml"}}}
    assert _settings(existing)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/a.yaml"


def test_the_example_configuration_file_is_valid() -> None:
    (path,) = [each for each in CI_VALUES if each.stem == "file-values"]
    values = read_values(path)
    content = next(
        each["data"]["upstreams.yaml"]
        for each in objects_by_kind(values)["ConfigMap"]
        if "upstreams.yaml" in each["data"]
    )
    file = parse_config(
        content, "upstreams.yaml", values["secrets"]["values"], lambda path: Path(path).read_text()
    )
    assert list(file.upstreams) == ["openai", "local"]


@pytest.mark.parametrize(
    ("values", "file"),
    [
        ({"clientKeys": {"existingSecret": {"name": "a"}}}, "PROXY_API_KEYS_FILE"),
        ({"tls": {"existingSecret": "a"}}, "TLS_CERT_FILE"),
        (
            {"tls": {"existingSecret": "b", "clientCA": {"existingSecret": {"name": "a"}}}},
            "TLS_CLIENT_CA_FILE",
        ),
        ({"configFile": {"existingConfigMap": {"name": "a"}}}, "CONFIG_FILE"),
    ],
)
def test_files_are_mounted_at_the_configured_paths(values: Values, file: str) -> None:
    """Folders are mounted, because Kubernetes never updates a single mounted file."""
    folder = _settings(values)[file].rpartition("/")[0]
    (mount,) = [
        each for each in proxy_container(values)["volumeMounts"] if each["mountPath"] == folder
    ]
    assert (mount["readOnly"], "subPath" in mount) == (True, False)
    volumes = {
        each["name"]: each
        for each in get_object("Deployment", values)["spec"]["template"]["spec"]["volumes"]
    }
    assert "a" in str(volumes[mount["name"]])


def test_autoscalers_set_the_number_of_replicas() -> None:
    hpa = {"autoscaling": {"enabled": True, "targetRequestsInFlight": 50}}
    keda = {"keda": {"enabled": True, "prometheusAddress": "http://p"}}
    for values in (hpa, keda):
        assert "replicas" not in get_object("Deployment", values)["spec"]
    metrics = get_object("HorizontalPodAutoscaler", hpa)["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Resource", "Pods"]
    assert metrics[1]["pods"]["metric"]["name"] in _metric_names()
    assert objects_by_kind(keda).get("HorizontalPodAutoscaler") is None
    assert (
        "anthropic_proxy_requests_in_flight"
        in get_object("ScaledObject", keda)["spec"]["triggers"][0]["metadata"]["query"]
    )


def _metric_names() -> set[str]:
    text, _ = Metrics().render("text/plain")
    return {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"replicaCount": 1}, False),
        ({"replicaCount": 1, "autoscaling": {"enabled": True}}, True),
        ({"podDisruptionBudget": {"enabled": False}}, False),
    ],
)
def test_a_disruption_budget_exists_for_several_replicas(values: Values, expected: bool) -> None:
    assert ("PodDisruptionBudget" in objects_by_kind(values)) == expected

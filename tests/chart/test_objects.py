"""The objects of the chart: safe, ended in good order, and in accord with the server's settings."""

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
    kinds,
    objects,
    one,
    pods,
    proxy,
    read,
    texts,
)

EVERY = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
CANARY = "canary"


def _settings(values: Values) -> dict[str, str]:
    found = [each for each in kinds(values)["ConfigMap"] if "PORT" in each["data"]]
    return dict(found[0]["data"])


@EVERY
def test_pods_are_hardened(path: Any) -> None:
    found = [each for each in objects(read(path)) if each["kind"] != "ConfigMap"]
    assert pods(found)
    for pod in pods(found):
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


def test_users_are_the_image_s_and_may_be_the_cluster_s() -> None:
    assert one("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001
    given = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
    context = one("Deployment", given)["spec"]["template"]["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context)


@pytest.mark.parametrize(
    ("kubernetes", "action"),
    [("1.29", {"exec": {"command": ["sleep", "10"]}}), ("1.30", {"sleep": {"seconds": 10}})],
)
def test_pods_serve_on_before_they_end(kubernetes: str, action: Object) -> None:
    assert proxy(kubernetes=kubernetes)["lifecycle"] == {"preStop": action}


@pytest.mark.parametrize(
    "drain", [{}, {"preStopSeconds": 0, "timeoutSeconds": 0.5}, {"timeoutSeconds": 3600}]
)
def test_pods_are_given_the_time_that_they_take(drain: Values) -> None:
    values = {"drain": drain}
    given = one("Deployment", values)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    pause = drain.get("preStopSeconds", 10)
    assert given > pause + float(_settings(values)["DRAIN_TIMEOUT"]) + _KILL_SECONDS
    assert ("lifecycle" in proxy(values)) == (pause > 0)


def test_one_comes_before_one_goes() -> None:
    spec = one("Deployment")["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert spec["replicas"] > 1
    volume = {"replicaCount": 1, "persistence": {"enabled": True}}
    assert one("Deployment", volume)["spec"]["strategy"] == {"type": "Recreate"}
    shared = {"persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]}}
    assert one("Deployment", shared)["spec"]["strategy"]["type"] == "RollingUpdate"


def test_probes_ask_the_port_for_them() -> None:
    container = proxy()
    asked = {
        probe: container[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "liveness", "readiness")
    }
    assert asked == {
        "startup": {"path": "/startupz", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    assert {
        "name": "metrics",
        "containerPort": int(_settings({})["METRICS_PORT"]),
        "protocol": "TCP",
    } in container["ports"]
    other = proxy(
        {
            "livenessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 60},
            "startupProbe": None,
        }
    )
    assert (other["livenessProbe"]["periodSeconds"], "startupProbe" in other) == (60, False)


def test_changes_of_the_configuration_replace_pods() -> None:
    sets: list[Values] = [
        {},
        {"upstream": {"url": "http://a"}},
        {"settings": {"MODEL_MAP": "a=b"}},
        {"secrets": {"values": {"UPSTREAM_API_KEY": "a"}}},
        {"secrets": {"values": {"UPSTREAM_API_KEY": "b"}}},
        {"configFile": {"content": "upstreams: {}"}},
    ]
    seen = [
        one("Deployment", values)["spec"]["template"]["metadata"]["annotations"] for values in sets
    ]
    assert all(a != b for a, b in itertools.combinations(seen, 2))
    assert (
        one("Deployment", {"replicaCount": 5})["spec"]["template"]["metadata"]["annotations"]
        == seen[0]
    )


@EVERY
def test_secrets_are_in_secrets_alone(path: Any) -> None:
    values = read(path)
    for each in objects(values):
        assert each["kind"] == "Secret" or CANARY not in yaml.safe_dump(each)
    assert CANARY not in texts(values)["NOTES.txt"]
    given = values.get("secrets", {}).get("values", {})
    assert [each["stringData"] for each in kinds(values).get("Secret", [])] == (
        [given] if given else []
    )


def test_values_of_secrets_are_texts() -> None:
    odd = {
        "UPSTREAM_API_KEY": "12345678901234567890",
        "SIGNATURE_SECRET": "0123456789",
        "PROXY_API_KEYS": "1e10",
        "TLS_KEY_PASSWORD": 'a"b\\c\n$d',
        "UPSTREAM_HEADERS": "{{ .Values }}",
        "OPENROUTER_API_KEY": base64.b64encode(b"\0").decode(),
    }
    assert one("Secret", {"secrets": {"values": odd}})["stringData"] == odd


@pytest.mark.parametrize("value", [12345678901234567890, 1e10, 0, True])
def test_values_that_yaml_changes_are_rejected(value: object) -> None:
    """Helm would write 12345678901234567890 as 12345678901234567000."""
    with pytest.raises(HelmError, match=r"secrets\.values\.UPSTREAM_API_KEY is not text.*quote it"):
        objects({"secrets": {"values": {"UPSTREAM_API_KEY": value}}})


def test_secrets_of_one_s_own() -> None:
    given = {
        "existingSecret": "mine",
        "fromKeys": {"UPSTREAM_API_KEY": {"name": "openrouter", "key": "token"}},
    }
    container = proxy({"secrets": given})
    assert {"secretRef": {"name": "mine"}} in container["envFrom"]
    reference = {"secretKeyRef": {"name": "openrouter", "key": "token"}}
    assert container["env"] == [{"name": "UPSTREAM_API_KEY", "valueFrom": reference}]


def test_settings_are_written_as_the_server_reads_them() -> None:
    given = {
        "MAX_UPSTREAM_BYTES": 134217728,
        "DEBUG": True,
        "UPSTREAM_EXTRA_BODY": {"a": [1]},
        "LOG_FORMAT": "console",
        "HOST": "::",
    }
    found = _settings({"settings": given})
    assert {name: found[name] for name in given} == {
        "MAX_UPSTREAM_BYTES": "134217728",
        "DEBUG": "true",
        "UPSTREAM_EXTRA_BODY": '{"a":[1]}',
        "LOG_FORMAT": "console",
        "HOST": "::",
    }


def test_where_the_upstream_is() -> None:
    assert _settings({})["UPSTREAM_BASE_URL"] == "http://ollama:11434"
    assert (
        _settings({"ollama": {"enabled": True}})["UPSTREAM_BASE_URL"]
        == "http://demo-anthropic-proxy-ollama:11434"
    )
    content = "# The first one first\nupstreams:\n  b: {url: http://b}\n  a: {url: http://a}\n"
    values = {"configFile": {"content": content}}
    assert "UPSTREAM_BASE_URL" not in _settings(values)
    file = next(
        each for each in kinds(values)["ConfigMap"] if each["metadata"]["name"].endswith("-file")
    )
    assert file["data"]["upstreams.yaml"] == content
    assert _settings(values)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/upstreams.yaml"
    theirs = {"configFile": {"existingConfigMap": {"name": "mine", "key": "a.yaml"}}}
    assert _settings(theirs)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/a.yaml"


def test_the_example_of_a_file_is_one() -> None:
    (path,) = [each for each in CI_VALUES if each.stem == "file-values"]
    values = read(path)
    held = next(
        each["data"]["upstreams.yaml"]
        for each in kinds(values)["ConfigMap"]
        if "upstreams.yaml" in each["data"]
    )
    file = parse_config(
        held, "upstreams.yaml", values["secrets"]["values"], lambda path: Path(path).read_text()
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
def test_files_are_where_the_settings_say(values: Values, file: str) -> None:
    """Whole folders: a single file that is mounted never changes."""
    folder = _settings(values)[file].rpartition("/")[0]
    (mount,) = [each for each in proxy(values)["volumeMounts"] if each["mountPath"] == folder]
    assert (mount["readOnly"], "subPath" in mount) == (True, False)
    volumes = {
        each["name"]: each
        for each in one("Deployment", values)["spec"]["template"]["spec"]["volumes"]
    }
    assert "a" in str(volumes[mount["name"]])


def test_who_says_how_many() -> None:
    hpa = {"autoscaling": {"enabled": True, "targetRequestsInFlight": 50}}
    keda = {"keda": {"enabled": True, "prometheusAddress": "http://p"}}
    for values in (hpa, keda):
        assert "replicas" not in one("Deployment", values)["spec"]
    metrics = one("HorizontalPodAutoscaler", hpa)["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Resource", "Pods"]
    assert metrics[1]["pods"]["metric"]["name"] in _metric_names()
    assert kinds(keda).get("HorizontalPodAutoscaler") is None
    assert (
        "anthropic_proxy_requests_in_flight"
        in one("ScaledObject", keda)["spec"]["triggers"][0]["metadata"]["query"]
    )


def _metric_names() -> set[str]:
    text, _ = Metrics().render("text/plain")
    return {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}


@pytest.mark.parametrize(
    ("values", "is_made"),
    [
        ({}, True),
        ({"replicaCount": 1}, False),
        ({"replicaCount": 1, "autoscaling": {"enabled": True}}, True),
        ({"podDisruptionBudget": {"enabled": False}}, False),
    ],
)
def test_a_budget_where_there_can_be_several(values: Values, is_made: bool) -> None:
    assert ("PodDisruptionBudget" in kinds(values)) == is_made

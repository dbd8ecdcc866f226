"""What the chart makes: safe, in good order at its end, and the same as the server's settings say."""

import base64
import itertools
from typing import Any

import pytest
import yaml

from anthropic_proxy.config_file import parse
from anthropic_proxy.observe.metrics import Metrics
from anthropic_proxy.workers import _PATIENCE
from tests.chart.helm import CI_VALUES, Object, Values, kinds, objects, one, pods, read, texts

EVERY = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)
CANARY = "canary"


def _proxy(values: Values | None = None, **options: str) -> Object:
    return next(
        each
        for each in one("Deployment", values, **options)["spec"]["template"]["spec"]["containers"]
        if each["name"] == "proxy"
    )


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
    ("kubernetes", "action"), [("1.29", {"exec": {"command": ["sleep", "10"]}}), ("1.30", {"sleep": {"seconds": 10}})]
)
def test_pods_serve_on_before_they_end(kubernetes: str, action: Object) -> None:
    assert _proxy(kubernetes=kubernetes)["lifecycle"] == {"preStop": action}


@pytest.mark.parametrize("drain", [{}, {"preStopSeconds": 0, "timeoutSeconds": 0.5}, {"timeoutSeconds": 3600}])
def test_pods_are_given_the_time_that_they_take(drain: Values) -> None:
    values = {"drain": drain}
    given = one("Deployment", values)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    pause = drain.get("preStopSeconds", 10)
    assert given > pause + float(_settings(values)["DRAIN_TIMEOUT"]) + _PATIENCE
    assert ("lifecycle" in _proxy(values)) == (pause > 0)


def test_one_comes_before_one_goes() -> None:
    spec = one("Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["replicas"] > 1
    volume = {"replicaCount": 1, "persistence": {"enabled": True}}
    assert one("Deployment", volume)["spec"]["strategy"] == {"type": "Recreate"}
    shared = {"persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]}}
    assert one("Deployment", shared)["spec"]["strategy"]["type"] == "RollingUpdate"


def test_probes_ask_the_port_for_them() -> None:
    container = _proxy()
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/startupz", "port": "metrics"},
        "liveness": {"path": "/livez", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    assert {"name": "metrics", "containerPort": int(_settings({})["METRICS_PORT"]), "protocol": "TCP"} in container["ports"]
    other = _proxy({"livenessProbe": {"httpGet": {"path": "/health"}, "periodSeconds": 60}, "startupProbe": None})
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
    seen = [one("Deployment", values)["spec"]["template"]["metadata"]["annotations"] for values in sets]
    assert all(a != b for a, b in itertools.combinations(seen, 2))
    assert one("Deployment", {"replicaCount": 5})["spec"]["template"]["metadata"]["annotations"] == seen[0]


@EVERY
def test_secrets_are_in_secrets_alone(path: Any) -> None:
    values = read(path)
    for each in objects(values):
        assert each["kind"] == "Secret" or CANARY not in yaml.safe_dump(each)
    assert CANARY not in texts(values)["NOTES.txt"]
    given = values.get("secrets", {}).get("values", {})
    assert [each["stringData"] for each in kinds(values).get("Secret", [])] == ([given] if given else [])


def test_values_of_secrets_are_texts() -> None:
    odd = {"A": 123456789, "B": True, "C": 'a"b\\c\n$d', "D": base64.b64encode(b"\0").decode()}
    found = one("Secret", {"secrets": {"values": odd}})["stringData"]
    assert found == {**odd, "A": "123456789", "B": "true"}


def test_secrets_of_one_s_own() -> None:
    given = {"existingSecret": "mine", "fromKeys": {"UPSTREAM_API_KEY": {"name": "openrouter", "key": "token"}}}
    container = _proxy({"secrets": given})
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
    assert _settings({"ollama": {"enabled": True}})["UPSTREAM_BASE_URL"] == "http://demo-anthropic-proxy-ollama:11434"
    content = "# The first one first\nupstreams:\n  b: {url: http://b}\n  a: {url: http://a}\n"
    values = {"configFile": {"content": content}}
    assert "UPSTREAM_BASE_URL" not in _settings(values)
    file = next(each for each in kinds(values)["ConfigMap"] if each["metadata"]["name"].endswith("-file"))
    assert file["data"]["upstreams.yaml"] == content
    assert _settings(values)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/upstreams.yaml"
    theirs = {"configFile": {"existingConfigMap": {"name": "mine", "key": "a.yaml"}}}
    assert _settings(theirs)["CONFIG_FILE"] == "/etc/anthropic-proxy/file/a.yaml"


def test_the_example_of_a_file_is_one() -> None:
    (path,) = [each for each in CI_VALUES if each.stem == "file-values"]
    values = read(path)
    held = next(each["data"]["upstreams.yaml"] for each in kinds(values)["ConfigMap"] if "upstreams.yaml" in each["data"])
    file = parse(held, "upstreams.yaml", values["secrets"]["values"], lambda path: path.read_text())
    assert list(file.upstreams) == ["openai", "local"]


@pytest.mark.parametrize(
    ("values", "file"),
    [
        ({"clientKeys": {"existingSecret": {"name": "a"}}}, "PROXY_API_KEYS_FILE"),
        ({"tls": {"existingSecret": "a"}}, "TLS_CERT_FILE"),
        ({"tls": {"existingSecret": "b", "clientCA": {"existingSecret": {"name": "a"}}}}, "TLS_CLIENT_CA_FILE"),
        ({"configFile": {"existingConfigMap": {"name": "a"}}}, "CONFIG_FILE"),
    ],
)
def test_files_are_where_the_settings_say(values: Values, file: str) -> None:
    """Whole folders: a single file that is mounted never changes."""
    folder = _settings(values)[file].rpartition("/")[0]
    (mount,) = [each for each in _proxy(values)["volumeMounts"] if each["mountPath"] == folder]
    assert (mount["readOnly"], "subPath" in mount) == (True, False)
    volumes = {each["name"]: each for each in one("Deployment", values)["spec"]["template"]["spec"]["volumes"]}
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
    assert "anthropic_proxy_requests_in_flight" in one("ScaledObject", keda)["spec"]["triggers"][0]["metadata"]["query"]


def _metric_names() -> set[str]:
    text, _ = Metrics().exposition("text/plain")
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
def test_a_budget_where_there_can_be_several(values: Values, is_made: bool) -> None:  # noqa: FBT001 - a case's outcome
    assert ("PodDisruptionBudget" in kinds(values)) == is_made


def test_selectors_never_change() -> None:
    """A Deployment can't change them: nothing that a release may change is in them."""
    values = {"commonLabels": {"a": "b"}, "podLabels": {"c": "d"}, "image": {"tag": "9"}}
    selector = one("Deployment", values)["spec"]["selector"]
    assert selector == one("Deployment")["spec"]["selector"]
    assert selector["matchLabels"] == {
        "app.kubernetes.io/name": "anthropic-proxy",
        "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": "proxy",
    }
    assert one("Service", values)["spec"]["selector"] == selector["matchLabels"]


@EVERY
def test_labels_are_the_recommended_ones(path: Any) -> None:
    for each in objects(read(path)):
        if not each["metadata"]["name"].startswith("demo-more") and each["metadata"]["name"] != "demo-text":
            labels = each["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "anthropic-proxy"
            assert {
                f"app.kubernetes.io/{key}" for key in ("name", "instance", "component", "version", "managed-by")
            } <= set(labels)


@pytest.mark.parametrize("name", ["a", "a" * 53, "my-anthropic-proxy"])
def test_names_are_short_enough(name: str) -> None:
    values = {"ollama": {"enabled": True}, "metrics": {"dashboard": {"enabled": True}}, "service": {"type": "NodePort"}}
    names = [(each["kind"], each["metadata"]["name"]) for each in objects(values, name=name)]
    assert len(set(names)) == len(names)
    assert all(len(each) <= 63 - len("-0") for _, each in names)


def test_images() -> None:
    image = {"registry": "r.example.com", "repository": "a/b", "tag": "1"}
    assert _proxy({"image": image})["image"] == "r.example.com/a/b:1"
    digest = "sha256:" + "a" * 64
    assert _proxy({"image": {**image, "digest": digest}})["image"] == f"r.example.com/a/b@{digest}"


def test_what_gateways_speak() -> None:
    def spoken(values: Values) -> str:
        return str(one("Service", values)["spec"]["ports"][0]["appProtocol"])

    assert spoken({}) == "http"
    assert spoken({"tls": {"existingSecret": "a"}}) == "https"
    assert spoken({"service": {"appProtocol": "kubernetes.io/h2c"}}) == "kubernetes.io/h2c"


def test_metrics_stay_within_the_cluster() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in kinds({"service": {"type": "LoadBalancer"}})["Service"]}
    ports = {name: [port["name"] for port in spec["ports"]] for name, spec in services.items()}
    assert ports == {"demo-anthropic-proxy": ["http"], "demo-anthropic-proxy-metrics": ["metrics"]}
    assert services["demo-anthropic-proxy-metrics"]["type"] == "ClusterIP"


def test_streams_have_no_limit() -> None:
    route = one("HTTPRoute", {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}})["spec"]["rules"][0]
    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    given = {"enabled": True, "controller": "nginx", "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1g"}}
    annotations = one("Ingress", {"ingress": given})["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "1g"


def _egress_ports(values: Values) -> list[list[int]]:
    spec = one("NetworkPolicy", {"networkPolicy": {"enabled": True}, **values})["spec"]
    return [[port["port"] for port in rule["ports"]] for rule in spec["egress"]]


def test_what_pods_reach() -> None:
    assert _egress_ports({}) == [[53, 53], [11434], [443]]
    several = {"upstream": {"url": "https://a;http://b;http://[::1]:8000 ; https://c/v1"}}
    assert _egress_ports(several) == [[53, 53], [443, 80, 8000], [443]]
    traced = {"settings": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}}
    assert _egress_ports(traced) == [[53, 53], [11434], [4318], [443]]
    policy = one("NetworkPolicy", {"networkPolicy": {"enabled": True, "egress": {"enabled": False}}})["spec"]
    assert (policy["policyTypes"], "egress" in policy) == (["Ingress"], False)


def test_who_reaches_ollama() -> None:
    values = {"networkPolicy": {"enabled": True}, "ollama": {"enabled": True}}
    policies = {each["metadata"]["name"]: each["spec"] for each in kinds(values)["NetworkPolicy"]}
    (rule,) = policies["demo-anthropic-proxy-ollama"]["ingress"]
    peers = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    asking = [one(kind, values)["spec"]["template"]["metadata"]["labels"] for kind in ("Deployment", "Job")]
    assert all(peer.items() <= labels.items() for peer, labels in zip(peers, asking, strict=True))
    (asked,) = [each["to"] for each in policies["demo-anthropic-proxy"]["egress"] if "to" in each]
    assert asked[0]["podSelector"] == policies["demo-anthropic-proxy-ollama"]["podSelector"]


@pytest.mark.parametrize(
    ("kind", "key", "endpoints"),
    [("ServiceMonitor", "serviceMonitor", "endpoints"), ("PodMonitor", "podMonitor", "podMetricsEndpoints")],
)
def test_monitors_find_their_port_and_the_rules_their_job(kind: str, key: str, endpoints: str) -> None:
    values = {
        "metrics": {key: {"enabled": True, "interval": "30s"}},
        "nameOverride": "other",
        "fullnameOverride": "another",
    }
    spec = one(kind, values)["spec"]
    assert spec[endpoints] == [{"port": "metrics", "path": "/metrics", "interval": "30s"}]
    labels = one("Service", values)["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels[spec["jobLabel"]] == "anthropic-proxy"


def test_ollama_holds_models_and_a_gpu() -> None:
    values = {"ollama": {"enabled": True, "models": ["a", "b"], "gpu": {"count": 2}}}
    (container,) = one("StatefulSet", values)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}
    assert one("Job", values)["spec"]["template"]["spec"]["containers"][0]["args"] == ["a", "b"]
    others = {"ollama": {"enabled": True, "models": ["a"]}}
    assert one("Job", values)["metadata"]["name"] != one("Job", others)["metadata"]["name"]
    gone = {"ollama": {"enabled": True, "persistence": {"enabled": False}, "models": []}}
    assert "volumeClaimTemplates" not in one("StatefulSet", gone)["spec"]
    assert "Job" not in kinds(gone)


def test_the_pod_for_tests_is_our_own() -> None:
    pod = one("Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == _proxy()["image"]
    assert container["args"] == ["http://demo-anthropic-proxy:9090/readyz", "http://demo-anthropic-proxy:80/health"]
    assert "Pod" not in kinds({"tests": {"enabled": False}})


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, "clients need no key"),
        ({"clientKeys": {"existingSecret": {"name": "a"}}, "settings": {"KEY_TOKENS_PER_MINUTE": 1}}, "each pod counts"),
        ({"clientKeys": {"existingSecret": {"name": "a"}}}, None),
        ({"secrets": {"existingSecret": "a"}, "settings": {"KEY_TOKENS_PER_MINUTE": 1}}, None),
    ],
)
def test_notes(values: Values, warning: str | None) -> None:
    notes = texts(values)["NOTES.txt"]
    assert "http://demo-anthropic-proxy.llm.svc" in notes
    assert "port-forward service/demo-anthropic-proxy 3000:80" in notes
    assert ("WARNING" in notes) == (warning is not None)
    assert warning is None or warning in notes

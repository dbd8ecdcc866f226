"""What stands around the pods that the chart makes: names, services, routes, policies, monitors, Ollama, notes."""

from typing import Any

import pytest

from tests.chart.helm import CI_VALUES, Values, kinds, objects, one, proxy, read, texts

EVERY = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)


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
    assert proxy({"image": image})["image"] == "r.example.com/a/b:1"
    digest = "sha256:" + "a" * 64
    assert proxy({"image": {**image, "digest": digest}})["image"] == f"r.example.com/a/b@{digest}"


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


@pytest.mark.parametrize(
    ("given", "peers"),
    [
        ({}, [[{"podSelector": {}}]] * 2),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, [[{"ipBlock": {"cidr": "10.0.0.0/8"}}], [{"podSelector": {}}]]),
        ({"from": [], "metricsFrom": []}, [None, None]),
    ],
    ids=["namespace", "named", "all"],
)
def test_who_reaches_the_pods(given: Values, peers: list[Any]) -> None:
    """Without more the pods of the namespace alone."""
    rules = one("NetworkPolicy", {"networkPolicy": {"enabled": True, **given}})["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in rules] == ["http", "metrics"]
    assert [rule.get("from") for rule in rules] == peers


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
    assert container["image"] == proxy()["image"]
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

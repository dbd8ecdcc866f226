"""Names, services, routes, policies, monitors, Ollama and notes of the chart."""

from typing import Any

import pytest

from tests.chart.helm import (
    CI_VALUES,
    Values,
    get_object,
    objects,
    objects_by_kind,
    proxy_container,
    read_values,
    render_templates,
)

EACH_VALUES_FILE = pytest.mark.parametrize("path", CI_VALUES, ids=lambda path: path.stem)


def test_selectors_do_not_depend_on_values() -> None:
    """The selectors of a Deployment are immutable."""
    values = {"commonLabels": {"a": "b"}, "podLabels": {"c": "d"}, "image": {"tag": "9"}}
    selector = get_object("Deployment", values)["spec"]["selector"]
    assert selector == get_object("Deployment")["spec"]["selector"]
    assert selector["matchLabels"] == {
        "app.kubernetes.io/name": "anthropic-proxy",
        "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": "proxy",
    }
    assert get_object("Service", values)["spec"]["selector"] == selector["matchLabels"]


@EACH_VALUES_FILE
def test_labels_are_the_recommended_ones(path: Any) -> None:
    for each in objects(read_values(path)):
        if (
            not each["metadata"]["name"].startswith("demo-more")
            and each["metadata"]["name"] != "demo-text"
        ):
            labels = each["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "anthropic-proxy"
            assert {
                f"app.kubernetes.io/{key}"
                for key in ("name", "instance", "component", "version", "managed-by")
            } <= set(labels)


@pytest.mark.parametrize("name", ["a", "a" * 53, "my-anthropic-proxy"])
def test_names_are_unique_and_short(name: str) -> None:
    values = {
        "ollama": {"enabled": True},
        "metrics": {"dashboard": {"enabled": True}},
        "service": {"type": "NodePort"},
    }
    names = [(each["kind"], each["metadata"]["name"]) for each in objects(values, name=name)]
    assert len(set(names)) == len(names)
    assert all(len(each) <= 63 - len("-0") for _, each in names)


def test_image_references_are_built() -> None:
    image = {"registry": "r.example.com", "repository": "a/b", "tag": "1"}
    assert proxy_container({"image": image})["image"] == "r.example.com/a/b:1"
    digest = "sha256:" + "a" * 64
    assert (
        proxy_container({"image": {**image, "digest": digest}})["image"]
        == f"r.example.com/a/b@{digest}"
    )


def test_the_service_names_its_protocol() -> None:
    def app_protocol(values: Values) -> str:
        return str(get_object("Service", values)["spec"]["ports"][0]["appProtocol"])

    assert app_protocol({}) == "http"
    assert app_protocol({"tls": {"existingSecret": "a"}}) == "https"
    assert app_protocol({"service": {"appProtocol": "kubernetes.io/h2c"}}) == "kubernetes.io/h2c"


def test_metrics_are_only_reachable_within_the_cluster() -> None:
    services = {
        each["metadata"]["name"]: each["spec"]
        for each in objects_by_kind({"service": {"type": "LoadBalancer"}})["Service"]
    }
    ports = {name: [port["name"] for port in spec["ports"]] for name, spec in services.items()}
    assert ports == {"demo-anthropic-proxy": ["http"], "demo-anthropic-proxy-metrics": ["metrics"]}
    assert services["demo-anthropic-proxy-metrics"]["type"] == "ClusterIP"


def test_streams_have_no_time_limit() -> None:
    route = get_object(
        "HTTPRoute", {"httpRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}}
    )["spec"]["rules"][0]
    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    ingress = {
        "enabled": True,
        "controller": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1g"},
    }
    annotations = get_object("Ingress", {"ingress": ingress})["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "1g"


def test_nginx_retries_are_not_changed() -> None:
    """By default, nginx retries refused connections, but no request whose bytes were sent."""
    annotations = get_object("Ingress", {"ingress": {"enabled": True, "controller": "nginx"}})[
        "metadata"
    ]["annotations"]
    assert not [name for name in annotations if "next-upstream" in name]


@pytest.mark.parametrize(
    ("controller", "name", "value"),
    [
        ("nginx", "nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
        ("haproxy", "haproxy.org/server-ssl", "true"),
        ("alb", "alb.ingress.kubernetes.io/backend-protocol", "HTTPS"),
    ],
)
def test_controllers_use_https_for_pods_with_tls(controller: str, name: str, value: str) -> None:
    ingress = {"enabled": True, "controller": controller}
    annotations = get_object("Ingress", {"ingress": ingress, "tls": {"existingSecret": "a"}})[
        "metadata"
    ]["annotations"]
    assert annotations[name] == value
    assert name not in get_object("Ingress", {"ingress": ingress})["metadata"]["annotations"]


@pytest.mark.parametrize("version", ["v1", "v1alpha3"])
def test_gateways_use_https_for_pods_with_tls(version: str) -> None:
    route = {"enabled": True, "parentRefs": [{"name": "a"}]}
    tls = {"hostname": "claude.internal", "version": version}
    values = {"tls": {"existingSecret": "a"}, "httpRoute": {**route, "backendTLS": tls}}
    policy = get_object("BackendTLSPolicy", values)
    assert policy["apiVersion"] == f"gateway.networking.k8s.io/{version}"
    assert (
        policy["spec"]["targetRefs"][0]["name"] == get_object("Service", values)["metadata"]["name"]
    )
    assert policy["spec"]["validation"] == {
        "hostname": "claude.internal",
        "wellKnownCACertificates": "System",
    }
    assert "BackendTLSPolicy" not in objects_by_kind({"httpRoute": {**route, "backendTLS": tls}})


def test_the_keepalive_timeout_exceeds_the_idle_timeout_of_the_load_balancer() -> None:
    """The load balancer would reuse a connection that the pod closes, and respond with 502."""

    def timeouts(settings: Values) -> tuple[float, float]:
        values = {"ingress": {"enabled": True, "controller": "alb"}, "settings": settings}
        attributes = get_object("Ingress", values)["metadata"]["annotations"][
            "alb.ingress.kubernetes.io/load-balancer-attributes"
        ]
        return float(_settings(values)["KEEPALIVE_TIMEOUT"]), float(attributes.partition("=")[2])

    proxy_timeout, balancer_timeout = timeouts({})
    assert proxy_timeout > balancer_timeout
    assert timeouts({"KEEPALIVE_TIMEOUT": 9})[0] == 9
    assert "KEEPALIVE_TIMEOUT" not in _settings(
        {"ingress": {"enabled": True, "controller": "nginx"}}
    )
    assert "KEEPALIVE_TIMEOUT" not in _settings({"ingress": {"controller": "alb"}})


def _settings(values: Values) -> Values:
    return next(
        each["data"] for each in objects_by_kind(values)["ConfigMap"] if "PORT" in each["data"]
    )


def _egress_ports(values: Values) -> list[list[int]]:
    spec = get_object("NetworkPolicy", {"networkPolicy": {"enabled": True}, **values})["spec"]
    return [[port["port"] for port in rule["ports"]] for rule in spec["egress"]]


@pytest.mark.parametrize(
    ("policy", "peers"),
    [
        ({}, [[{"podSelector": {}}]] * 2),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
            [[{"ipBlock": {"cidr": "10.0.0.0/8"}}], [{"podSelector": {}}]],
        ),
        ({"from": [], "metricsFrom": []}, [None, None]),
    ],
    ids=["namespace", "named", "all"],
)
def test_the_network_policy_restricts_clients(policy: Values, peers: list[Any]) -> None:
    """By default, only the pods of the namespace may connect."""
    rules = get_object("NetworkPolicy", {"networkPolicy": {"enabled": True, **policy}})["spec"][
        "ingress"
    ]
    assert [rule["ports"][0]["port"] for rule in rules] == ["http", "metrics"]
    assert [rule.get("from") for rule in rules] == peers


def test_the_network_policy_allows_upstreams_collectors_and_proxies() -> None:
    assert _egress_ports({}) == [[53, 53], [11434], [443]]
    several = {"upstream": {"url": "https://a;http://b;http://[::1]:8000 ; https://c/v1"}}
    assert _egress_ports(several) == [[53, 53], [443, 80, 8000], [443]]
    traced = {"settings": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}}
    assert _egress_ports(traced) == [[53, 53], [11434], [4318], [443]]
    for proxy_values in (
        {"secrets": {"values": {"HTTPS_PROXY": "a:3128"}}},
        {"extraEnv": [{"name": "https_proxy", "value": "a:3128"}]},
    ):
        assert _egress_ports(proxy_values) == [[53, 53], [11434], [3128], [443]]
    policy = get_object(
        "NetworkPolicy", {"networkPolicy": {"enabled": True, "egress": {"enabled": False}}}
    )["spec"]
    assert (policy["policyTypes"], "egress" in policy) == (["Ingress"], False)


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://redis", [[6379]]),
        ("redis://redis/0", [[6379]]),
        ("redis://user:pass@redis:6380/0", [[6380]]),
        ("redis://:a@b:c/d#e?f:9@redis:1/0", [[6379]]),
        ("rediss://[fd00::1]:6390/0?ssl_cert_reqs=none", [[6390]]),
        ("redis://[fd00::1]", [[6379]]),
        ("redis+unix:///run/redis.sock", []),
        ("sqlite:////data/limits.db", []),
        ("memory://", []),
    ],
)
def test_the_network_policy_allows_the_rate_limit_storage(url: str, ports: list[list[int]]) -> None:
    """Without the rule, limits are silently not applied."""
    values = {"secrets": {"values": {"RATE_LIMIT_STORAGE_URL": url}}}
    assert _egress_ports(values) == [[53, 53], [11434], *ports, [443]]


def test_the_network_policy_allows_several_services() -> None:
    values = {
        "settings": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"},
        "secrets": {"values": {"RATE_LIMIT_STORAGE_URL": "redis://redis:6379"}},
        "extraEnv": [
            {"name": "HTTP_PROXY", "value": "http://web:3128"},
            {"name": "HTTPS_PROXY", "value": "http://web:3128"},
            {"name": "OTHER", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
    }
    assert _egress_ports(values) == [[53, 53], [11434], [4318, 6379, 3128], [443]]


def test_the_network_policy_allows_access_to_ollama() -> None:
    values = {"networkPolicy": {"enabled": True}, "ollama": {"enabled": True}}
    policies = {
        each["metadata"]["name"]: each["spec"] for each in objects_by_kind(values)["NetworkPolicy"]
    }
    (rule,) = policies["demo-anthropic-proxy-ollama"]["ingress"]
    peers = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    pod_labels = [
        get_object(kind, values)["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "Job")
    ]
    assert all(
        peer.items() <= labels.items() for peer, labels in zip(peers, pod_labels, strict=True)
    )
    (targets,) = [each["to"] for each in policies["demo-anthropic-proxy"]["egress"] if "to" in each]
    assert targets[0]["podSelector"] == policies["demo-anthropic-proxy-ollama"]["podSelector"]


@pytest.mark.parametrize(
    ("kind", "key", "endpoints"),
    [
        ("ServiceMonitor", "serviceMonitor", "endpoints"),
        ("PodMonitor", "podMonitor", "podMetricsEndpoints"),
    ],
)
def test_monitors_select_the_metrics_port(kind: str, key: str, endpoints: str) -> None:
    values = {
        "metrics": {key: {"enabled": True, "interval": "30s"}},
        "nameOverride": "other",
        "fullnameOverride": "another",
    }
    spec = get_object(kind, values)["spec"]
    assert spec[endpoints] == [{"port": "metrics", "path": "/metrics", "interval": "30s"}]
    labels = get_object("Service", values)["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels[spec["jobLabel"]] == "anthropic-proxy"


@pytest.mark.parametrize(
    ("kind", "key", "endpoints", "targets"),
    [
        ("ServiceMonitor", "serviceMonitor", "endpoints", "targetLabels"),
        ("PodMonitor", "podMonitor", "podMetricsEndpoints", "podTargetLabels"),
    ],
)
def test_monitors_can_be_in_another_namespace(
    kind: str, key: str, endpoints: str, targets: str
) -> None:
    monitor = {
        "enabled": True,
        "namespace": "monitoring",
        "honorLabels": True,
        "targetLabels": ["team"],
    }
    created = get_object(kind, {"metrics": {key: monitor}})
    assert created["metadata"]["namespace"] == "monitoring"
    assert created["spec"]["namespaceSelector"] == {"matchNames": ["llm"]}
    assert created["spec"][targets] == ["team"]
    assert created["spec"][endpoints][0]["honorLabels"] is True
    default = get_object(kind, {"metrics": {key: {"enabled": True}}})
    assert default["metadata"]["namespace"] == "llm"
    assert not {"namespaceSelector", targets} & set(default["spec"])


@pytest.mark.parametrize(
    ("kind", "key"), [("PrometheusRule", "prometheusRule"), ("ConfigMap", "dashboard")]
)
def test_rules_and_dashboard_can_be_in_another_namespace(kind: str, key: str) -> None:
    for namespace, expected in (("monitoring", "monitoring"), ("", "llm")):
        created = objects_by_kind({"metrics": {key: {"enabled": True, "namespace": namespace}}})[
            kind
        ]
        assert expected in [each["metadata"]["namespace"] for each in created]


def test_keda_counts_the_requests_of_its_release() -> None:
    def query(labels: Values) -> str:
        values = {"keda": {"enabled": True, "prometheusAddress": "http://p", "labels": labels}}
        return str(get_object("ScaledObject", values)["spec"]["triggers"][0]["metadata"]["query"])

    assert query({}) == 'sum(anthropic_proxy_requests_in_flight{namespace="llm"})'
    assert query({"service": "a"}) == 'sum(anthropic_proxy_requests_in_flight{service="a"})'


def test_ollama_also_listens_on_ipv6() -> None:
    """Go listens on IPv4 and IPv6 if the address has no host."""
    (container,) = get_object("StatefulSet", {"ollama": {"enabled": True}})["spec"]["template"][
        "spec"
    ]["containers"]
    assert {"name": "OLLAMA_HOST", "value": ":11434"} in container["env"]


def test_ollama_has_models_and_a_gpu() -> None:
    values = {"ollama": {"enabled": True, "models": ["a", "b"], "gpu": {"count": 2}}}
    (container,) = get_object("StatefulSet", values)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}
    assert get_object("Job", values)["spec"]["template"]["spec"]["containers"][0]["args"] == [
        "a",
        "b",
    ]
    other_models = {"ollama": {"enabled": True, "models": ["a"]}}
    assert (
        get_object("Job", values)["metadata"]["name"]
        != get_object("Job", other_models)["metadata"]["name"]
    )
    without_models = {"ollama": {"enabled": True, "persistence": {"enabled": False}, "models": []}}
    assert "volumeClaimTemplates" not in get_object("StatefulSet", without_models)["spec"]
    assert "Job" not in objects_by_kind(without_models)


def test_the_test_pod_uses_the_proxy_image() -> None:
    pod = get_object("Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == proxy_container()["image"]
    assert container["args"] == [
        "http://demo-anthropic-proxy:9090/readyz",
        "http://demo-anthropic-proxy:80/v1/models",
    ]
    assert "Pod" not in objects_by_kind({"tests": {"enabled": False}})


KEYS: Values = {"clientKeys": {"existingSecret": {"name": "a"}}}
LIMITS: Values = {"settings": {"KEY_TOKENS_PER_MINUTE": 1}}
POLICY: Values = {"networkPolicy": {"enabled": True}}
REDIS: Values = {"secrets": {"fromKeys": {"RATE_LIMIT_STORAGE_URL": {"name": "a", "key": "b"}}}}
TLS: Values = {"tls": {"existingSecret": "a"}}
ROUTE: Values = {"enabled": True, "parentRefs": [{"name": "a"}]}


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, "clients need no key"),
        (KEYS | LIMITS, "each pod counts"),
        (KEYS, None),
        ({"secrets": {"existingSecret": "a"}} | LIMITS, None),
        (KEYS | POLICY | REDIS, "does not know the addresses in RATE_LIMIT_STORAGE_URL"),
        (
            POLICY | LIMITS | {"secrets": {"existingSecret": "a"}},
            "does not know the addresses in secrets.existingSecret",
        ),
        (
            KEYS
            | REDIS
            | {"networkPolicy": {"enabled": True, "egress": {"extra": [{"ports": []}]}}},
            None,
        ),
        (KEYS | REDIS, None),
        *(
            (
                KEYS | POLICY | {"secrets": {"fromKeys": {name: {"name": "a", "key": "b"}}}},
                f"does not know the addresses in {name}",
            )
            for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
        ),
        (KEYS | TLS | {"ingress": {"enabled": True}}, "Set ingress.controller"),
        (KEYS | TLS | {"ingress": {"enabled": True, "controller": "nginx"}}, None),
        (KEYS | TLS | {"httpRoute": ROUTE}, "Set httpRoute.backendTLS.hostname"),
        (KEYS | TLS | {"httpRoute": {**ROUTE, "backendTLS": {"hostname": "a"}}}, None),
    ],
)
def test_notes_contain_the_address_and_warnings(values: Values, warning: str | None) -> None:
    notes = render_templates(values)["NOTES.txt"]
    scheme = "https" if "tls" in values else "http"
    assert f"{scheme}://demo-anthropic-proxy.llm.svc" in notes
    assert "port-forward service/demo-anthropic-proxy 3000:80" in notes
    assert ("WARNING" in notes) == (warning is not None)
    assert warning is None or warning in notes


@pytest.mark.parametrize(
    ("values", "command"),
    [
        (
            {},
            (
                "ANTHROPIC_BASE_URL=http://localhost:3000 ANTHROPIC_AUTH_TOKEN=none "
                "claude --model MODEL"
            ),
        ),
        (KEYS, "ANTHROPIC_AUTH_TOKEN=YOUR_KEY claude --model MODEL"),
        (TLS, "ANTHROPIC_BASE_URL=https://localhost:3000 "),
        ({"ollama": {"enabled": True}}, "ANTHROPIC_AUTH_TOKEN=none claude --model qwen3:4b\n"),
        ({"ollama": {"enabled": True, "models": ["a", "b"]}}, "claude --model a\n"),
        ({"ollama": {"enabled": True, "models": []}}, "claude --model MODEL\n"),
    ],
)
def test_notes_contain_a_claude_code_command(values: Values, command: str) -> None:
    """With ANTHROPIC_API_KEY, Claude Code asks the user and recommends not to use the key."""
    notes = render_templates(values)["NOTES.txt"]
    assert command in notes
    assert "ANTHROPIC_API_KEY" not in notes
    assert ("MODEL is a model name" in notes) == ("--model MODEL" in notes)

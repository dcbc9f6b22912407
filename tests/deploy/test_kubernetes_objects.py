"""The objects of deploy/kubernetes fit each other, the image, and the gateway's settings."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway import __version__
from gateway.config.load import load
from gateway.config.settings import Settings
from tests.support.kubernetes import (
    COMPONENTS,
    NAMESPACE,
    OVERLAYS,
    ROOT,
    Object,
    ProjectedVolume,
    Rendered,
    mount_path,
    needs_kubectl,
    pod_data,
    render,
    render_example,
    size,
    volume,
)

pytestmark = needs_kubectl
USER: Final = 10001
LABELS: Final = {"app.kubernetes.io/name": NAMESPACE, "app.kubernetes.io/component": "gateway"}
CONTAINER: Final = {"app.kubernetes.io/name": NAMESPACE, "app.kubernetes.io/component": "container"}
ENDS: Final = 15  # seconds that the container of the same pod has for its own end


@pytest.fixture(params=[(overlay, *more) for overlay in OVERLAYS for more in ((), COMPONENTS)], ids="+".join)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(*request.param)


@pytest.fixture
def settings(rendered: Rendered, tmp_path: Path, certificates: Path) -> Settings:
    """The rendered configuration as the gateway reads it; its files lie elsewhere, all else is as it stands."""
    place = tmp_path / "configuration"
    url = "postgresql://gateway:secret@db.test/ledger"
    sources = volume(rendered.pod, "configuration")["projected"]["sources"]
    ProjectedVolume(place, sources).write(pod_data(rendered, certificates, url), 0o440)
    file = tmp_path / "gateway.yaml"
    file.write_text(rendered.configuration.replace(mount_path(rendered.container, "configuration"), str(place)))
    return load(file, {})


def selects(selector: Object, labels: Object) -> bool:
    assert set(selector) <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def port_of(rendered: Rendered, name: str) -> int:
    (port,) = (each["containerPort"] for each in rendered.container["ports"] if each["name"] == name)
    assert isinstance(port, int)
    return port


def test_the_ports_are_those_of_the_settings(rendered: Rendered, settings: Settings) -> None:
    assert port_of(rendered, "https") == settings.listen.port == 8443
    assert port_of(rendered, "admin") == settings.admin.port == 9090
    assert settings.admin.address == "0.0.0.0"  # noqa: S104 -- probes come to the pod's address
    assert settings.admin.token is not None


def test_the_command_is_the_images_own(rendered: Rendered) -> None:
    entries = re.findall(r"^ENTRYPOINT (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert rendered.container["command"] + rendered.container["args"] in [yaml.safe_load(entry) for entry in entries]


def test_the_image_is_of_this_version(rendered: Rendered) -> None:
    assert rendered.container["image"] == f"registry.example.org/document-gateway:{__version__}"


def test_the_selectors_find_the_pods(rendered: Rendered) -> None:
    for deployment in rendered.of("Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert selects(deployment["spec"]["selector"], labels)
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for name in (NAMESPACE, f"{NAMESPACE}-admin"):
        assert rendered.one("Service", name)["spec"]["selector"].items() <= labels.items()
    assert selects(rendered.one("PodDisruptionBudget")["spec"]["selector"], labels)
    for spread in rendered.pod["topologySpreadConstraints"]:
        assert selects(spread["labelSelector"], labels)


def test_the_services_lead_to_ports_that_there_are(rendered: Rendered) -> None:
    public = rendered.one("Service")["spec"]
    assert [(each["port"], each["targetPort"]) for each in public["ports"]] == [(443, "https")]
    admin = rendered.one("Service", f"{NAMESPACE}-admin")["spec"]
    assert [(each["port"], each["targetPort"]) for each in admin["ports"]] == [(9090, "admin")]
    assert {port["name"] for port in rendered.container["ports"]} == {"https", "admin"}


def test_the_probes_ask_the_admin_port(rendered: Rendered) -> None:
    container = rendered.container
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for name, path in paths.items():
        assert container[name]["httpGet"] == {"path": path, "port": "admin"}  # http: the scheme's default
    assert "lifecycle" not in container


def test_the_grace_period_is_longer_than_the_drain(rendered: Rendered, settings: Settings) -> None:
    drain = settings.shutdown.drain_delay + settings.shutdown.drain_timeout
    assert rendered.pod["terminationGracePeriodSeconds"] >= drain + ENDS


def test_the_spool_fits_its_volume(rendered: Rendered, settings: Settings) -> None:
    assert str(settings.body.spool_dir) == mount_path(rendered.container, "spool")
    room = size(volume(rendered.pod, "spool")["emptyDir"]["sizeLimit"])
    assert room > settings.body.spool_limit
    assert size(rendered.container["resources"]["limits"]["ephemeral-storage"]) > room
    assert size(rendered.container["resources"]["limits"]["memory"]) > 3 * settings.body.count_memory


def test_the_gateway_may_do_nothing_that_it_does_not_need(rendered: Rendered) -> None:
    assert rendered.container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    for deployment in rendered.of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"].keys() == {"requests", "limits"}
            assert "hostPort" not in str(container)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert rendered.of("ClusterRole") + rendered.of("Role") + rendered.of("RoleBinding") == []


def test_secrets_are_files_that_the_groups_members_may_read_and_nobody_else(rendered: Rendered) -> None:
    projected = volume(rendered.pod, "configuration")["projected"]
    assert projected["defaultMode"] == 0o440
    assert rendered.pod["securityContext"]["fsGroup"] == USER
    assert "env" not in rendered.container
    assert "envFrom" not in rendered.container
    assert not any("subPath" in mount for mount in rendered.container["volumeMounts"])


def test_no_secret_is_in_the_repository(rendered: Rendered) -> None:
    assert rendered.of("Secret") == []
    for deployment in rendered.of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for variable in container.get("env", []):
                assert "valueFrom" in variable or variable["name"] in {"INFERENCE_PORT", "INFERENCE_HOST"}


def test_all_is_in_one_namespace(rendered: Rendered) -> None:
    assert rendered.one("Namespace")["metadata"]["name"] == NAMESPACE
    assert {found["metadata"].get("namespace") for found in rendered.objects if found["kind"] != "Namespace"} == {
        NAMESPACE
    }


# The two overlays


def test_the_sidecars_ledger_outlives_its_pod() -> None:
    rendered = render("sidecar")
    claim = volume(rendered.pod, "ledger")["persistentVolumeClaim"]["claimName"]
    assert rendered.one("PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteOnce"]
    url = yaml.safe_load(rendered.configuration)["ledger"]["url"]
    assert url.startswith(f"sqlite:///{mount_path(rendered.container, 'ledger')}/")
    spec = rendered.one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_sidecars_container_begins_before_the_gateway_and_ends_after_it() -> None:
    rendered = render("sidecar")
    (container,) = rendered.pod["initContainers"]
    assert container["restartPolicy"] == "Always"
    assert "ports" not in container
    assert yaml.safe_load(rendered.configuration)["upstream"]["url"] == "http://127.0.0.1:8000"


def test_the_service_has_two_gateways_and_one_container() -> None:
    rendered = render("service")
    spec = rendered.one("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    container = rendered.one("Deployment", "container")["spec"]
    assert (container["replicas"], container["strategy"]) == (1, {"type": "Recreate"})
    assert [each["kind"] for each in rendered.objects if "Autoscaler" in each["kind"]] == []
    service = rendered.one("Service", "container")
    assert service["spec"]["selector"].items() <= container["template"]["metadata"]["labels"].items()
    configuration = yaml.safe_load(rendered.configuration)
    assert configuration["upstream"]["url"] == "http://container:8000"
    assert "upstreams" not in configuration


def test_the_budget_keeps_one_of_two_and_lets_the_only_one_be_evicted(rendered: Rendered) -> None:
    budget = rendered.one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


# Who may speak to whom


def allowed(rendered: Rendered, labels: Object, direction: str) -> list[tuple[Object, list[Any]]]:
    """What the policies let into pods with these labels, or out of them: peers and ports."""
    found = []
    for policy in rendered.of("NetworkPolicy"):
        spec = policy["spec"]
        if selects(spec["podSelector"], labels) and direction.capitalize() in spec["policyTypes"]:
            for rule in spec.get(direction, []):
                ports = [port["port"] for port in rule["ports"]]
                found += [(peer, ports) for peer in rule["from" if direction == "ingress" else "to"]]
    return found


def namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def pods(labels: Object) -> Object:
    return {"podSelector": {"matchLabels": labels}}


DNS: Final = (
    {**namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},
    [53, 53],
)


def is_public(peer: Object) -> bool:
    return "ipBlock" in peer


def test_each_policy_is_for_pods_that_there_are(rendered: Rendered) -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in rendered.of("Deployment")]
    for policy in rendered.of("NetworkPolicy"):
        assert any(selects(policy["spec"]["podSelector"], each) for each in labels), policy["metadata"]["name"]


def test_all_is_refused_that_is_not_named(rendered: Rendered) -> None:
    assert rendered.one("NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_the_gateway_is_reached_by_its_clients_and_by_monitoring_alone(rendered: Rendered) -> None:
    clients = {"namespaceSelector": {"matchLabels": {"document-gateway/client": "true"}}}
    assert allowed(rendered, LABELS, "ingress") == [(clients, [8443]), (namespace("monitoring"), [9090])]


def test_the_container_is_reached_by_the_gateway_alone() -> None:
    assert 8000 not in {port for _, ports in allowed(render("sidecar"), LABELS, "ingress") for port in ports}
    assert allowed(render("service"), CONTAINER, "ingress") == [(pods(LABELS), [8000])]


def test_the_container_reaches_its_licence_and_names_and_nothing_else() -> None:
    for rendered, labels in ((render("sidecar"), LABELS), (render("service"), CONTAINER)):
        found = allowed(rendered, labels, "egress")
        assert [entry for entry in found if not is_public(entry[0])] == [DNS]
        assert [ports for peer, ports in found if is_public(peer)] == [[443], [443]]


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "127.0.0.1",
        "fd00::1",
        "fe80::1",
        "::1",
    ],
)
def test_no_private_address_is_reached_by_the_licences_rule(address: str) -> None:
    for overlay in OVERLAYS:
        policy = render(overlay).one("NetworkPolicy", "container-license")
        blocks = [peer["ipBlock"] for peer in policy["spec"]["egress"][0]["to"]]
        assert not any(is_in(address, block) for block in blocks)
        assert all(any(is_in(public, block) for block in blocks) for public in ("8.8.8.8", "2606:4700::1"))


def is_in(address: str, block: Object) -> bool:
    if ip_address(address) not in ip_network(block["cidr"]):
        return False
    return not any(ip_address(address) in ip_network(exception) for exception in block.get("except", []))


def test_the_services_gateway_reaches_the_container_postgresql_and_names_and_nothing_else() -> None:
    found = allowed(render("service"), LABELS, "egress")
    expected = [DNS, (pods(CONTAINER), [8000]), (namespace("postgresql"), [5432])]
    assert all(each in expected for each in found)
    assert len(found) == len(expected)


def test_webhooks_and_jwks_are_named_one_by_one() -> None:
    plain = allowed(render("service"), LABELS, "egress")
    added = [each for each in allowed(render("service", *COMPONENTS), LABELS, "egress") if each not in plain]
    assert [(peer["ipBlock"]["cidr"].rpartition("/")[2], ports) for peer, ports in added] == [("32", [443])] * 2


# Who looks


def test_the_service_monitor_selects_the_admin_port_with_its_token(settings: Settings) -> None:
    rendered = render("sidecar", *COMPONENTS)
    monitor = rendered.one("ServiceMonitor")["spec"]
    found = [each for each in rendered.of("Service") if selects(monitor["selector"], each["metadata"]["labels"])]
    assert [each["metadata"]["name"] for each in found] == [f"{NAMESPACE}-admin"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in found[0]["spec"]["ports"]}
    assert (endpoint["scheme"], settings.admin.tls) == ("http", None)
    token = endpoint["authorization"]["credentials"]
    mounted = volume(rendered.pod, "configuration")["projected"]["sources"]
    assert {"name": token["name"], "items": [{"key": token["key"], "path": "secrets/admin-token"}]} in [
        source.get("secret") for source in mounted
    ]


def test_a_prometheus_that_goes_by_annotations_finds_the_same_and_not_twice(settings: Settings) -> None:
    template = render("sidecar").one("Deployment")["spec"]["template"]["metadata"]
    assert template["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "http",
        "prometheus.io/port": str(settings.admin.port),
        "prometheus.io/path": "/metrics",
    }
    with_monitor = render("sidecar", "service-monitor").one("Deployment")["spec"]["template"]["metadata"]
    assert not with_monitor.get("annotations")


def test_the_certificate_fills_the_secret_that_is_mounted() -> None:
    rendered = render("sidecar", "cert-manager")
    certificate = rendered.one("Certificate", "gateway")["spec"]
    sources = volume(rendered.pod, "configuration")["projected"]["sources"]
    assert certificate["secretName"] in {source["secret"]["name"] for source in sources if "secret" in source}
    assert f"{NAMESPACE}.{NAMESPACE}.svc" in certificate["dnsNames"]


# From outside


def names_of_the_certificate() -> list[str]:
    names: list[str] = render("sidecar", "cert-manager").one("Certificate", "gateway")["spec"]["dnsNames"]
    return names


def test_the_ingress_leads_to_the_gateway_and_verifies_it(settings: Settings) -> None:
    rendered = render("service", "ingress-nginx")
    ingress = rendered.one("Ingress")
    ((path,),) = (rule["http"]["paths"] for rule in ingress["spec"]["rules"])
    service = path["backend"]["service"]
    ports = {port["name"] for port in rendered.one("Service", service["name"])["spec"]["ports"]}
    assert service["port"]["name"] in ports
    prefix = "nginx.ingress.kubernetes.io/"
    said = {name.removeprefix(prefix): value for name, value in ingress["metadata"]["annotations"].items()}
    assert said["backend-protocol"] == "HTTPS"
    assert (said["proxy-ssl-verify"], said["proxy-ssl-server-name"]) == ("on", "on")
    assert said["proxy-ssl-name"] in names_of_the_certificate()
    assert said["proxy-ssl-secret"].partition("/")[0] == NAMESPACE
    waits = max(settings.upstream.read_timeout, settings.jobs.hold_limit)
    assert min(int(said["proxy-read-timeout"]), int(said["proxy-send-timeout"])) > waits
    assert (said["proxy-body-size"], said["proxy-request-buffering"]) == ("0", "off")
    ((host,),) = (each["hosts"] for each in ingress["spec"]["tls"])
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [host]


def test_the_route_leads_to_the_gateway_and_its_tls_is_verified() -> None:
    rendered = render("service", "gateway-api")
    (rule,) = rendered.one("HTTPRoute", "documents")["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    ports = {port["port"] for port in rendered.one("Service", backend["name"])["spec"]["ports"]}
    assert backend["port"] in ports
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    policy = rendered.one("BackendTLSPolicy")["spec"]
    assert [(each["kind"], each["name"]) for each in policy["targetRefs"]] == [("Service", backend["name"])]
    assert policy["validation"]["hostname"] in names_of_the_certificate()
    listener = rendered.one("Gateway", "documents")["spec"]["listeners"][0]
    (parent,) = rendered.one("HTTPRoute", "documents")["spec"]["parentRefs"]
    assert (parent["name"], parent["sectionName"]) == ("documents", listener["name"])
    assert rendered.one("HTTPRoute", "documents")["spec"]["hostnames"] == [listener["hostname"]]


# The examples: an overlay with every edit


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_example_has_the_edits_that_it_is_for(overlay: str) -> None:
    edited, plain = render_example(overlay), render(overlay, "cert-manager", "service-monitor")
    kinds = [(each["kind"], each["metadata"]["name"]) for each in edited.objects]
    assert sorted(kinds) == sorted((each["kind"], each["metadata"]["name"]) for each in plain.objects)
    assert {"name": "own-registry"} in edited.pod["imagePullSecrets"]
    before = plain.pod.get("imagePullSecrets", [])
    assert all(secret in edited.pod["imagePullSecrets"] for secret in before)
    gpu = edited.pod if overlay == "sidecar" else edited.one("Deployment", "container")["spec"]["template"]["spec"]
    assert {"nodeSelector", "tolerations", "runtimeClassName"} <= gpu.keys()
    assert edited.container["image"].startswith("registry.example.com/platform/")
    certificate, was = edited.one("Certificate", "gateway"), plain.one("Certificate", "gateway")
    assert certificate["spec"]["issuerRef"] != was["spec"]["issuerRef"]
    assert certificate["spec"]["privateKey"] == was["spec"]["privateKey"]
    assert edited.one("Service")["spec"]["externalTrafficPolicy"] == "Local"


def test_the_sidecars_example_names_its_storage_class() -> None:
    claim = render_example("sidecar").one("PersistentVolumeClaim", "gateway-ledger")["spec"]
    assert {"storageClassName", "accessModes", "resources"} == claim.keys()


def test_the_services_example_reaches_a_postgresql_outside_of_the_cluster() -> None:
    found = allowed(render_example("service"), LABELS, "egress")
    assert [peer["ipBlock"]["cidr"] for peer, ports in found if ports == [5432]] == ["10.9.0.5/32", "10.9.0.6/32"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_examples_let_in_the_clients_that_they_name_and_no_other(overlay: str) -> None:
    found = [(peer, ports) for peer, ports in allowed(render_example(overlay), LABELS, "ingress")]
    clients = {"namespaceSelector": {"matchLabels": {"document-gateway/client": "true"}}}
    outside = {"ipBlock": {"cidr": "10.20.0.0/16"}}
    assert found == [(clients, [8443]), (outside, [8443]), (namespace("observability"), [9090])]
    assert outside["ipBlock"]["cidr"] in yaml.safe_load(render_example(overlay).configuration)["network"]["allow"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_examples_configuration_differs_by_its_networks_and_its_url_alone(overlay: str) -> None:
    edited, plain = (yaml.safe_load(each.configuration) for each in (render_example(overlay), render(overlay)))
    assert {name for name in {*edited, *plain} if edited.get(name) != plain.get(name)} == {"network", "public_url"}


DEPLOYED = [
    ROOT / "deploy" / place / "gateway.yaml"
    for place in (
        "compose",
        "systemd",
        *(f"kubernetes/{where}/{overlay}" for where in ("overlays", "examples") for overlay in OVERLAYS),
    )
]


@pytest.mark.parametrize("path", DEPLOYED, ids=lambda path: path.parent.name)
def test_every_deployment_has_the_path_that_the_sdk_calls(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["aliases"] == {"/api/v1/convert": "/api/v1/marker"}

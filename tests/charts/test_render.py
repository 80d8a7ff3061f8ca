"""Every values file of every chart: both Helms lint and render it, the API schemas take it, and what must never happen does not."""

import copy
import json
import pathlib
import subprocess
import tempfile
import unittest

import kubernetes_validate
import yaml

from lib import ALL, FOREIGN, HELMS, INJECTOR, NATIVE_FROM, ROOT, SERVER, VERSIONS
from lib import binary, ci_values, config_of, containers, documents, env_of, helm, of_kind, one, pod_templates, refusal, render, template, tools_of, values_of

AZURE_USE = "azure.workload.identity/use"
AZURE_SKIP = "azure.workload.identity/skip-containers"


def runs_on(chart: pathlib.Path, values: pathlib.Path, version: str) -> bool:
    """Whether the values ask for nothing that this version of Kubernetes lacks."""
    native = chart != SERVER or values_of(values).get("sidecar", {}).get("native", True)
    return int(version.split(".")[1]) >= NATIVE_FROM or not native


def as_aks_serves(pod: dict) -> dict:
    """What AKS' workload identity webhook (1.6) makes of a pod: token and variables for every container that is not skipped, init containers too."""
    pod = copy.deepcopy(pod)
    if pod["metadata"].get("labels", {}).get(AZURE_USE) != "true":
        return pod
    skipped = [n.strip() for n in pod["metadata"].get("annotations", {}).get(AZURE_SKIP, "").split(";")]
    for container in containers(pod):
        if container["name"] in skipped:
            continue
        container.setdefault("volumeMounts", []).append({"name": "azure-workload-identity-reserved", "mountPath": "/var/run/secrets/azure/wi"})
        container.setdefault("env", []).append({"name": "AZURE_FEDERATED_TOKEN_FILE", "value": "/var/run/secrets/azure/wi/token/azure-identity-token"})
    pod["spec"].setdefault("volumes", []).append(
        {"name": "azure-workload-identity-reserved", "projected": {"sources": [{"serviceAccountToken": {"path": "token/azure-identity-token"}}]}}
    )
    return pod


def token_volumes(pod: dict) -> set[str]:
    """Volumes that hold service-account tokens."""
    found = set()
    for volume in pod["spec"].get("volumes", []):
        if any("serviceAccountToken" in s for s in volume.get("projected", {}).get("sources", [])):
            found.add(volume["name"])
    return found


def without_certificates(objects: list[dict]) -> list[dict]:
    """Without what is made anew at each rendering."""
    for o in objects:
        if o["kind"] == "Secret":
            o["data"] = sorted(o["data"])
            o["metadata"]["annotations"] = {k: v for k, v in o["metadata"]["annotations"].items() if k == "token-sidecar.io/names"}
        for hook in o.get("webhooks", []):
            hook["clientConfig"].pop("caBundle", None)
    return objects


class Lint(unittest.TestCase):
    def test_both_helms_find_nothing(self):
        for name, helm_binary in HELMS.items():
            for chart in ALL:
                for values in [None, *ci_values(chart)]:
                    with self.subTest(helm=name, chart=chart.name, values=values and values.name):
                        helm(helm_binary, "lint", "--strict", str(chart), *(["--values", str(values)] if values else []))

    def test_both_helms_render_the_same(self):
        for chart in ALL:
            for values in ci_values(chart):
                with self.subTest(chart=chart.name, values=values.name):
                    key = lambda o: (o["kind"], o["metadata"]["name"])
                    three, four = (sorted(without_certificates(documents(template(chart, values, h))), key=key) for h in HELMS)
                    self.assertEqual(three, four)

    def test_the_charts_have_the_binaries_version(self):
        cargo = (ROOT / "Cargo.toml").read_text()
        for chart in ALL:
            version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
            self.assertIn(f'\nversion = "{version}"\n', cargo, chart.name)


class Schemas(unittest.TestCase):
    def test_every_version_of_kubernetes_takes_every_combination(self):
        checked = 0
        for chart in ALL:
            for values in ci_values(chart):
                for version in VERSIONS:
                    if not runs_on(chart, values, version):
                        continue
                    for o in documents(template(chart, values, version=version)):
                        if o["kind"] in FOREIGN:
                            continue
                        with self.subTest(chart=chart.name, values=values.name, version=version, object=f"{o['kind']}/{o['metadata']['name']}"):
                            kubernetes_validate.validate(o, version, strict=True)
                            checked += 1
        print(f"\n{checked} objects taken by the API schemas of {VERSIONS[0]} to {VERSIONS[-1]}")
        self.assertGreater(checked, 200)

    def test_the_validator_can_refuse(self):
        deployment = one(documents(template(SERVER, ci_values(SERVER)[0])), "Deployment")
        deployment["spec"]["template"]["spec"]["automountServiceAccountTokens"] = False
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


class Pods(unittest.TestCase):
    """What must never happen, on every pod of every combination."""

    def each(self):
        for chart in ALL:
            for values in ci_values(chart):
                objects = documents(template(chart, values))
                for name, pod in pod_templates(objects):
                    with self.subTest(chart=chart.name, values=values.name, pod=name):
                        yield objects, pod

    def test_only_the_sidecar_can_read_a_token(self):
        for chart in [SERVER]:
            for values in ci_values(chart):
                for name, pod in pod_templates(documents(template(chart, values))):
                    with self.subTest(values=values.name, pod=name):
                        served = as_aks_serves(pod)
                        holders = {
                            c["name"]
                            for c in containers(served)
                            if token_volumes(served) & {m["name"] for m in c.get("volumeMounts", [])} or "AZURE_FEDERATED_TOKEN_FILE" in env_of(c)
                        }
                        self.assertEqual(holders, {"token-sidecar"})
                        self.assertIs(served["spec"]["automountServiceAccountToken"], False)
                        self.assertFalse(served["spec"].get("shareProcessNamespace"))
                        for account in of_kind(documents(template(chart, values)), "ServiceAccount"):
                            self.assertIs(account["automountServiceAccountToken"], False)

    def test_the_watcher_of_the_watcher(self):
        objects = documents(template(SERVER, SERVER / "ci" / "aks-values.yaml"))
        pod = copy.deepcopy(one(objects, "Deployment")["spec"]["template"])
        del pod["metadata"]["annotations"][AZURE_SKIP]
        holders = {c["name"] for c in containers(as_aks_serves(pod)) if "AZURE_FEDERATED_TOKEN_FILE" in env_of(c)}
        self.assertEqual(holders, {"token-sidecar", "mcp-server"}, "without the annotation AKS hands the token to the server")

    def test_no_privileges(self):
        for _, pod in self.each():
            self.assertIs(pod["spec"]["securityContext"]["runAsNonRoot"], True)
            self.assertEqual(pod["spec"]["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertFalse(pod["spec"].get(key))
            users = []
            for container in containers(pod):
                security = container["securityContext"]
                self.assertIs(security["allowPrivilegeEscalation"], False)
                self.assertIs(security["readOnlyRootFilesystem"], True)
                self.assertIs(security["privileged"], False)
                self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
                self.assertIn("requests", container["resources"])
                users.append(security["runAsUser"])
            self.assertEqual(len(users), len(set(users)), "containers of a pod have different users")
            self.assertNotIn(0, users)

    def test_values_cannot_take_the_hardening_away(self):
        loose = {"privileged": True, "allowPrivilegeEscalation": True, "readOnlyRootFilesystem": False, "capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 5}
        server = render(SERVER, {**values_of(SERVER / "ci" / "aks-values.yaml"), "securityContext": loose, "sidecarSecurityContext": {**loose, "runAsUser": 6}})
        for objects in (server, render(INJECTOR, {"securityContext": loose})):
            for _, pod in pod_templates(objects):
                for container in containers(pod):
                    security = container["securityContext"]
                    self.assertIn(security.pop("runAsUser"), (5, 6))
                    hard = {"privileged": False, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                    self.assertEqual({k: security[k] for k in hard}, hard)

    def test_configuration_is_never_mounted_by_subpath(self):
        for _, pod in self.each():
            for container in containers(pod):
                for mount in container.get("volumeMounts", []):
                    self.assertNotIn("subPath", mount, "a subPath does not follow changes")

    def test_probes_name_ports_that_are_there(self):
        for objects, pod in self.each():
            all_ports = {p["containerPort"] for c in containers(pod) for p in c.get("ports", [])}
            for container in containers(pod):
                names = {p["name"] for p in container.get("ports", [])}
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    if probe in container:
                        # A number is the sidecar's: a server behind `inbound` is asked through it.
                        port = (container[probe].get("httpGet") or container[probe]["tcpSocket"])["port"]
                        self.assertTrue(port in names or port in all_ports, port)

    def test_selectors_select(self):
        for objects, pod in self.each():
            # Pods that end are those of tests and hooks, which nothing may select.
            if pod["spec"].get("restartPolicy") == "Never":
                continue
            labels = pod["metadata"]["labels"].items()
            for o in objects:
                spec = o.get("spec", {})
                if o["kind"] == "Service" and o["metadata"]["name"].endswith("webhook") is False:
                    self.assertLessEqual(spec["selector"].items(), labels, o["metadata"]["name"])
                if o["kind"] in ("Deployment", "PodDisruptionBudget"):
                    self.assertLessEqual(spec["selector"]["matchLabels"].items(), labels)
                if o["kind"] == "NetworkPolicy":
                    self.assertLessEqual(spec["podSelector"]["matchLabels"].items(), labels)


class Server(unittest.TestCase):
    def test_the_values_that_users_have(self):
        objects = documents(template(SERVER, SERVER / "ci" / "aks-values.yaml"))
        pod = one(objects, "Deployment")["spec"]["template"]
        server, sidecar = pod["spec"]["containers"][0], pod["spec"]["initContainers"][0]
        self.assertEqual(pod["metadata"]["labels"]["azure.workload.identity/use"], "true")
        self.assertEqual(pod["metadata"]["labels"]["app.kubernetes.io/name"], "mcp-server")
        self.assertEqual(server["image"], "myregistry.azurecr.io/mcp-server:0.1.0")
        self.assertEqual(server["resources"]["requests"], {"cpu": "100m", "memory": "64Mi"})
        env = env_of(server)
        self.assertEqual(
            [env[k] for k in ("BACKEND_API_URL", "BACKEND_API_TIMEOUT", "READINESS_CHECK_BACKEND", "LOG_LEVEL")],
            ["http://127.0.0.1:8080", "30", "true", "info"],
        )
        self.assertNotIn("management.azure.com", json.dumps(server), "the server is only ever given localhost")
        self.assertEqual(sidecar["restartPolicy"], "Always")
        self.assertEqual(sidecar["startupProbe"]["httpGet"]["path"], "/startupz")
        config = yaml.safe_load(config_of(objects))
        self.assertEqual(config["routes"], [{"name": "backend", "upstream": "https://management.azure.com", "credential": "backend"}])
        self.assertEqual(
            config["credentials"]["backend"]["entraClientAssertion"],
            {
                "scope": "https://management.azure.com/.default",
                "tenantId": "72f988bf-86f1-41af-91ab-2d7cd011db47",
                "clientId": "11111111-2222-3333-4444-555555555555",
                "authorityHost": "https://login.microsoftonline.com/",
            },
        )
        account = one(objects, "ServiceAccount")
        self.assertEqual(account["metadata"]["name"], "mcp-server")
        self.assertEqual(
            account["metadata"]["annotations"],
            {
                "azure.workload.identity/client-id": "11111111-2222-3333-4444-555555555555",
                "azure.workload.identity/tenant-id": "72f988bf-86f1-41af-91ab-2d7cd011db47",
            },
        )
        service = one(objects, "Service")
        self.assertEqual((service["metadata"]["name"], service["spec"]["ports"][0]["port"]), ("mcp-server", 3333))
        scaler = one(objects, "HorizontalPodAutoscaler")["spec"]
        self.assertEqual((scaler["minReplicas"], scaler["maxReplicas"]), (2, 10))
        self.assertEqual(scaler["metrics"][0]["containerResource"]["target"]["averageUtilization"], 70)
        self.assertNotIn("replicas", one(objects, "Deployment")["spec"], "the autoscaler has the say")
        fixed = render(SERVER, {**values_of(SERVER / "ci" / "aks-values.yaml"), "autoscaling": {"enabled": False}})
        self.assertEqual(one(fixed, "Deployment")["spec"]["replicas"], 3)

    def test_the_binaries_take_what_the_chart_writes(self):
        for values in ci_values(SERVER):
            with self.subTest(values=values.name), tempfile.TemporaryDirectory() as folder:
                objects = documents(template(SERVER, values))
                pod = as_aks_serves(one(objects, "Deployment")["spec"]["template"])
                sidecar = next(c for c in containers(pod) if c["name"] == "token-sidecar")
                # As AKS sets them where its webhook serves.
                env = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/"} if AZURE_USE in pod["metadata"]["labels"] else {}
                env |= {k: v for k, v in env_of(sidecar).items()}
                if "TOKEN_SIDECAR_CONFIG_TEXT" in env:
                    env["TOKEN_SIDECAR_CONFIG_TEXT"] = config_of(objects)
                else:
                    env["TOKEN_SIDECAR_CONFIG"] = str(pathlib.Path(folder, "config.yaml"))
                    pathlib.Path(folder, "config.yaml").write_text(config_of(objects))
                done = subprocess.run([binary("token-sidecar"), "--check"], env=env, capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)

                server = next(c for c in containers(pod) if c["name"] == "mcp-server")
                env = env_of(server)
                if "TOOLS_FILE" in env:
                    tools = pathlib.Path(folder, "tools.yaml")
                    tools.write_text(tools_of(pod))
                    env["TOOLS_FILE"] = str(tools)
                done = subprocess.run([binary("mcp-server"), "--check"], env=env, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_ordinary_sidecar_outlives_the_server(self):
        objects = documents(template(SERVER, SERVER / "ci" / "ordinary-values.yaml"))
        pod = one(objects, "Deployment")["spec"]["template"]
        self.assertNotIn("initContainers", pod["spec"])
        sidecar = next(c for c in pod["spec"]["containers"] if c["name"] == "token-sidecar")
        self.assertNotIn("restartPolicy", sidecar)
        shutdown = yaml.safe_load(config_of(objects))["shutdown"]
        env = env_of(next(c for c in pod["spec"]["containers"] if c["name"] == "mcp-server"))
        seconds = lambda text: int(text.rstrip("s"))
        stays = seconds(shutdown["delay"])
        self.assertGreaterEqual(stays, int(env["SHUTDOWN_DELAY"]) + int(env["SHUTDOWN_DEADLINE"]))
        self.assertLess(stays + seconds(shutdown["deadline"]), pod["spec"]["terminationGracePeriodSeconds"])

    def test_the_network_policy_opens_what_is_needed_and_no_more(self):
        def egress(values):
            policy = one(documents(template(SERVER, SERVER / "ci" / values)), "NetworkPolicy")
            return policy["spec"]["egress"]

        dns, rest = egress("exchange-values.yaml")
        self.assertEqual({p["port"] for p in dns["ports"]}, {53})
        self.assertEqual([p["port"] for p in rest["ports"]], [443, 8443])
        self.assertIn("169.254.0.0/16", rest["to"][0]["ipBlock"]["except"], "no instance metadata")
        self.assertEqual([p["port"] for p in egress("projected-values.yaml")[1]["ports"]], [3128, 443])
        objects = documents(template(SERVER, SERVER / "ci" / "upstreams-values.yaml"))
        self.assertEqual(one(objects, "NetworkPolicy")["spec"]["policyTypes"], ["Ingress"])
        rules = one(objects, "CiliumNetworkPolicy")["spec"]["egress"]
        names = {n["matchName"] for r in rules for n in r.get("toFQDNs", [])}
        self.assertEqual(names, {"graph.microsoft.com", "login.microsoftonline.com", "management.azure.com", "sts.example.com", "crl.example.com"})
        self.assertEqual([r["toCIDR"] for r in rules if "toCIDR" in r], [["10.1.2.3/32"]])
        self.assertTrue(all("toPorts" in r for r in rules))

    def test_with_inbound_nobody_gets_around_the_sidecar(self):
        objects = documents(template(SERVER, SERVER / "ci" / "inbound-values.yaml"))
        pod = one(objects, "Deployment")["spec"]["template"]
        server = next(c for c in containers(pod) if c["name"] == "mcp-server")
        sidecar = next(c for c in containers(pod) if c["name"] == "token-sidecar")
        self.assertEqual(env_of(server)["HOST"], "127.0.0.1")
        # The server calls on its callers' behalf: it relays the handle that it gets in the place of a token.
        self.assertEqual((env_of(server)["FORWARD_CALLER"], env_of(server)["CALLER_HEADER"]), ("true", "authorization"))
        self.assertNotIn("FORWARD_CALLER", env_of(next(c for c in containers(one(documents(template(SERVER, SERVER / "ci" / "aks-values.yaml")), "Deployment")["spec"]["template"]) if c["name"] == "mcp-server")))
        port = next(p["containerPort"] for p in sidecar["ports"] if p["name"] == "inbound")
        self.assertEqual(one(objects, "Service")["spec"]["ports"][0]["targetPort"], port)
        inbound = yaml.safe_load(config_of(objects))["inbound"]
        self.assertEqual((inbound["listen"], inbound["upstream"]), (f"[::]:{port}", "http://127.0.0.1:3333"))
        self.assertIn("mcp-server.mcp.svc", inbound["allowedHosts"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.assertEqual(server[probe]["httpGet"]["port"], port)
            self.assertEqual(server[probe]["httpGet"]["httpHeaders"], [{"name": "Host", "value": "localhost"}])
        policy = one(objects, "NetworkPolicy")["spec"]
        self.assertEqual({p["port"] for r in policy["ingress"] for p in r["ports"]}, {port, 9090})
        self.assertEqual([p["port"] for p in policy["egress"][1]["ports"]], [443, 8443, 9443])
        self.assertEqual([e["port"] for e in one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]], ["admin"])

    def test_helm_test_is_the_doctor_with_the_releases_own_identity(self):
        for values in ci_values(SERVER):
            with self.subTest(values=values.name):
                objects = documents(template(SERVER, values))
                deployed, test = one(objects, "Deployment")["spec"]["template"], one(objects, "Pod")
                self.assertEqual(test["metadata"]["annotations"]["helm.sh/hook"], "test")
                self.assertEqual(test["spec"]["serviceAccountName"], deployed["spec"]["serviceAccountName"])
                self.assertEqual(test["spec"]["restartPolicy"], "Never")
                # Helm 3 gets the log of `helm test --logs` only of a pod of one container, and only while the pod is there.
                [doctor] = test["spec"]["containers"]
                self.assertEqual(test["metadata"]["annotations"]["helm.sh/hook-delete-policy"], "before-hook-creation")
                running = {c["name"]: c for c in containers(deployed)}
                self.assertEqual((doctor["name"], doctor["args"]), ("token-sidecar", ["check"]))
                for key in ("image", "volumeMounts", "env", "securityContext"):
                    self.assertEqual(doctor.get(key), running["token-sidecar"].get(key), key)
                # An image of one's own may not know how to check itself.
                known = values_of(values).get("app", {}).get("checkArgs", ["--check"])
                self.assertEqual([c["args"] for c in test["spec"].get("initContainers", [])], [known] if known else [])
                for server in test["spec"].get("initContainers", []):
                    self.assertEqual(server["env"], running["mcp-server"]["env"])
                self.assertNotEqual(test["metadata"]["labels"]["app.kubernetes.io/name"], "mcp-server", "the Service must not send it requests")

    def test_helm_test_asks_upstreams_when_it_is_told_what_for(self):
        good = values_of(SERVER / "ci" / "aks-values.yaml")
        asked = {**good, "sidecar": {**good.get("sidecar", {}), "checkRequests": ["/health?x=1", "backend=/v1"]}}
        doctor = one(render(SERVER, asked), "Pod")["spec"]["containers"][0]
        self.assertEqual(doctor["args"], ["check", "--request=/health?x=1", "--request=backend=/v1"])
        for wrong in ("health", "https://x/y", "a b=/x"):
            refusal(SERVER, {**good, "sidecar": {"checkRequests": [wrong]}})

    def test_an_image_of_ones_own(self):
        good = values_of(SERVER / "ci" / "aks-values.yaml")
        own = {**good, "app": {**good["app"], "checkArgs": [], "probes": {"startup": "/ping", "liveness": "", "readiness": "/ping"}}}
        objects = render(SERVER, own)
        self.assertNotIn("initContainers", one(objects, "Pod")["spec"])
        server = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(server["startupProbe"]["httpGet"], {"path": "/ping", "port": "http"})
        self.assertEqual(server["livenessProbe"]["tcpSocket"], {"port": "http"})
        own["app"]["scratch"] = ["/tmp", "/var/cache/app"]
        pod = one(render(SERVER, own), "Deployment")["spec"]["template"]["spec"]
        written = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"] if not m.get("readOnly")}
        self.assertEqual(list(written.values()), ["/tmp", "/var/cache/app"])
        self.assertLessEqual(written.keys(), {v["name"] for v in pod["volumes"] if v.get("emptyDir") == {}})
        self.assertFalse(written.keys() & {m["name"] for m in pod["initContainers"][0].get("volumeMounts", [])}, "the sidecar's is its own")
        own["app"]["metrics"] = False
        scraped = one(render(SERVER, {**own, "monitoring": {"podMonitor": {"enabled": True}}}), "PodMonitor")["spec"]["podMetricsEndpoints"]
        self.assertEqual([e["port"] for e in scraped], ["admin"])
        # Behind `inbound` the kubelet asks through the sidecar, which must let the paths through without a token.
        inbound = {"resource": "https://mcp.example.com/mcp", "issuers": [{"issuer": "https://sso.example.com"}]}
        self.assertIn("by a path", refusal(SERVER, {**own, "inbound": inbound}))
        own["app"]["probes"]["liveness"] = "/livez"
        let = lambda o: yaml.safe_load(config_of(o))["inbound"].get("publicPaths")
        self.assertLessEqual({"/ping", "/livez", "/healthz"}, set(let(render(SERVER, {**own, "inbound": inbound}))))
        self.assertIsNone(let(render(SERVER, {**good, "inbound": inbound})), "the sidecar's own default has the chart's paths")
        self.assertIn("`/livez` (app.probes.liveness)", refusal(SERVER, {**own, "inbound": {**inbound, "publicPaths": ["/ping"]}}))

    def test_monitors_name_ports_that_are_there(self):
        objects = documents(template(SERVER, SERVER / "ci" / "monitoring-values.yaml"))
        pod = one(objects, "Deployment")["spec"]["template"]
        ports = {p["name"] for c in containers(pod) for p in c["ports"]}
        monitor = one(objects, "PodMonitor")["spec"]
        self.assertLessEqual({e["port"] for e in monitor["podMetricsEndpoints"]}, ports)
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), pod["metadata"]["labels"].items())
        objects = documents(template(SERVER, SERVER / "ci" / "servicemonitor-values.yaml"))
        monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service", "-metrics")
        self.assertLessEqual({e["port"] for e in monitor["endpoints"]}, {p["name"] for p in service["spec"]["ports"]})
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), service["metadata"]["labels"].items())

    def test_the_images_are_named_as_asked(self):
        pod = one(documents(template(SERVER, SERVER / "ci" / "servicemonitor-values.yaml")), "Deployment")["spec"]["template"]
        images = {c["name"]: c["image"] for c in containers(pod)}
        self.assertTrue(images["mcp-server"].endswith("@sha256:" + "0" * 64))
        self.assertTrue(images["token-sidecar"].endswith("/token-sidecar:0.1.1"))

    def test_any_release_name_gives_names_that_kubernetes_takes(self):
        for name in ("mcp-server", "a", "x" * 53):
            text = helm(HELMS["helm 4"], "template", name, str(SERVER), "--values", str(SERVER / "ci" / "monitoring-values.yaml"))
            for o in documents(text):
                self.assertLessEqual(len(o["metadata"]["name"]), 63, o["metadata"]["name"])


if __name__ == "__main__":
    unittest.main()

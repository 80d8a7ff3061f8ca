"""An image of one's own in the server's place: it can have what a container has (examples/), but nothing that leads to the sidecar's credentials."""

import copy
import unittest

import yaml

from lib import HELMS, SERVER
from lib import ci_values, config_of, containers, documents, env_of, one, pod_templates, refusal, render, template, values_of
from test_render import as_aks_serves, token_volumes

EXAMPLES = SERVER / "examples"
PYTHON = values_of(EXAMPLES / "python-values.yaml")


def with_app(**app) -> dict:
    """The Python example with other values of app."""
    values = copy.deepcopy(PYTHON)
    values["app"].update(app)
    return values


def server_of(objects: list[dict]) -> dict:
    """The server's container."""
    return next(c for c in containers(one(objects, "Deployment")["spec"]["template"]) if c["name"] == "mcp-server")


class Examples(unittest.TestCase):
    def test_every_example_is_part_of_the_matrix(self):
        """So both Helms lint and render it, the API schemas take it, and the binaries its configuration."""
        files = sorted(EXAMPLES.glob("*"))
        self.assertGreaterEqual(len(files), 3)
        self.assertLessEqual(set(files), set(ci_values(SERVER)))

    def test_a_python_server(self):
        objects = documents(template(SERVER, EXAMPLES / "python-values.yaml"))
        pod, server = one(objects, "Deployment")["spec"]["template"], server_of(objects)
        self.assertEqual((server["command"], server["args"]), (["python", "-m", "orders_mcp"], ["--transport=http"]))
        self.assertEqual(server["volumeMounts"], [{"name": "scratch-0", "mountPath": "/tmp"}])
        self.assertIn({"name": "scratch-0", "emptyDir": {}}, pod["spec"]["volumes"])
        self.assertEqual(server["envFrom"], [{"configMapRef": {"name": "orders-mcp", "optional": True}}])
        self.assertEqual(env_of(server)["PORT"], "8000")
        self.assertEqual(env_of(server)["PYTHONUNBUFFERED"], "1")
        self.assertEqual(server["ports"], [{"name": "http", "containerPort": 8000, "protocol": "TCP"}])
        self.assertEqual(server["livenessProbe"]["tcpSocket"], {"port": "http"})
        self.assertEqual(one(objects, "Service")["spec"]["ports"][0]["targetPort"], 8000)
        self.assertIn(8000, [p["port"] for r in one(objects, "NetworkPolicy")["spec"]["ingress"] for p in r["ports"]])
        self.assertEqual([c["name"] for c in containers(one(objects, "Pod"))], ["token-sidecar"], "it is not asked to check itself")
        self.assertNotIn("volumes", one(objects, "Pod")["spec"])

    def test_a_node_server(self):
        objects = documents(template(SERVER, EXAMPLES / "node-values.yaml"))
        server = server_of(objects)
        self.assertTrue(server["image"].endswith(":1.10"))
        self.assertIn({"name": "catalog", "mountPath": "/app/catalog", "readOnly": True}, server["volumeMounts"])
        self.assertEqual(next(e["valueFrom"] for e in server["env"] if e["name"] == "NODE_MEMORY_LIMIT"), {"resourceFieldRef": {"resource": "limits.memory"}})
        self.assertEqual(server["startupProbe"]["httpGet"]["path"], "/healthz")

    def test_openshift(self):
        objects = documents(template(SERVER, EXAMPLES / "openshift-values.yaml"))
        for _, pod in pod_templates(objects):
            users = [c["securityContext"]["runAsUser"] for c in containers(pod)]
            self.assertEqual(len(users), len(set(users)))
            self.assertTrue(all(1000650000 <= u < 1000660000 for u in users))


class Port(unittest.TestCase):
    def test_everything_follows_it(self):
        monitors = {"monitoring": {"serviceMonitor": {"enabled": True}}}
        objects = render(SERVER, {**with_app(port=8123, metrics=True), **monitors})
        self.assertEqual([(e["port"], e["path"]) for e in one(objects, "ServiceMonitor")["spec"]["endpoints"]], [("admin", "/metrics"), ("http", "/metrics")])
        self.assertEqual([p["targetPort"] for p in one(objects, "Service", "-metrics")["spec"]["ports"]], [9090, 8123])
        objects = render(SERVER, {**with_app(port=8123), **monitors})
        self.assertEqual([e["port"] for e in one(objects, "ServiceMonitor")["spec"]["endpoints"]], ["admin"])
        inbound = {"resource": "https://mcp.example.com/mcp", "issuers": [{"issuer": "https://sso.example.com"}]}
        objects = render(SERVER, {**with_app(port=8123, probes={"startup": "/up", "liveness": "/up", "readiness": "/up"}), "inbound": inbound})
        self.assertEqual(yaml.safe_load(config_of(objects))["inbound"]["upstream"], "http://127.0.0.1:8123")
        self.assertEqual(env_of(server_of(objects))["HOST"], "127.0.0.1")
        self.assertIn("taken", refusal(SERVER, {**with_app(port=8081), "upstreams": [{"name": "a", "url": "https://a", "port": 8081, "scope": "https://a/.default"}]}))

    def test_nobody_is_told_3333_by_the_way(self):
        text = template(SERVER, EXAMPLES / "python-values.yaml")
        self.assertNotIn("targetPort: 3333", text)
        self.assertNotIn("containerPort: 3333", text)


class Credentials(unittest.TestCase):
    MOUNTS = [{"name": "sts", "secret": "sts-client", "path": "/etc/token-sidecar/sts"}]

    def test_nothing_of_the_sidecars_comes_to_the_server(self):
        token = {"sources": [{"serviceAccountToken": {"path": "t", "audience": "api://AzureADTokenExchange"}}]}
        secret = {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "sts-client"}}]}
        for app, mend in [
            ({"volumes": [{"name": "t", "projected": token}]}, "subjectToken.more"),
            ({"volumes": [{"name": "h", "hostPath": {"path": "/var/lib/kubelet"}}]}, "hostPath"),
            ({"volumes": [{"name": "s", "secret": {"secretName": "sts-client"}}]}, "sidecar.mounts"),
            ({"volumes": [{"name": "s", "projected": secret}]}, "sidecar.mounts"),
            ({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "sts-client", "key": "secret"}}}]}, "sidecar.mounts"),
            ({"envFrom": [{"secretRef": {"name": "sts-client"}}]}, "sidecar.mounts"),
            ({"volumeMounts": [{"name": "token-sidecar-tokens", "mountPath": "/t"}]}, "no volume of that name"),
            ({"volumeMounts": [{"name": "azure-identity-token", "mountPath": "/t"}]}, "no volume of that name"),
            ({"volumeMounts": [{"name": "sidecar-sts", "mountPath": "/t"}]}, "no volume of that name"),
            ({"volumes": [{"name": "token-sidecar-tokens", "emptyDir": {}}]}, "choose another"),
            ({"volumes": [{"name": "azure-identity-token", "emptyDir": {}}]}, "choose another"),
            ({"volumes": [{"name": "scratch-0", "emptyDir": {}}]}, "choose another"),
            ({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}, "twice"),
            ({"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "/tmp/"}]}, "something else is mounted"),
            ({"scratch": ["/tmp", "/tmp/"]}, "something else is mounted"),
        ]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, app=app):
                    self.assertIn(mend, refusal(SERVER, {**with_app(**app), "sidecar": {"mounts": self.MOUNTS}}, helm_name=helm_name))

    def test_what_is_its_own_may_come(self):
        app = {
            "volumes": [{"name": "s", "secret": {"secretName": "own"}}, {"name": "data", "persistentVolumeClaim": {"claimName": "d"}}],
            "volumeMounts": [{"name": "s", "mountPath": "/etc/own"}, {"name": "data", "mountPath": "/data", "subPath": "x"}],
            "envFrom": [{"secretRef": {"name": "own"}}],
        }
        objects = render(SERVER, {**with_app(**app), "sidecar": {"mounts": self.MOUNTS}, "subjectToken": {"more": [{"name": "sts", "audience": "a"}]}})
        pod = as_aks_serves(one(objects, "Deployment")["spec"]["template"])
        mounted = {m["name"] for m in server_of(objects)["volumeMounts"]}
        self.assertEqual(mounted, {"s", "data", "scratch-0"})
        self.assertEqual(mounted & token_volumes(pod), set())
        # A volume of one node at a time would keep the test's pod from starting.
        self.assertNotIn("claimName", str(one(objects, "Pod")))

    def test_an_image_that_checks_itself_finds_what_it_has(self):
        app = {"checkArgs": ["--check"], "volumes": [{"name": "a", "configMap": {"name": "a"}}], "volumeMounts": [{"name": "a", "mountPath": "/a"}]}
        objects = render(SERVER, with_app(**app))
        [check], server = one(objects, "Pod")["spec"]["initContainers"], server_of(objects)
        for key in ("command", "image", "env", "envFrom", "volumeMounts", "securityContext"):
            self.assertEqual(check[key], server[key], key)
        self.assertEqual(check["args"], ["--check"])
        self.assertEqual(one(objects, "Pod")["spec"]["volumes"], one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"])


if __name__ == "__main__":
    unittest.main()

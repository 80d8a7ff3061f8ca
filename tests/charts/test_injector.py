"""The injector's chart: whom the API server asks about; that the binary takes what the chart gives it. The certificate is test_certificate's."""

import base64
import contextlib
import json
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request

import yaml

from lib import INJECTOR
from lib import binary, ci_values, containers, documents, of_kind, one, refusal, template
from test_certificate import field

NAME = "token-sidecar-injector"
DEFAULTS = INJECTOR / "ci" / "default-values.yaml"


class Asking(unittest.TestCase):
    """Which pods the API server asks about: an evaluation of the selectors as Kubernetes defines them."""

    def selects(self, selector: dict, labels: dict) -> bool:
        for e in selector["matchExpressions"]:
            value = labels.get(e["key"])
            if e["operator"] == "In" and value not in e["values"]:
                return False
            if e["operator"] == "NotIn" and value in e["values"]:
                return False
        return True

    def asked(self, values, namespace: str, pod: dict, **labels) -> bool:
        hook = one(documents(template(INJECTOR, INJECTOR / "ci" / values)), "MutatingWebhookConfiguration")["webhooks"][0]
        labels = {"kubernetes.io/metadata.name": namespace, **labels}
        return self.selects(hook["namespaceSelector"], labels) and self.selects(hook["objectSelector"], pod)

    def test_namespaces_opt_in_and_some_never_can(self):
        opted = {"token-sidecar.io/injection": "enabled"}
        asks = {"token-sidecar.io/inject": "true"}
        self.assertTrue(self.asked("default-values.yaml", "shop", asks, **opted))
        self.assertFalse(self.asked("default-values.yaml", "shop", asks))
        self.assertFalse(self.asked("default-values.yaml", "kube-system", asks, **opted))
        self.assertFalse(self.asked("default-values.yaml", "mcp", asks, **opted), "the injector's own namespace")
        self.assertTrue(self.asked("cert-manager-values.yaml", "shop", asks))
        self.assertFalse(self.asked("issuer-values.yaml", "shop", asks, **opted), "environment is not production")

    def test_pods(self):
        opted = {"token-sidecar.io/injection": "enabled"}
        self.assertTrue(self.asked("default-values.yaml", "shop", {}, **opted), "an annotation may ask")
        self.assertFalse(self.asked("default-values.yaml", "shop", {"token-sidecar.io/inject": "false"}, **opted))
        self.assertFalse(self.asked("default-values.yaml", "shop", {"app.kubernetes.io/name": NAME, "token-sidecar.io/inject": "true"}, **opted))

    def test_it_is_asked_before_aks_webhook(self):
        for values in ci_values(INJECTOR):
            name = one(documents(template(INJECTOR, values)), "MutatingWebhookConfiguration")["metadata"]["name"]
            self.assertLess(name, "azure-wi-webhook-mutating-webhook-configuration")

    def test_the_webhook_is_asked_well(self):
        for values in ci_values(INJECTOR):
            hook = one(documents(template(INJECTOR, values)), "MutatingWebhookConfiguration")["webhooks"][0]
            self.assertEqual(hook["reinvocationPolicy"], "IfNeeded")
            self.assertEqual(hook["sideEffects"], "None")
            self.assertEqual(hook["admissionReviewVersions"], ["v1"])
            self.assertLessEqual(hook["timeoutSeconds"], 10)
            self.assertEqual(hook["rules"], [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced"}])
            asks = hook["matchConditions"][0]["expression"]
            for part in ("object.metadata.labels", "object.metadata.annotations", "'token-sidecar.io/inject'"):
                self.assertIn(part, asks)

    def test_it_has_no_permissions_and_calls_nobody(self):
        for values in ci_values(INJECTOR):
            objects = documents(template(INJECTOR, values))
            self.assertEqual({o["kind"] for o in objects} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}, set())
            for policy in of_kind(objects, "NetworkPolicy"):
                self.assertEqual(policy["spec"]["egress"], [])
                self.assertIn("Egress", policy["spec"]["policyTypes"])
            pod = one(objects, "Deployment")["spec"]["template"]["spec"]
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertGreaterEqual(one(objects, "Deployment")["spec"]["replicas"], 2)
            self.assertIn("podAntiAffinity", pod["affinity"])

    def test_its_callers_can_be_named(self):
        peers = [{"ipBlock": {"cidr": "10.0.0.0/28"}}]
        for values, callers, readers in [
            ({}, None, None),
            ({"callersFrom": peers}, peers, None),
            ({"metricsFrom": peers}, None, peers),
        ]:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                json.dump({"networkPolicy": values}, file)
                file.flush()
                policy = one(documents(template(INJECTOR, pathlib.Path(file.name))), "NetworkPolicy")
            found = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
            self.assertEqual(found, {8443: callers, 9090: readers}, values)

    def test_profiles_get_an_image_and_say_where_the_token_comes_from(self):
        profiles = yaml.safe_load(one(documents(template(INJECTOR, INJECTOR / "ci" / "cert-manager-values.yaml")), "ConfigMap", "-profiles")["data"]["profiles.yaml"])["profiles"]
        self.assertEqual(profiles["default"]["image"], "ghcr.io/token-sidecar/token-sidecar:0.1.0")
        self.assertEqual(profiles["keycloak"]["image"], "registry.example.com/token-sidecar:0.1.0")
        self.assertIn("profiles.shop.token", refusal(INJECTOR, {"profiles": {"shop": {"rewrite": []}}}))


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running(unittest.TestCase):
    """The binary with the chart's own arguments, profiles and certificate, asked by https as the API server asks."""

    def test_it_injects_with_what_the_chart_gives_it(self):
        objects = documents(template(INJECTOR, INJECTOR / "ci" / "monitoring-values.yaml"))
        profiles = documents(template(INJECTOR, INJECTOR / "ci" / "cert-manager-values.yaml"))
        secret = one(objects, "Secret", "-tls")
        arguments = containers(one(objects, "Deployment")["spec"]["template"])[0]["args"]
        hook = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {
                "profiles/profiles.yaml": one(profiles, "ConfigMap", "-profiles")["data"]["profiles.yaml"],
                "tls/tls.crt": field(secret, "tls.crt"),
                "tls/tls.key": field(secret, "tls.key"),
                "ca": base64.b64decode(hook["caBundle"]).decode(),
            }.items():
                pathlib.Path(folder, name).parent.mkdir(exist_ok=True)
                pathlib.Path(folder, name).write_text(text)
            listen, admin = free_port(), free_port()
            changed = [a.replace("/etc/token-sidecar", folder).replace("[::]:8443", f"127.0.0.1:{listen}").replace("[::]:9090", f"127.0.0.1:{admin}") for a in arguments]
            process = subprocess.Popen([binary("token-sidecar"), *changed], env={}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            try:
                until = time.monotonic() + 30
                while True:
                    self.assertIsNone(process.poll(), "the injector did not start: " + (process.stdout.read() if process.poll() is not None else ""))
                    self.assertLess(time.monotonic(), until, "not ready in 30 s")
                    with contextlib.suppress(OSError):
                        if urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2).status == 200:
                            break
                    time.sleep(0.1)
                answer = self.review(folder, listen, hook["service"]["path"])
                metrics = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read().decode()
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=40), 0)
            finally:
                process.kill()
                process.stdout.close()
                process.wait()
        self.assertTrue(answer["response"]["allowed"], answer)
        patch = json.loads(base64.b64decode(answer["response"]["patch"]))
        self.assertIn("token-sidecar", json.dumps(patch))
        self.assertIn('token_sidecar_injections_total{namespace="shop",result="injected"} 1', metrics)
        # PodMonitors find the sidecars by a label and by the name of a port.
        import jsonpatch

        pod = jsonpatch.apply_patch(self.pod(), patch)
        monitor = one(objects, "PodMonitor", "-injected")["spec"]
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), pod["metadata"]["labels"].items())
        ports = {p["name"] for c in containers(pod) for p in c.get("ports", [])}
        self.assertIn(monitor["podMetricsEndpoints"][0]["port"], ports)
        self.assertIn("token-sidecar", {c["name"] for c in containers(pod)}, "the name that alerts know it by")

    def pod(self) -> dict:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "orders-1", "namespace": "shop", "labels": {"token-sidecar.io/inject": "true"}},
            "spec": {"serviceAccountName": "orders", "containers": [{"name": "app", "image": "registry.example/app:1", "env": [{"name": "BACKEND_API_URL", "value": "https://orders.example.com"}]}]},
        }

    def review(self, folder: str, port: int, path: str) -> dict:
        request = {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": self.pod(),
        }
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
        context = ssl.create_default_context(cafile=f"{folder}/ca")
        # The certificate is for the Service's name, not for loopback.
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, context.wrap_socket(raw, server_hostname=f"{NAME}.mcp.svc") as tls:
            head = f"POST {path} HTTP/1.1\r\nHost: {NAME}.mcp.svc\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            tls.sendall(head.encode() + body)
            answer = b""
            while chunk := tls.recv(65536):
                answer += chunk
        headers, _, text = answer.partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", headers.split(b"\r\n")[0], headers)
        return json.loads(text)


if __name__ == "__main__":
    unittest.main()

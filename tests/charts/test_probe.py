"""`helm test` of the injector: its pod calls the real webhook, run with what the chart gives it, over TLS; it says what is wrong, and may not do or read more than it needs."""

import base64
import contextlib
import copy
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import yaml

import api_server
import ports
from lib import HELMS, INJECTOR
from lib import binary, ci_values, containers, documents, of_kind, one, template, values_of
from test_certificate import upgraded
from test_release import Helm

NAME = "localhost"  # So that the certificate, which is for the Service's names, is good for where the webhook listens here.


def mounted(spec: dict, helm: Helm, folder: pathlib.Path) -> list[str]:
    """The arguments of a pod's one container, and its volumes as directories below the folder, as the kubelet makes them."""
    [container] = spec["containers"]
    sources = {v["name"]: v for v in spec["volumes"]}
    for mount in container["volumeMounts"]:
        volume, place = sources[mount["name"]], folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if "secret" in volume:
            data = {k: base64.b64decode(v) for k, v in helm.named("secrets")[volume["secret"]["secretName"]]["data"].items()}
            items = {i["key"]: i["path"] for i in volume["secret"]["items"]}
        else:
            data = {k: v.encode() for k, v in helm.named("configmaps")[volume["configMap"]["name"]]["data"].items()}
            items = {k: k for k in data}
        for key, path in items.items():
            (place / path).write_bytes(data[key])
    return [a.replace("/etc/token-sidecar", f"{folder}/etc/token-sidecar") for a in container["args"]]


@contextlib.contextmanager
def webhook(helm: Helm, folder: pathlib.Path):
    """The webhook of the release that is in the cluster. Gives the port where it is called."""
    listen, admin = ports.free(), ports.free()
    [deployment] = helm.named("deployments").values()
    args = mounted(deployment["spec"]["template"]["spec"], helm, folder)
    args = [a.replace("[::]:8443", f"127.0.0.1:{listen}").replace("[::]:9090", f"127.0.0.1:{admin}") for a in args]
    process = subprocess.Popen([binary("token-sidecar"), *args], env={}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < until, "the webhook does not start"
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2).status == 200:
                    break
            time.sleep(0.1)
        yield listen
    finally:
        process.kill()
        process.wait()


class Test(unittest.TestCase):
    @contextlib.contextmanager
    def release(self, helm_binary: str, profiles: dict | None):
        """A Helm with a release of the injector, whose pods that end are the real binary. `profiles`: of the values; without them the chart's own."""
        with tempfile.TemporaryDirectory() as place, api_server.running(pathlib.Path(place)) as (cluster, config):
            cluster.put("/api/v1/namespaces", "kube-system", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})
            helm, runs = Helm(helm_binary, pathlib.Path(place), cluster, config), iter(range(99))
            # Bound and not listened on: nobody answers there, and nobody else will.
            nobody = self.enterContext(socket.socket())
            nobody.bind(("127.0.0.1", 0))
            self.port = nobody.getsockname()[1]

            def outcome(spec: dict) -> tuple[bool, str]:
                args = mounted(spec, helm, pathlib.Path(place, f"run-{next(runs)}"))
                args = [a.replace(f"{NAME}.mcp.svc", f"{NAME}:{self.port}") for a in args]
                done = subprocess.run([binary("token-sidecar"), *args], env={}, capture_output=True, text=True, timeout=60, check=False)
                return done.returncode == 0, done.stdout + done.stderr

            cluster.outcome = outcome
            # With the certificate that Helm makes.
            values = pathlib.Path(place, "values.yaml")
            values.write_text(yaml.safe_dump({"profiles": profiles} if profiles else {}))
            done = helm("install", "injector", str(INJECTOR), "--set", f"fullnameOverride={NAME}", "--values", str(values))
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("helm test -n mcp injector --logs", done.stdout, "the notes")
            yield helm

    def test_it_passes_where_the_webhook_injects_and_says_why_where_not(self):
        other = upgraded(None, HELMS["helm 4"]).serving["data"]["ca.crt"]
        # For AKS and for Keycloak.
        profiles = values_of(INJECTOR / "ci" / "cert-manager-values.yaml")["profiles"]
        for name, helm_binary in HELMS.items():
            with self.subTest(helm=name), self.release(helm_binary, profiles) as helm:
                # Nobody answers.
                self.fails(helm, "[FAIL] webhook: connect: connection_refused", "networkPolicy.callersFrom")
                with tempfile.TemporaryDirectory() as folder, webhook(helm, pathlib.Path(folder)) as self.port:
                    done = helm("test", "injector", "--logs")
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    for line in ("[ok]   webhook: tls: ", "[ok]   profile default: review: injected", "[ok]   profile keycloak: review: injected", "everything passes"):
                        self.assertIn(line, done.stdout)
                    # The API server's bundle is another CA's.
                    secret = helm.named("secrets")[f"{NAME}-tls"]
                    before = copy.deepcopy(secret["data"])
                    secret["data"]["ca.crt"] = other
                    self.fails(helm, "[FAIL] webhook: tls: tls_certificate_error", "of one make")
                    secret["data"] = before
                    self.assertEqual(helm("test", "injector").returncode, 0)

    def test_profiles_whose_routes_pods_bring_are_tried_with_a_route_of_the_tests_own(self):
        closed = {"token": {"aks": {}}, "annotations": ["routes", "log-level"]}
        projected = {"token": {"projected": {"audience": "https://sts.example.com"}}, "port": 8180}
        for profiles, said in [
            # The chart's default values.
            (None, ["[ok]   profile default: review: injected"]),
            (
                {"closed": closed, "projected": projected},
                [
                    "[ok]   profile projected: review: injected",
                    "[skip] profile closed: review: not asked: its routes come from the annotations of pods, and it does not let pods use token-sidecar.io/credentials",
                ],
            ),
        ]:
            with self.subTest(profiles=profiles), self.release(HELMS["helm 4"], profiles) as helm:
                with tempfile.TemporaryDirectory() as folder, webhook(helm, pathlib.Path(folder)) as self.port:
                    done = helm("test", "injector", "--logs")
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    for line in said:
                        self.assertIn(line, done.stdout)

    def fails(self, helm: Helm, *words: str):
        done = helm("test", "injector", "--logs")
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stdout)

    def test_its_pod_reads_the_bundle_and_the_profiles_alone(self):
        for values in ci_values(INJECTOR):
            with self.subTest(values=values.name):
                objects = documents(template(INJECTOR, values))
                pod, hook = one(objects, "Pod"), one(objects, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
                [container] = containers(pod)
                service = hook["service"]
                self.assertIn(f"--probe=https://{service['name']}.{service['namespace']}.svc{service['path']}", container["args"])
                self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
                self.assertIs(pod["spec"]["automountServiceAccountToken"], False)
                volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
                self.assertEqual(set(volumes), {"profiles", "ca"})
                self.assertIn(volumes["profiles"]["configMap"]["name"], {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")})
                if "secret" in volumes["ca"]:
                    self.assertEqual(volumes["ca"]["secret"]["items"], [{"key": "ca.crt", "path": "ca.crt"}])
                    served = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"]
                    self.assertEqual(volumes["ca"]["secret"]["secretName"], served)
                    bundle = [s["data"]["ca.crt"] for s in of_kind(objects, "Secret") if s["metadata"]["name"] == served]
                else:
                    bundle = [base64.b64encode(one(objects, "ConfigMap", "-test")["data"]["ca.crt"].encode()).decode()]
                # cert-manager writes both.
                if "caBundle" in hook:
                    given, registered = (base64.b64decode(b).strip() for b in (bundle[0], hook["caBundle"]))
                    self.assertEqual(given, registered)

    def test_nobody_takes_its_pod_for_the_webhooks(self):
        objects = documents(template(INJECTOR, None))
        labels = one(objects, "Pod")["metadata"]["labels"]
        for o in of_kind(objects, "Service") + of_kind(objects, "NetworkPolicy") + of_kind(objects, "PodDisruptionBudget") + of_kind(objects, "Deployment"):
            selector = o["spec"].get("podSelector", o["spec"].get("selector"))
            self.assertFalse(selector.get("matchLabels", selector).items() <= labels.items(), o["kind"])
        self.assertNotIn("token-sidecar.io/inject", labels)


if __name__ == "__main__":
    unittest.main()

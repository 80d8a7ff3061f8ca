"""The injector's serving certificate: made, kept and renewed by Helm, its CA replaced with overlap; cert-manager's; a Secret of one's own."""

import base64
import contextlib
import copy
import http.server
import json
import pathlib
import re
import ssl
import subprocess
import tempfile
import threading
import unittest

import yaml

import api_server
from lib import HELMS, INJECTOR
from lib import ci_values, documents, helm, of_kind, one, pod_templates, refusal, render, template
from test_release import Helm

NAME = "token-sidecar-injector"
DAY = 86400


# What the chart is made of, so that Helm finds the kinds.
KINDS = {
    "v1": ["Secret", "ConfigMap", "Service", "ServiceAccount", "Pod", "Namespace"],
    "apps/v1": ["Deployment"],
    "batch/v1": ["Job"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "admissionregistration.k8s.io/v1": ["MutatingWebhookConfiguration"],
}


class Api(http.server.BaseHTTPRequestHandler):
    """As much of an API server as `lookup` asks for: discovery, Secrets, and the namespace that every cluster has."""

    secrets: list[dict] = []
    namespaces: list[str] = []

    def do_GET(self):
        path = self.path.split("?")[0]
        answers = {
            "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self.group(v) for v in KINDS if "/" in v]},
        }
        for version, kinds in KINDS.items():
            resources = [{"name": k.lower().removesuffix("y") + ("ies" if k.endswith("y") else "s"), "kind": k, "namespaced": not k.endswith(("Configuration", "Namespace")), "verbs": ["get", "list"]} for k in kinds]
            answers[("/apis/" if "/" in version else "/api/") + version] = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        if path in answers:
            self.answer(200, answers[path])
        elif found := [s for s in self.secrets if path == f"/api/v1/namespaces/mcp/secrets/{s['metadata']['name']}"]:
            owned = copy.deepcopy(found[0])
            owned["metadata"]["annotations"] |= {"meta.helm.sh/release-name": NAME, "meta.helm.sh/release-namespace": "mcp"}
            self.answer(200, owned)
        elif path.removeprefix("/api/v1/namespaces/") in self.namespaces:
            self.answer(200, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})
        else:
            self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def group(self, version):
        name, number = version.split("/")
        both = {"groupVersion": version, "version": number}
        return {"name": name, "versions": [both], "preferredVersion": both}

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def cluster_with(secrets: list[dict], namespaces: list[str]):
    """A kubeconfig for a cluster that has these."""
    handler = type("Handler", (Api,), {"secrets": secrets, "namespaces": namespaces})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        try:
            yield file.name
        finally:
            server.shutdown()
            server.server_close()


class State:
    """What an upgrade leaves behind: the CA's Secret, the certificate's, and the bundle that the API server gets."""

    def __init__(self, text: str):
        objects = documents(text)
        self.authority, self.serving = one(objects, "Secret", "-authority"), one(objects, "Secret", "-tls")
        [hook] = one(objects, "MutatingWebhookConfiguration")["webhooks"]
        self.bundle = base64.b64decode(hook["clientConfig"]["caBundle"]).decode()

    def later(self, days: float) -> "State":
        """The same, so many days later."""
        state = copy.deepcopy(self)
        for secret in (state.authority, state.serving):
            notes = secret["metadata"]["annotations"]
            for key in ("made-at", "until", "next-made-at", "next-until"):
                if f"token-sidecar.io/{key}" in notes:
                    notes[f"token-sidecar.io/{key}"] = str(int(int(notes[f"token-sidecar.io/{key}"]) - days * DAY))
        return state

    def vouches_for(self, other: "State") -> bool:
        """Whether an API server that has this bundle takes the other's certificate."""
        return verify(other.serving, self.bundle, f"{NAME}.mcp.svc").returncode == 0


def upgraded(before: State | list[dict] | None, helm_binary: str, *extra: str, namespaces: tuple = ("kube-system",)) -> State:
    """What an upgrade gives in a cluster with these Secrets."""
    secrets = [before.authority, before.serving] if isinstance(before, State) else before or []
    with cluster_with(secrets, list(namespaces)) as kubeconfig:
        return State(helm(helm_binary, "template", NAME, str(INJECTOR), "--namespace", "mcp", "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", kubeconfig, *extra))


def certificates(pem: str) -> list[str]:
    """The certificates of a bundle."""
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.S)


def field(secret: dict, key: str) -> str:
    """A field of a Secret, decoded."""
    return base64.b64decode(secret["data"][key]).decode()


def verify(secret: dict, bundle: str, host: str) -> subprocess.CompletedProcess:
    """Whether a client with this bundle takes the certificate for this host."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "ca").write_text(bundle)
        pathlib.Path(folder, "crt").write_text(field(secret, "tls.crt"))
        return subprocess.run(["openssl", "verify", "-CAfile", f"{folder}/ca", "-verify_hostname", host, "-purpose", "sslserver", f"{folder}/crt"], capture_output=True, text=True, check=False)


def dates(pem: str) -> tuple[float, float]:
    """From when until when a certificate is good, in seconds since the epoch."""
    done = subprocess.run(["openssl", "x509", "-noout", "-dates"], input=pem, capture_output=True, text=True, check=True)
    start, end = re.findall(r"=(.*)", done.stdout)
    return ssl.cert_time_to_seconds(start), ssl.cert_time_to_seconds(end)


class Certificate(unittest.TestCase):
    def test_it_is_signed_by_the_bundle_for_the_name_that_the_api_server_calls(self):
        for helm_binary in HELMS.values():
            state = upgraded(None, helm_binary)
            self.assertEqual(state.serving["type"], "kubernetes.io/tls")
            self.assertEqual(certificates(state.bundle), certificates(field(state.authority, "ca.crt")))
            done = verify(state.serving, state.bundle, f"{NAME}.mcp.svc")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotEqual(verify(state.serving, state.bundle, "other.mcp.svc").returncode, 0)

    def test_no_pod_can_read_the_cas_key(self):
        for values in ci_values(INJECTOR):
            objects = documents(template(INJECTOR, values))
            for secret in of_kind(objects, "Secret"):
                kept = secret["metadata"]["name"].endswith("-authority")
                self.assertEqual(set(secret["data"]), {"ca.crt", "ca.key"} if kept else {"ca.crt", "tls.crt", "tls.key"})
            for name, pod in pod_templates(objects):
                self.assertNotIn("-authority", json.dumps(pod), name)

    def test_one_that_is_young_is_kept(self):
        for helm_binary in HELMS.values():
            first = upgraded(None, helm_binary)
            again = upgraded(first, helm_binary)
            self.assertEqual((again.serving, again.authority, again.bundle), (first.serving, first.authority, first.bundle))

    def test_one_that_is_old_is_renewed_by_the_same_ca(self):
        for helm_binary in HELMS.values():
            first = upgraded(None, helm_binary)
            second = upgraded(first.later(91), helm_binary)
            self.assertNotEqual(second.serving["data"]["tls.crt"], first.serving["data"]["tls.crt"])
            self.assertNotEqual(second.serving["data"]["tls.key"], first.serving["data"]["tls.key"])
            self.assertEqual((second.authority["data"], second.bundle), (first.authority["data"], first.bundle))
            now = upgraded(first, helm_binary, "--set", "certificate.rotateAfterDays=0")
            self.assertNotEqual(now.serving["data"]["tls.crt"], first.serving["data"]["tls.crt"])

    def test_a_ca_is_replaced_with_overlap(self):
        """Whoever upgrades or rolls back by one step: what is served before and after is vouched for before and after."""
        for helm_binary in HELMS.values():
            states = [upgraded(None, helm_binary)]
            kinds = []
            # Days 91: renewed. 1891: in the second third of the CA's 5475 days, the next one is there. 1982: renewed. 3782: the next one signs, and the one before stays. 3784: that goes, and
            # another next one comes. 5584: it signs. 5675: another. 7475: it signs. 7477: the one before goes.
            for days in (91, 1800, 91, 1800, 2, 1800, 91, 1800, 2):
                before = states[-1].later(days)
                after = upgraded(before, helm_binary)
                self.assertTrue(before.vouches_for(after), f"{len(states)}: pods have the new certificate, the API server the old bundle")
                self.assertTrue(after.vouches_for(before), f"{len(states)}: the API server has the new bundle, pods the old certificate")
                self.assertEqual(field(after.serving, "ca.crt"), after.bundle)
                kinds.append((len(certificates(after.bundle)), after.authority["data"]["ca.crt"] == before.authority["data"]["ca.crt"]))
                states.append(after)
            self.assertEqual(kinds, [(1, True), (2, True), (2, True), (2, False), (2, True), (2, False), (2, True), (2, False), (1, True)])

    def test_no_certificate_outlives_its_ca(self):
        helm_binary = HELMS["helm 4"]
        first = upgraded(None, helm_binary, "--set", "certificate.validityDays=100")
        # Nobody has upgraded for long: the next CA is made only now, and may not sign yet.
        late = upgraded(first.later(280), helm_binary, "--set", "certificate.validityDays=100")
        self.assertEqual(late.authority["data"]["ca.crt"], first.authority["data"]["ca.crt"])
        self.assertEqual(len(certificates(late.bundle)), 2)
        start, end = dates(field(late.serving, "tls.crt"))
        self.assertAlmostEqual((end - start) / DAY, 20, delta=1.1)
        soon, then = (upgraded(late.later(days), helm_binary, "--set", "certificate.validityDays=100,certificate.rotateAfterDays=0") for days in (0.01, 1.01))
        self.assertEqual(soon.authority["data"], late.authority["data"], "the API server may not have the next one yet")
        self.assertEqual(then.authority["data"]["ca.crt"], late.authority["data"]["next.crt"])
        start, end = dates(field(first.authority, "ca.crt"))
        self.assertAlmostEqual((end - start) / DAY, 300, delta=0.1)
        # One that has ended, or says nothing of its end, is none.
        for spoilt in (first.later(301), copy.deepcopy(first)):
            if spoilt.bundle is not None and "token-sidecar.io/until" in spoilt.authority["metadata"]["annotations"]:
                del spoilt.authority["metadata"]["annotations"]["token-sidecar.io/until"]
            fresh = upgraded(spoilt, helm_binary)
            self.assertNotEqual(fresh.authority["data"]["ca.crt"], first.authority["data"]["ca.crt"])
            start, end = dates(field(fresh.serving, "tls.crt"))
            self.assertAlmostEqual((end - start) / DAY, 1825, delta=0.1)

    def test_a_certificate_whose_ca_is_gone_is_trusted_for_a_while(self):
        """The Secret of the CA was deleted since its key had leaked, or is that of the chart's first version, which kept none."""
        for helm_binary in HELMS.values():
            first = upgraded(None, helm_binary)
            second = upgraded([first.serving], helm_binary)
            self.assertNotEqual(second.authority["data"]["ca.crt"], first.authority["data"]["ca.crt"])
            self.assertTrue(second.vouches_for(first) and second.vouches_for(second))
            self.assertTrue(upgraded(second.later(0.01), helm_binary).vouches_for(first), "pods may not have the new certificate yet")
            third = upgraded(second.later(2), helm_binary)
            self.assertFalse(third.vouches_for(first))
            self.assertTrue(third.vouches_for(second) and second.vouches_for(third))

    def test_one_for_other_names_is_replaced(self):
        state = upgraded(None, HELMS["helm 4"])
        state.serving["metadata"]["annotations"]["token-sidecar.io/names"] = "other.mcp.svc"
        self.assertNotEqual(upgraded(state, HELMS["helm 4"]).serving["data"]["tls.crt"], state.serving["data"]["tls.crt"])

    def test_without_a_look_into_the_cluster_none_is_made(self):
        """Argo CD renders with the cluster's kinds and nothing else; so does a dry run on the client's side."""
        for name, helm_binary in HELMS.items():
            kinds = ["--api-versions", "v1/Pod"]
            said = refusal(INJECTOR, {}, *kinds, helm_name=name)
            self.assertIn("certificate.source=certManager", said)
            self.assertIn("every rendering would make another CA", said)
            render(INJECTOR, {"certificate": {"withoutLookup": True}}, *kinds, helm_name=name)
            for values in ("secret-values.yaml", "cert-manager-values.yaml"):
                template(INJECTOR, INJECTOR / "ci" / values, name, extra=tuple(kinds))
            # Once there is one, Helm sees enough.
            first = upgraded(None, helm_binary)
            self.assertEqual(upgraded(first, helm_binary, namespaces=()).bundle, first.bundle)

    def test_cert_manager_and_a_secret_of_ones_own(self):
        objects = documents(template(INJECTOR, INJECTOR / "ci" / "cert-manager-values.yaml"))
        configuration, serving = one(objects, "MutatingWebhookConfiguration"), one(objects, "Certificate", NAME)
        self.assertEqual(configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], f"mcp/{NAME}")
        self.assertNotIn("caBundle", configuration["webhooks"][0]["clientConfig"])
        mounted = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"]
        self.assertEqual(serving["spec"]["secretName"], mounted)
        self.assertIn(f"{NAME}.mcp.svc", serving["spec"]["dnsNames"])
        issuers = {i["metadata"]["name"] for i in of_kind(objects, "Issuer")}
        self.assertIn(serving["spec"]["issuerRef"]["name"], issuers)
        self.assertEqual(of_kind(objects, "Secret"), [])
        objects = documents(template(INJECTOR, INJECTOR / "ci" / "issuer-values.yaml"))
        self.assertEqual(one(objects, "Certificate")["spec"]["issuerRef"], {"kind": "ClusterIssuer", "name": "internal-ca"})
        objects = documents(template(INJECTOR, INJECTOR / "ci" / "secret-values.yaml"))
        self.assertEqual(one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"], "injector-tls")
        self.assertIn("certificate.secret.caBundle", refusal(INJECTOR, {"certificate": {"source": "secret", "secret": {"name": "x"}}}))
        pem = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
        for odd in ["notbase64", "LS0=", "eA=="]:
            self.assertIn("is not base64 of PEM", refusal(INJECTOR, {"certificate": {"source": "secret", "secret": {"name": "x", "caBundle": odd}}}))
        self.assertIn("would expire before", refusal(INJECTOR, {"certificate": {"rotateAfterDays": 1825}}))
        self.assertIn("certificate.secret.name", refusal(INJECTOR, {"certificate": {"source": "secret", "secret": {"caBundle": pem}}}))


class Releases(unittest.TestCase):
    """Both real Helms, and as much of an API server as they need."""

    def test_an_upgrade_and_its_rollback_leave_no_certificate_untrusted(self):
        for name, helm_binary in HELMS.items():
            with self.subTest(helm=name), tempfile.TemporaryDirectory() as folder, api_server.running(pathlib.Path(folder)) as (cluster, config):
                # As a dry run on the client's side: kinds are there, and nothing else.
                blind = Helm(helm_binary, pathlib.Path(folder), cluster, config)("install", NAME, str(INJECTOR))
                self.assertIn("Helm does not see what is in the cluster", blind.stderr)
                cluster.put("/api/v1/namespaces", "kube-system", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})
                run = Helm(helm_binary, pathlib.Path(folder), cluster, config)
                chart = [NAME, str(INJECTOR), "--reset-values"]
                states = []
                for command in (["upgrade", "--install", *chart], ["upgrade", *chart, "--set", "certificate.rotateAfterDays=0"], ["rollback", NAME, "1"], ["upgrade", *chart]):
                    done = run(*command)
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    things = [*run.named("secrets").values(), *run.named("mutatingwebhookconfigurations").values()]
                    states.append(State(yaml.safe_dump_all([t for t in things if t.get("type") != "helm.sh/release.v1"])))
                for before, after in zip(states, states[1:]):
                    self.assertTrue(before.vouches_for(after) and after.vouches_for(before))
                crt = [s.serving["data"]["tls.crt"] for s in states]
                self.assertNotEqual(crt[0], crt[1])
                self.assertEqual((crt[2], crt[3]), (crt[0], crt[0]), "rolled back, and good enough for the upgrade after it")


if __name__ == "__main__":
    unittest.main()

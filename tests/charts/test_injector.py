"""The injector's chart: whom the API server asks about; that the binary takes what the chart gives it. The certificate is test_certificate's."""

import json
import pathlib
import tempfile
import unittest

import yaml

from injector_lab import patched, running
from lib import HELMS, INJECTOR
from lib import ci_values, containers, documents, of_kind, one, refusal, render, template

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

    def test_kube_system_is_excluded_whatever_the_list_says(self):
        for name in HELMS:
            hook = one(render(INJECTOR, {"webhook": {"excludedNamespaces": ["foo"], "namespaceOptIn": False}}, helm_name=name), "MutatingWebhookConfiguration")["webhooks"][0]
            for namespace, asked in [("kube-system", False), ("mcp", False), ("foo", False), ("shop", True)]:
                self.assertEqual(self.selects(hook["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}), asked, namespace)

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
        tested = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": f"{NAME}-test", "app.kubernetes.io/instance": NAME}}}
        for values, callers, readers in [
            ({}, None, None),
            ({"callersFrom": peers}, [*peers, tested], None),
            ({"metricsFrom": peers}, None, peers),
        ]:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                json.dump({"networkPolicy": values}, file)
                file.flush()
                objects = documents(template(INJECTOR, pathlib.Path(file.name)))
            policy = one(objects, "NetworkPolicy")
            self.assertLessEqual(tested["podSelector"]["matchLabels"].items(), one(objects, "Pod")["metadata"]["labels"].items())
            found = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
            self.assertEqual(found, {8443: callers, 9090: readers}, values)

    def test_profiles_get_an_image_and_say_where_the_token_comes_from(self):
        profiles = yaml.safe_load(one(documents(template(INJECTOR, INJECTOR / "ci" / "cert-manager-values.yaml")), "ConfigMap", "-profiles")["data"]["profiles.yaml"])["profiles"]
        self.assertEqual(profiles["default"]["image"], "ghcr.io/token-sidecar/token-sidecar:0.1.0")
        self.assertEqual(profiles["keycloak"]["image"], "registry.example.com/token-sidecar:0.1.0")
        self.assertIn("profiles.shop.token", refusal(INJECTOR, {"profiles": {"shop": {"rewrite": []}}}))


class Running(unittest.TestCase):
    """The binary with the chart's own arguments, profiles and certificate, asked by https as the API server asks."""

    def test_it_injects_with_what_the_chart_gives_it(self):
        objects = documents(template(INJECTOR, INJECTOR / "ci" / "monitoring-values.yaml"))
        profiles = documents(template(INJECTOR, INJECTOR / "ci" / "cert-manager-values.yaml"))
        with running(objects, one(profiles, "ConfigMap", "-profiles")["data"]["profiles.yaml"]) as injector:
            answer = injector.review(self.pod())
            metrics = injector.metrics()
        self.assertTrue(answer["response"]["allowed"], answer)
        pod = patched(self.pod(), answer)
        self.assertIn('token_sidecar_injections_total{namespace="shop",result="injected"} 1', metrics)
        # PodMonitors find the sidecars by a label and by the name of a port.
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


class Values(unittest.TestCase):
    """What the API server alone would refuse, after an upgrade has begun."""

    WRONG = [
        ("networkPolicy.%s", [{"ipBlok": {"cidr": "10.0.0.0/8"}}], "namespaceSelector, podSelector, ipBlock"),
        ("networkPolicy.%s", [{"cidr": "10.0.0.0/8"}], "ipBlock: {cidr"),
        ("networkPolicy.%s", [{"ipBlock": {"cidr": "10.0.0.0"}}], "10.0.0.0/28"),
        ("networkPolicy.%s", [{"ipBlock": {"except": ["10.0.0.0/8"]}}], "cidr"),
        ("networkPolicy.%s", [{"ipBlock": {"cidr": "10.0.0.0/8", "excepts": []}}], "cidr, except"),
        ("networkPolicy.%s", [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}], "another entry"),
        ("networkPolicy.%s", [{}], "say who"),
        ("networkPolicy.%s", [{"podSelector": {"app": "x"}}], "matchLabels, matchExpressions"),
        ("networkPolicy.%s", [{"matchLabels": {"app": "x"}}], "podSelector"),
        ("networkPolicy.%s", [{"podSelector": {"matchLabels": {"a": True}}}], "in quotes"),
        ("networkPolicy.%s", [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}], "DoesNotExist"),
        ("networkPolicy.%s", ["10.0.0.0/8"], "object"),
        ("webhook.namespaceExpressions", [{"key": "a", "op": "In"}], "key, operator, values"),
        ("certificate.certManager.issuerRef", {"kind": "ClusterIssuer"}, "name the issuer"),
        ("certificate.certManager.issuerRef", {"nam": "ca", "kind": "ClusterIssuer"}, "name, kind, group"),
        ("logLevel", "loud", "token_sidecar=debug,info"),
        ("logLevel", "", "token_sidecar=debug,info"),
        ("webhook.excludedNamespaces", ["Kube_System"], "the name of one namespace"),
        ("webhook.excludedNamespaces", ["kube-*"], "there are no patterns"),
        ("nameOverride", "Foo_Bar", "nameOverride"),
        ("fullnameOverride", "1foo", "fullnameOverride"),
        ("resources.limits.memory", 256, "a number alone is bytes"),
        ("resources.requests.memory", "64m", "memory with its unit"),
    ]

    def nested(self, path: str, value) -> dict:
        for key in reversed(path.split(".")):
            value = {key: value}
        return value

    def test_typos_are_refused_and_mended(self):
        for path, value, mend in self.WRONG:
            for full in [path % "callersFrom", path % "metricsFrom"] if "%s" in path else [path]:
                for name in HELMS:
                    with self.subTest(helm=name, path=full, value=value):
                        self.assertIn(mend, refusal(INJECTOR, self.nested(full, value), helm_name=name))

    def test_what_is_right_is_taken(self):
        block = {"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/32"]}}
        both = {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}
        for name in HELMS:
            policy = one(render(INJECTOR, {"networkPolicy": {"callersFrom": [block, both], "metricsFrom": [both]}}, helm_name=name), "NetworkPolicy")
            self.assertEqual(policy["spec"]["ingress"][0]["from"][:2], [block, both])
            for level in ("off", "Info", "5", "token_sidecar=debug,info", "a[b{c=1}]=debug"):
                render(INJECTOR, {"logLevel": level}, helm_name=name)


if __name__ == "__main__":
    unittest.main()

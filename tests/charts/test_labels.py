"""Names, labels and annotations: what values may add, what they may not replace, and that Kubernetes takes all of it whatever type YAML gave it."""

import copy
import re
import unittest

import kubernetes_validate
import yaml

from lib import FOREIGN, HELMS, INJECTOR, SERVER
from lib import containers, documents, env_of, helm, one, pod_templates, refusal, render, template, values_of
from test_render import as_aks_serves

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")


class Once(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which Kubernetes' own reader would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(k, deep=True) for k, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


def strings(value, at=""):
    """Every label, annotation and selector of an object whose value or key is no text."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key in ("labels", "annotations", "matchLabels", "nodeSelector", "selector") and isinstance(child, dict):
                for k, v in child.items():
                    if not isinstance(k, str) or (not isinstance(v, str) and not isinstance(v, (dict, list))):
                        yield f"{at}.{key}.{k}: {v!r}"
            yield from strings(child, f"{at}.{key}")
    elif isinstance(value, list):
        for i, child in enumerate(value):
            yield from strings(child, f"{at}[{i}]")


class Protected(unittest.TestCase):
    CASES = [
        ("podAnnotations", "azure.workload.identity/skip-containers", "none", "every container but the sidecar"),
        ("podAnnotations", "azure.workload.identity/inject-proxy-sidecar", "true", "NET_ADMIN"),
        ("podAnnotations", "azure.workload.identity/service-account-token-expiration", "600", "subjectToken.expirationSeconds"),
        ("podAnnotations", "azure.workload.identity/use-identity-binding", "true", "subjectToken.identityBinding"),
        ("podAnnotations", "mcp-server/tools", "tools: [x]", "set by this chart"),
        ("podAnnotations", "token-sidecar.io/inject", "true", "second sidecar"),
        ("podLabels", "azure.workload.identity/use", "false", "subjectToken.source"),
        ("podLabels", "app.kubernetes.io/name", "other", "nameOverride"),
        ("podLabels", "app.kubernetes.io/instance", "other", "release's name"),
        ("podLabels", "app.kubernetes.io/part-of", "shop", "set by this chart"),
        ("podLabels", "token-sidecar.io/inject", "true", "second sidecar"),
        ("commonLabels", "azure.workload.identity/use", "false", "subjectToken.source"),
        ("commonLabels", "app.kubernetes.io/name", "other", "nameOverride"),
    ]

    def test_what_decides_who_gets_the_token_is_the_charts(self):
        for value, key, said, mend in self.CASES:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, value=value, key=key):
                    values = {**GOOD, "app": {**GOOD["app"], "tools": {"tools": []}}, value: {key: said}}
                    text = refusal(SERVER, values, helm_name=helm_name)
                    self.assertIn(f"{value}: {key}", text)
                    self.assertIn(mend, text)

    def test_labels_of_monitors_cannot_replace_the_charts(self):
        monitoring = {"podMonitor": {"enabled": True, "labels": {"app.kubernetes.io/instance": "x"}}}
        self.assertIn("monitoring.podMonitor.labels", refusal(SERVER, {**GOOD, "monitoring": monitoring}))

    def test_what_is_let_through_leaves_the_token_where_it_belongs(self):
        more = {"token-sidecar.io/inject": "false", "sidecar.istio.io/inject": "true", "team": "identity"}
        objects = render(SERVER, {**GOOD, "podLabels": more, "podAnnotations": {"kubectl.kubernetes.io/default-container": "token-sidecar"}, "commonLabels": {"team": "all", "tier": "1"}})
        for name, pod in pod_templates(objects):
            labels, served = pod["metadata"]["labels"], as_aks_serves(pod)
            self.assertEqual({c["name"] for c in containers(served) if "AZURE_FEDERATED_TOKEN_FILE" in env_of(c)}, {"token-sidecar"})
            self.assertEqual((labels["team"], labels["tier"], labels["token-sidecar.io/inject"]), ("identity", "1", "false"), name)
            # A mesh's sidecar would never end, and with it `helm test` would not.
            self.assertEqual(labels["sidecar.istio.io/inject"], "false" if pod.get("kind") == "Pod" else "true")
        self.assertEqual(one(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "token-sidecar")
        for o in objects:
            self.assertEqual(o["metadata"]["labels"]["tier"], "1", o["kind"])
            self.assertNotIn("tier", str(o.get("spec", {}).get("selector")))

    def test_the_injectors_pods_too(self):
        for value, key in [
            ("podLabels", "app.kubernetes.io/name"),
            ("podLabels", "app.kubernetes.io/instance"),
            ("podLabels", "azure.workload.identity/use"),
            ("podLabels", "token-sidecar.io/inject"),
            ("podAnnotations", "azure.workload.identity/inject-proxy-sidecar"),
        ]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, key=key):
                    self.assertIn(f"{value}: {key}", refusal(INJECTOR, {value: {key: "true"}}, helm_name=helm_name))
        pod = one(render(INJECTOR, {"podLabels": {"a": True}, "podAnnotations": {"b": 20251125}}), "Deployment")["spec"]["template"]["metadata"]
        self.assertEqual((pod["labels"]["a"], pod["annotations"]), ("true", {"b": "20251125"}))
        self.assertEqual(pod["labels"]["app.kubernetes.io/name"], "token-sidecar-injector")

    def test_the_test_is_made_as_the_pods_are(self):
        values = values_of(SERVER / "ci" / "platform-values.yaml")
        objects = render(SERVER, values)
        deployed, test = one(objects, "Deployment")["spec"]["template"], one(objects, "Pod")
        for key in ("serviceAccountName", "nodeSelector", "affinity", "priorityClassName", "runtimeClassName", "dnsConfig", "hostAliases", "securityContext", "automountServiceAccountToken"):
            self.assertEqual(test["spec"][key], deployed["spec"][key], key)
        for key in values["podLabels"]:
            self.assertEqual(test["metadata"]["labels"][key], deployed["metadata"]["labels"][key])
        for key in values["podAnnotations"]:
            self.assertEqual(test["metadata"]["annotations"][key], deployed["metadata"]["annotations"][key])


class Text(unittest.TestCase):
    """YAML makes a boolean of `on`, a number of 123 and a float of 1e5; Kubernetes wants text."""

    def test_what_yaml_takes_for_something_else_is_text(self):
        for helm_name in HELMS:
            rendered = template(SERVER, SERVER / "ci" / "platform-values.yaml", helm_name)
            objects = [yaml.load(d, Once) for d in rendered.split("\n---\n")]
            for o in objects:
                if not o:
                    continue
                self.assertEqual(list(strings(o)), [], o["kind"])
                if o["kind"] not in FOREIGN:
                    kubernetes_validate.validate(o, "1.37", strict=True)
            pod = one([o for o in objects if o], "Deployment")["spec"]["template"]
            self.assertEqual(pod["metadata"]["labels"]["tier"], "on")
            self.assertEqual(pod["metadata"]["labels"]["critical"], "true")
            self.assertEqual(pod["metadata"]["annotations"]["example.com/revision"], "20251125")
            server = next(c for c in containers(pod) if c["name"] == "mcp-server")
            self.assertEqual((env_of(server)["FEATURE"], env_of(server)["LIMIT"]), ("true", "20251125"))
            for group in one([o for o in objects if o], "PrometheusRule")["spec"]["groups"]:
                for rule in group["rules"]:
                    self.assertEqual((rule["labels"]["page"], rule["labels"]["level"]), ("true", "2"))

    def test_what_cannot_be_kept_is_refused(self):
        for path, mend in [("podLabels", "quotes"), ("podAnnotations", "quotes"), ("nodeSelector", "quotes"), ("service.annotations", "quotes"), ("monitoring.podMonitor.labels", "quotes")]:
            values = copy.deepcopy(GOOD)
            at = values
            *parents, last = path.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[last] = {"a": 1.5}
            for helm_name in HELMS:
                with self.subTest(path=path, helm=helm_name):
                    self.assertIn(mend, refusal(SERVER, values, helm_name=helm_name))
        self.assertIn("podLabels", refusal(SERVER, {**GOOD, "podLabels": {"a": "no label, this"}}))

    def test_release_names_that_yaml_reads_otherwise(self):
        for name in ("on", "null", "y", "true", "o1e5"):
            for helm_binary in HELMS.values():
                with self.subTest(release=name):
                    text = helm(helm_binary, "template", name, str(SERVER), "--namespace", "123", "--values", str(SERVER / "ci" / "monitoring-values.yaml"))
                    for o in documents(text):
                        self.assertEqual(list(strings(o)), [])
                        self.assertIsInstance(o["metadata"]["name"], str)
                        self.assertEqual(o["metadata"]["namespace"], "123")
                        self.assertEqual(o["metadata"]["labels"]["app.kubernetes.io/instance"], name)
                        if o["kind"] not in FOREIGN:
                            kubernetes_validate.validate(o, "1.37", strict=True)


class Names(unittest.TestCase):
    def template(self, release: str, *extra: str) -> list[dict]:
        return documents(helm(HELMS["helm 4"], "template", release, str(SERVER), "--values", str(SERVER / "ci" / "monitoring-values.yaml"), *extra))

    def test_names_and_labels_are_short_enough(self):
        for release, extra in [("mcp-server", ()), ("a", ()), ("x" * 53, ()), ("x" * 45, ()), ("a", ("--set", "nameOverride=" + "n" * 60)), ("a", ("--set", "fullnameOverride=" + "n" * 52))]:
            for o in self.template(release, *extra):
                self.assertLessEqual(len(o["metadata"]["name"]), 63, o["metadata"]["name"])
                for key, value in o["metadata"]["labels"].items():
                    self.assertLessEqual(len(value), 63, key)

    def test_two_releases_with_long_names_are_two(self):
        names = {one(self.template("x" * 52 + end), "Deployment")["metadata"]["name"] for end in "ab"}
        self.assertEqual(len(names), 2)
        self.assertTrue(all(len(n) <= 52 for n in names))
        # What an identity trusts is the service account's name: it stays what it was for all others.
        self.assertEqual(one(self.template("x" * 52), "ServiceAccount")["metadata"]["name"], ("x" * 52))
        self.assertEqual(one(self.template("x" * 45), "ServiceAccount")["metadata"]["name"], "x" * 45 + "-mcp-se")

    def test_names_that_a_service_cannot_have(self):
        for release in ("123", "my.release"):
            for helm_name, helm_binary in HELMS.items():
                with self.subTest(release=release, helm=helm_name), self.assertRaisesRegex(Exception, "set fullnameOverride"):
                    helm(helm_binary, "template", release, str(SERVER), "--values", str(SERVER / "ci" / "monitoring-values.yaml"))
            self.assertEqual(one(self.template(release, "--set", "fullnameOverride=mcp"), "Service")["metadata"]["name"], "mcp")
        self.assertIn("fullnameOverride", refusal(SERVER, {**GOOD, "fullnameOverride": "n" * 53}))

    def test_a_releases_alerts_are_on_its_own_pods(self):
        for release, own, others in [
            ("mcp-server", ["mcp-server-6c8f9d7b5-x2x4z", "mcp-server-86f4c-x2x4z"], ["mcp-server-b-6c8f9d7b5-x2x4z", "mcp-server-test", "mcp-server-0", "a-mcp-server-6c8f9d7b5-x2x4z"]),
            # As the API server cuts them: 58 characters of the ReplicaSet's name and hyphen, then five.
            ("x" * 52, ["x" * 52 + "-6c8f9x2x4z"], ["x" * 52 + "b-6c8f9x2x4z"]),
            ("x" * 36, [("x" * 36 + "-mcp-server-6c8f9d7b5z-")[:58] + "x2x4z"], []),
        ]:
            for rule in [r for g in one(self.template(release), "PrometheusRule")["spec"]["groups"] for r in g["rules"]]:
                pattern = re.search(r'pod=~"([^"]*)"', rule["expr"])[1]
                for pod in own:
                    self.assertTrue(re.fullmatch(pattern, pod), f"{pattern} {pod}")
                for pod in others:
                    self.assertFalse(re.fullmatch(pattern, pod), f"{pattern} {pod}")


if __name__ == "__main__":
    unittest.main()

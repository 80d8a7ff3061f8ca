"""The injector's profiles: values.schema.json has the keys of the code and no other, what is wrong is refused with the mend, and what only the binary can see fails the release before anything
is changed."""

import contextlib
import copy
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

import api_server
from lib import HELMS, INJECTOR, ROOT
from lib import binary, ci_values, containers, documents, of_kind, one, pod_templates, refusal, render, template, values_of
from test_release import Helm

SCHEMA = json.loads((INJECTOR / "values.schema.json").read_text())
SAMPLE = values_of(ROOT / "tests" / "samples" / "admission" / "profiles.yaml")["profiles"]
WORD = {"type": "string", "minLength": 1}
# What stands in the schema for a kind of value of the code's table; those of a map or list are as in the sidecar's own configuration.
KINDS = {
    "text": WORD,
    "URL": WORD,
    "tenant": WORD,
    "scope": WORD,
    "level": WORD,
    "boolean": {"type": "boolean"},
    "policy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "port": {"$ref": "#/definitions/port"},
    "name": {"$ref": "#/definitions/name"},
    "amount": {"$ref": "#/definitions/amount"},
    "duration": {"$ref": "#/definitions/duration"},
    "list of names": {"type": "array", "items": {"$ref": "#/definitions/name"}},
    "list": {"type": "array"},
    "map": {"type": "object"},
}
MEMORY = {"$ref": "#/definitions/memory"}
OBJECT = {"$ref": "#/definitions/object"}
# Narrower than their kind, or with a mend of their own.
OWN = {
    "resources.requests.memory": MEMORY,
    "resources.limits.memory": MEMORY,
    "mounts[].configMap": OBJECT,
    "mounts[].secret": OBJECT,
    "configMap.name": OBJECT,
    "configMap.key": {
        "if": {"type": "string", "pattern": r"^([A-Za-z0-9_-]|\.[A-Za-z0-9_-])[A-Za-z0-9._-]*$", "maxLength": 253},
        "else": {"const": "a key of the ConfigMap, such as config.yaml"},
    },
    "rewrite[].containers": {
        "type": "array",
        "items": {
            "if": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63},
            "else": {"const": "the name of a container, as the pod has it; in quotes, if YAML takes it for something else"},
        },
    },
    "httpsProxy": {
        "if": {"type": "string", "pattern": "^https?://[^/?#@]+/?$"},
        "else": {"const": "scheme, host and port of a proxy that asks for no password, such as http://proxy.example.com:3128"},
    },
    "image": {"if": WORD, "else": {"const": "the image in one word, such as registry.example.com/token-sidecar:0.1.0"}},
    "uid": {"type": "integer", "minimum": 1000, "maximum": 4294967295},
    "workers": {"type": "integer", "minimum": 1, "maximum": 1024},
    "mounts[].path": {"if": {"type": "string", "pattern": "^/[^:]+$"}, "else": {"const": "a directory that is nobody's yet, such as /etc/orders-ca"}},
    "rewrite[].variable": {"if": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$"}, "else": {"const": "a variable's name, such as BACKEND_API_URL"}},
}
# Every key once, each with another value than its default.
EVERY = {
    "image": "registry.example.com/token-sidecar:1",
    "imagePullPolicy": "Always",
    "native": False,
    "port": 8180,
    "adminPort": 9190,
    "uid": 1000660000,
    "workers": 3,
    "logLevel": "token_sidecar=debug,info",
    "resources": {"requests": {"cpu": 0.5, "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}},
    "allowHostNetwork": True,
    "httpsProxy": "http://proxy.example.com:3128",
    "noProxy": "login.internal.example.com,10.0.0.0/8",
    "allowAddedTrust": True,
    "annotations": ["port", "log-level"],
    "token": {"projected": {"audience": "a", "expiration": "1h30m", "clientId": "c", "tenantId": "t", "authorityHost": "https://login.microsoftonline.us"}},
    "rewrite": [
        {"variable": "A", "containers": ["app"], "upstream": "https://a.example.com", "credential": "shop", "port": 8181},
        {"variable": "B", "scope": "https://b.example.com/.default", "allowInsecureHttp": True},
    ],
    "mounts": [{"path": "/etc/orders-ca", "configMap": "orders-ca"}, {"path": "/etc/sts", "secret": "sts-client"}],
    "credentials": {"shop": {"entraClientAssertion": {"scope": "api://shop/.default"}}},
    "routes": [{"name": "c", "listen": "127.0.0.1:8199", "upstream": "https://c.example.com", "credential": "shop"}],
}
# What cannot stand beside what is there.
MAP = {"token": {"aks": {"identityBinding": True}}, "configMap": {"name": "orders", "key": "sidecar.yaml"}, "rewrite": [{"variable": "A", "port": 8181}]}


def code_keys() -> dict[str, str]:
    """The code's own table: path within a profile -> kind."""
    done = subprocess.run([binary("examples/reference")], capture_output=True, text=True, check=True)
    table = re.search(r"<!-- profile-keys -->\n(.*?)<!-- /profile-keys -->", done.stdout, re.S).group(1)
    return dict(re.findall(r"^\| `profiles\.\*\.([^`]+)` \| ([^|]+) \|", table, re.M))


def schema_keys(schema: dict, at: str = "") -> dict[str, dict]:
    """The schema's: path within a profile -> what stands there. Names that only say what is meant are left out."""
    found = {}
    for key, child in schema["properties"].items():
        path = f"{at}.{key}".lstrip(".")
        if "const" in child:
            continue
        if "properties" in child:
            found |= schema_keys(child, path)
        elif "properties" in child.get("items", {}):
            found |= schema_keys(child["items"], f"{path}[]")
        else:
            found[path] = child
    return found


def profiles_file(objects: list[dict], suffix: str) -> str:
    return one(objects, "ConfigMap", suffix)["data"]["profiles.yaml"]


def checked(text: str) -> subprocess.CompletedProcess:
    """What the binary says of a profiles file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return subprocess.run([binary("token-sidecar"), "webhook", "--check", "--profiles", file.name], env={}, capture_output=True, text=True, check=False)


def without(**more) -> dict:
    """The chart's default profile with other keys."""
    return {"profiles": {"default": more}}


class Schema(unittest.TestCase):
    def test_it_has_the_keys_of_the_code(self):
        code = code_keys()
        self.assertGreater(len(code), 25)
        written = schema_keys(SCHEMA["definitions"]["profile"])
        self.assertEqual(set(written), set(code), "values.schema.json, definitions.profile, and proxy/src/config/profile_keys.rs")
        for path, kind in code.items():
            self.assertEqual(written[path], OWN.get(path, KINDS.get(kind.strip())), f"{path}: {kind}")

    def test_it_takes_what_the_binary_takes(self):
        for name in HELMS:
            for profiles in ({"default": EVERY, "map": MAP}, SAMPLE):
                text = profiles_file(render(INJECTOR, {"profiles": profiles}, helm_name=name), "-check")
                done = checked(text)
                self.assertEqual((done.returncode, done.stderr), (0, ""), text)
                self.assertIn("default", done.stdout)
        # So that a key which is added is tried, too.
        used = set(re.findall(r"[A-Za-z]+", json.dumps([EVERY, MAP])))
        for path in code_keys():
            self.assertIn(path.split(".")[-1], used, f"{path} is not in EVERY")

    def test_what_is_wrong_is_refused_and_mended(self):
        for more, mend in [
            ({"imag": "x"}, "image, imagePullPolicy"),
            ({"rewrites": []}, "called rewrite"),
            ({"runAsUser": 5}, "called uid"),
            ({"credential": {}}, "called credentials"),
            ({"port": 80}, "1024 to 65535"),
            ({"adminPort": "9090"}, "in digits"),
            ({"uid": 0}, "uid"),
            ({"workers": 0}, "workers"),
            ({"native": "yes"}, "boolean"),
            ({"imagePullPolicy": "always"}, "IfNotPresent"),
            ({"resources": {"limits": {"memory": "64MB"}}}, "64Mi or 1Gi"),
            ({"resources": {"limits": {"gpu": 1}}}, "cpu, memory"),
            ({"annotations": ["a b"]}, "1 to 63"),
            ({"token": {"aks": {"x": 1}}}, "identityBinding"),
            ({"token": {"aks": {"identityBinding": "yes"}}}, "boolean"),
            ({"mounts": [{"secret": "a"}]}, "path"),
            ({"mounts": [{"path": "etc/ca", "secret": "a"}]}, "/etc/orders-ca"),
            ({"mounts": [{"path": "/a", "hostPath": {"path": "/"}}]}, "a ConfigMap or a Secret"),
            ({"mounts": [{"path": "/a", "name": "x", "secret": "a"}]}, "needs no name"),
            ({"token": {"aks": None}}, "where the token comes from"),
            ({"token": {}}, "where the token comes from"),
            ({"token": {"aks": {}, "projected": {"audience": "x"}}}, "keep one of aks and projected"),
            ({"token": {"audience": "x"}}, "token.projected.audience"),
            ({"token": {"aks": None, "projected": {"expiration": 3600}}}, "a number and a unit"),
            ({"token": {"aks": None, "projected": {"expirations": "1h"}}}, "audience, expiration"),
            ({"rewrite": [{"scope": "x/.default"}]}, "variable"),
            ({"rewrite": [{"variable": "A-B", "scope": "x/.default"}]}, "BACKEND_API_URL"),
            ({"rewrite": [{"name": "A", "variable": "A"}]}, "called variable"),
            ({"rewrite": [{"variable": "A", "url": "https://a"}]}, "called upstream"),
            ({"configMap": {"key": "x"}}, "name"),
            ({"logLevel": ""}, "logLevel"),
            ({"resources": {"limits": {"memory": 128}}}, "64Mi or 1Gi"),
            ({"resources": {"requests": {"memory": "128m"}}}, "64Mi or 1Gi"),
            # YAML's booleans, and names that Kubernetes does not take.
            ({"mounts": [{"path": "/a", "configMap": True}]}, "the name of a ConfigMap or Secret"),
            ({"mounts": [{"path": "/a", "secret": "Orders_CA"}]}, "the name of a ConfigMap or Secret"),
            ({"mounts": [{"path": "/a", "secret": {"name": "a"}}]}, "the name of a ConfigMap or Secret"),
            ({"configMap": {"name": "-orders"}}, "the name of a ConfigMap or Secret"),
            ({"configMap": {"name": "orders", "key": "a/b"}}, "such as config.yaml"),
            ({"rewrite": [{"variable": "A", "containers": ["App"]}]}, "the name of a container"),
            ({"httpsProxy": "http://proxy.example.com:3128/proxy.pac"}, "scheme, host and port"),
            ({"httpsProxy": "http://me:hunter2@proxy.example.com:3128"}, "scheme, host and port"),
            ({"image": 5}, "in one word"),
        ]:
            for name in HELMS:
                with self.subTest(helm=name, profile=more):
                    self.assertIn(mend, refusal(INJECTOR, without(**more), helm_name=name))
        for name in HELMS:
            self.assertIn("profiles", refusal(INJECTOR, {"profiles": {"default": None}}, helm_name=name))
            self.assertIn("where the token comes from", refusal(INJECTOR, {"profiles": {"other": {"port": 8080}}}, helm_name=name))

    def test_default_has_aks_unless_it_says_otherwise(self):
        projected = {"projected": {"audience": "x"}}
        for name in HELMS:
            for values, token in [
                ({}, {"aks": {}}),
                ({"profiles": {"default": {"port": 8080}}}, {"aks": {}}),
                ({"profiles": {"default": {"token": projected}}}, projected),
                ({"profiles": {"default": {"token": {"aks": None, **projected}}}}, projected),
            ]:
                with self.subTest(helm=name, values=values):
                    text = profiles_file(render(INJECTOR, values, helm_name=name), "-profiles")
                    self.assertEqual(yaml.safe_load(text)["profiles"]["default"]["token"], token)

    def test_tags_that_yaml_takes_for_numbers(self):
        for name in HELMS:
            for tag in (1.1, 20251125):
                self.assertIn("put the tag in quotes", refusal(INJECTOR, {"image": {"tag": tag}}, helm_name=name))
            render(INJECTOR, {"image": {"tag": "1.10"}}, helm_name=name)


class Check(unittest.TestCase):
    """The Job that reads new profiles before anything is changed."""

    def test_it_reads_what_the_webhook_will_read_with_what_will_serve(self):
        for values in ci_values(INJECTOR):
            objects = documents(template(INJECTOR, values))
            job, deployment = one(objects, "Job"), one(objects, "Deployment")
            self.assertEqual(profiles_file(objects, "-check"), profiles_file(objects, "-profiles"))
            [check], [serving] = containers(job["spec"]["template"]), containers(deployment["spec"]["template"])
            for key in ("image", "imagePullPolicy", "securityContext", "resources"):
                self.assertEqual(check[key], serving[key])
            self.assertLessEqual(set(check["args"]) - {"--check"}, set(serving["args"]))
            volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
            self.assertEqual(volumes["profiles"]["configMap"]["name"], one(objects, "ConfigMap", "-check")["metadata"]["name"])

    def test_it_comes_before_all_else_and_goes(self):
        objects = documents(template(INJECTOR, None))
        for o in (one(objects, "ConfigMap", "-check"), one(objects, "Job")):
            annotations = o["metadata"]["annotations"]
            self.assertEqual(annotations["helm.sh/hook"], "pre-install,pre-upgrade")
            self.assertEqual(annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded")
        weight = lambda o: int(o["metadata"]["annotations"]["helm.sh/hook-weight"])
        self.assertLess(weight(one(objects, "ConfigMap", "-check")), weight(one(objects, "Job")))
        self.assertLess(one(objects, "Job")["spec"]["activeDeadlineSeconds"], 300, "Helm's own patience")
        # The release's service account is not there yet.
        self.assertEqual(one(objects, "Job")["spec"]["template"]["spec"]["serviceAccountName"], "default")

    def test_nobody_takes_its_pod_for_the_webhooks(self):
        objects = render(INJECTOR, {"podLabels": {"team": "identity", "sidecar.istio.io/inject": "true"}, "podAnnotations": {"note": 1}})
        pod = one(objects, "Job")["spec"]["template"]
        labels = pod["metadata"]["labels"]
        for o in of_kind(objects, "Service") + of_kind(objects, "NetworkPolicy") + of_kind(objects, "PodDisruptionBudget") + of_kind(objects, "Deployment"):
            selector = o["spec"].get("podSelector", o["spec"].get("selector"))
            self.assertFalse(selector.get("matchLabels", selector).items() <= labels.items(), o["kind"])
        self.assertEqual((labels["team"], labels["sidecar.istio.io/inject"]), ("identity", "false"))
        self.assertEqual((pod["metadata"]["annotations"]["note"], pod["metadata"]["annotations"]["linkerd.io/inject"]), ("1", "disabled"))
        # The API server does not ask the webhook about it: by its namespace, whatever the namespace's labels say.
        hook = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]
        excluded = next(e for e in hook["namespaceSelector"]["matchExpressions"] if e["key"] == "kubernetes.io/metadata.name")
        self.assertEqual((excluded["operator"], "mcp" in excluded["values"]), ("NotIn", True))
        self.assertNotIn("token-sidecar.io/inject", labels)

    def test_it_can_be_switched_off(self):
        objects = render(INJECTOR, {"checkProfiles": False})
        self.assertEqual(of_kind(objects, "Job"), [])
        self.assertEqual(len(of_kind(objects, "ConfigMap")), 1)


class Releases(unittest.TestCase):
    """Both real Helms and the real binary in the Job's place: profiles that the schema cannot see through stop an upgrade."""

    @contextlib.contextmanager
    def cluster(self, helm_binary: str):
        with tempfile.TemporaryDirectory() as folder, api_server.running(pathlib.Path(folder)) as (cluster, config):
            helm = Helm(helm_binary, pathlib.Path(folder), cluster, config)
            cluster.put("/api/v1/namespaces", "kube-system", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}})

            def outcome(spec: dict) -> tuple[bool, str]:
                [volume], [container] = spec["volumes"], spec["containers"]
                text = helm.named("configmaps")[volume["configMap"]["name"]]["data"]["profiles.yaml"]
                place = pathlib.Path(folder, "profiles.yaml")
                place.write_text(text)
                args = [a.replace("/etc/token-sidecar/profiles/profiles.yaml", str(place)) for a in container["args"]]
                done = subprocess.run([binary("token-sidecar"), *args], env={}, capture_output=True, text=True, timeout=60, check=False)
                return done.returncode == 0, done.stdout + done.stderr

            cluster.outcome = outcome
            yield helm

    def test_wrong_profiles_change_nothing(self):
        for name, helm_binary in HELMS.items():
            with self.subTest(helm=name), self.cluster(helm_binary) as helm, tempfile.NamedTemporaryFile("w", suffix=".yaml") as wrong:
                yaml.safe_dump(without(rewrite=[{"variable": "A", "scope": "User.Read"}]), wrong)
                wrong.flush()
                upgrade = ["upgrade", "--install", "token-sidecar-injector", str(INJECTOR), "--reset-values"]
                # At the first installation: nothing is made.
                done = helm(*upgrade, "--values", wrong.name)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertIn("token-sidecar-injector-check", done.stderr)
                self.assertEqual(helm.named("deployments"), {})
                self.assertEqual(helm.named("mutatingwebhookconfigurations"), {})

                done = helm(*upgrade)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                before = {kind: copy.deepcopy(helm.named(kind)) for kind in ("configmaps", "deployments", "mutatingwebhookconfigurations")}
                self.assertEqual(set(before["configmaps"]), {"token-sidecar-injector-profiles"}, "the hook's own is gone")
                self.assertEqual(helm.named("jobs"), {})

                done = helm(*upgrade, "--values", wrong.name, "--set", "replicaCount=3")
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertEqual(helm.named("deployments"), before["deployments"])
                self.assertEqual(helm.named("configmaps")["token-sidecar-injector-profiles"], before["configmaps"]["token-sidecar-injector-profiles"])
                # `kubectl logs job/token-sidecar-injector-check`
                said = helm.cluster.logs["token-sidecar-injector-check-x"]
                self.assertRegex(said, r"profiles\.yaml:\d+:\d+: profiles\.default\.rewrite\[0\]\.scope: does not end in `/\.default`")
                self.assertIn("token-sidecar-injector-check", helm.named("jobs"), "for its log")
                # Helm 4 prints it.
                if name == "helm 4":
                    self.assertIn("does not end in", done.stdout + done.stderr)
                # What failed is in nobody's way.
                done = helm(*upgrade)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertEqual(helm.named("jobs"), {})


if __name__ == "__main__":
    unittest.main()

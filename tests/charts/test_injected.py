"""Pods that others wrote (tests/samples), with the sidecar: the API schemas of the oldest and the newest supported Kubernetes take what injection makes of
them, unknown fields refused. What a sample itself breaks, on purpose, is told apart by looking at it before.
"""

import copy
import json
import pathlib
import subprocess
import tempfile
import unittest

import kubernetes_validate
import yaml

from injector_lab import patched, running
from lib import INJECTOR, NATIVE_FROM, ROOT, VERSIONS
from lib import binary, documents, template

SAMPLES = ROOT / "tests" / "samples"
IMAGE = "registry.example/token-sidecar:0.1.0"
REWRITE = {"variable": "BACKEND_API_URL", "scope": "api://orders/.default"}
GRANT = {"tokenExchange": {"tokenEndpoint": "https://sts.example.com/token", "audience": ["orders"], "clientAuthentication": {"none": {"clientId": "orders"}}}}
# Every way in which a profile changes the shape of a pod.
PROFILES = {
    "aks": {"token": {"aks": {}}, "rewrite": [REWRITE]},
    "projected": {
        "token": {"projected": {"expiration": "30m", "clientId": "c", "tenantId": "t"}},
        "rewrite": [REWRITE],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
    },
    "exchange": {"token": {"projected": {"audience": "sts"}}, "credentials": {"sts": GRANT}, "rewrite": [{"variable": "BACKEND_API_URL", "credential": "sts"}]},
    "bound": {
        "token": {"aks": {"identityBinding": True}},
        "mounts": [{"path": "/etc/orders-ca", "configMap": "orders-ca"}, {"path": "/etc/sts", "secret": "sts-client"}],
        "rewrite": [REWRITE],
    },
    "file": {"token": {"projected": {}}, "configMap": {"name": "token-sidecar"}, "rewrite": [{"variable": "BACKEND_API_URL", "port": 8081}]},
}
for name in list(PROFILES):
    PROFILES[f"{name}-ordinary"] = {**PROFILES[name], "native": False}
# API groups whose schemas are not Kubernetes' own; what Knative adds to a pod's spec; and Jobs, which an ordinary sidecar would keep from ending.
WITHOUT_SCHEMA = ("argoproj.io/", "ray.io/", "serving.knative.dev/")
KNATIVE = {"containerConcurrency", "timeoutSeconds"}
NEVER_ENDING = {"job.yaml", "cronjob.yaml"}
# Manifests that are odd on purpose: those that the schemas refuse without the sidecar, too, and those that this reader of YAML cannot read.
BROKEN = set()
UNREADABLE = {"tabs.yaml"}
# What injection refuses, by profile: a variable that is no URL, and a token that AKS' webhook has made before it was asked for an identity binding.
REFUSED = {("unicode.yaml", name) for name in ("aks", "projected", "exchange", "bound")} | {("served-by-aks.yaml", "bound")}


def file_of(profiles: dict) -> str:
    """A profiles file, as JSON: it takes no anchors."""
    return json.dumps({"profiles": {name: {"image": IMAGE, **profile} for name, profile in profiles.items()}})


def versions(profile: dict) -> list[str]:
    """The oldest supported Kubernetes that knows what the profile asks for, and the newest."""
    oldest = VERSIONS[0] if profile.get("native") is False else f"1.{NATIVE_FROM}"
    return [oldest, VERSIONS[-1]]


def objects_of(text: str) -> list[dict]:
    """The objects of a manifest, those in lists too."""
    found = []
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        if document is not None:
            found += document["items"] if document.get("kind", "").endswith("List") and "items" in document else [document]
    return found


def pods_in(node) -> list[dict]:
    """Whatever in an object of any kind is a pod or a pod template, by its containers."""
    if isinstance(node, list):
        return [pod for item in node for pod in pods_in(item)]
    if not isinstance(node, dict):
        return []
    spec = node.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
        return [node]
    return [pod for value in node.values() for pod in pods_in(value)]


def as_pod(template: dict) -> dict:
    """A pod template as the pod that becomes of it."""
    spec = {key: value for key, value in template["spec"].items() if key not in KNATIVE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **(template.get("metadata") or {})}, "spec": spec}


def complaint(thing: dict, version: str) -> str | None:
    """What the API schema of this version has against an object, if anything."""
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'/'.join(map(str, error.path))}: {error.message}"
    return None


def with_sidecar(text: str, profile: str, profiles: pathlib.Path) -> str:
    """What `token-sidecar inject` makes of a manifest; that it refuses is an AssertionError."""
    done = subprocess.run([binary("token-sidecar"), "inject", "--profiles", str(profiles), "--profile", profile, "--file", "-"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


class Manifests(unittest.TestCase):
    def test_the_api_schemas_take_every_manifest_with_the_sidecar(self):
        checked, odd, refused = 0, {}, set()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(file_of(PROFILES))
            file.flush()
            for path in sorted((SAMPLES / "manifests").iterdir()):
                text = path.read_text()
                if path.name in UNREADABLE:
                    with self.assertRaises(yaml.YAMLError):
                        objects_of(text)
                    continue
                for name, profile in PROFILES.items():
                    if path.name in NEVER_ENDING and profile.get("native") is False:
                        continue
                    try:
                        changed = with_sidecar(text, name, pathlib.Path(file.name))
                    except AssertionError:
                        refused.add((path.name, name.removesuffix("-ordinary")))
                        continue
                    before, after = objects_of(text), objects_of(changed)
                    self.assertEqual(len(before), len(after), path.name)
                    for was, now in zip(before, after):
                        # The whole, of a kind that there is a schema of; else the pods in it, each by itself.
                        pairs = [(was, now)]
                        if was["apiVersion"].startswith(WITHOUT_SCHEMA):
                            pairs = [(as_pod(a), as_pod(b)) for a, b in zip(pods_in(was), pods_in(now), strict=True)]
                        for one, other in pairs:
                            for version in versions(profile):
                                if said := complaint(one, version):
                                    odd.setdefault(path.name, said)
                                    continue
                                with self.subTest(manifest=path.name, profile=name, version=version):
                                    self.assertIsNone(complaint(other, version))
                                    checked += 1
        print(f"\n{checked} objects with the sidecar taken by the API schemas; broken before: {odd}")
        self.assertGreater(checked, 500)
        self.assertEqual(refused, REFUSED, "what injection refuses")
        self.assertEqual(set(odd), BROKEN, "what the samples break by themselves")


class Reviews(unittest.TestCase):
    def test_the_api_schemas_take_every_recorded_pod_with_the_patch(self):
        checked, odd = 0, set()
        chart = documents(template(INJECTOR, INJECTOR / "ci" / "default-values.yaml"))
        with running(chart, file_of(PROFILES)) as injector:
            for path in sorted((SAMPLES / "admission").glob("*.json")):
                recorded = json.loads(path.read_text())["request"]["object"]
                if recorded["kind"] != "Pod" or recorded.get("spec", {}).get("hostNetwork"):
                    continue
                for name, profile in PROFILES.items():
                    if path.stem in ("job", "cronjob") and profile.get("native") is False:
                        continue
                    pod = copy.deepcopy(recorded)
                    meta = pod["metadata"]
                    meta["annotations"] = {**(meta.get("annotations") or {}), "token-sidecar.io/inject": "true", "token-sidecar.io/profile": name}
                    with self.subTest(review=path.stem, profile=name):
                        answer = injector.review(pod)
                        if (path.stem, name.removesuffix("-ordinary")) == ("aks-before", "bound"):
                            self.assertIn("identity binding", answer["response"]["status"]["message"])
                            continue
                        self.assertTrue(answer["response"]["allowed"], answer)
                        after = patched(pod, answer)
                        for version in versions(profile):
                            if complaint(pod, version):
                                odd.add((path.stem, version))
                                continue
                            self.assertIsNone(complaint(after, version))
                            checked += 1
        print(f"\n{checked} recorded pods with the patch taken by the API schemas")
        self.assertGreater(checked, 100)
        self.assertEqual(odd, {("init-containers", VERSIONS[0])}, "one with a native sidecar of its own")


class TheCheck(unittest.TestCase):
    def test_it_can_fail(self):
        """A field of the sidecar's that no Kubernetes knows, one that an old one does not, and a value of the wrong type."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(file_of(PROFILES))
            file.flush()
            text = with_sidecar((SAMPLES / "manifests" / "pod.yaml").read_text(), "aks", pathlib.Path(file.name))
        [pod] = objects_of(text)
        newest = VERSIONS[-1]
        self.assertIsNone(complaint(pod, newest))
        self.assertIn("restartPolicy", complaint(pod, "1.27") or "", "no native sidecars there")
        for change in (
            lambda c: c.update(restartPolicie="Always"),
            lambda c: c["securityContext"].update(runAsUser="64117"),
            lambda c: c["env"].append({"name": "A", "value": 1}),
            lambda c: c.update(volumeMounts=[{"name": "a"}]),
        ):
            broken = copy.deepcopy(pod)
            change(broken["spec"]["initContainers"][0])
            self.assertIsNotNone(complaint(broken, newest))


if __name__ == "__main__":
    unittest.main()

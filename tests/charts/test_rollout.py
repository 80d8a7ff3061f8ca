"""Upgrades: pods of the last release keep what they were made with, a rollback brings it back, and Kubernetes takes the new objects over the old ones."""

import copy
import json
import pathlib
import subprocess
import unittest

import yaml

from lib import HELMS, SERVER
from lib import binary, ci_values, config_of, containers, documents, env_of, of_kind, one, pod_templates, refusal, render, template, tools_of, values_of

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")
TOOLS = {"tools": [{"name": "get_order", "description": "An order.", "inputSchema": {"type": "object"}, "request": {"method": "GET", "path": "/orders"}}]}


def changed(values: dict, **sidecar) -> dict:
    """The values with a typo in the scope, which no authority knows; and further ones of the sidecar."""
    values = copy.deepcopy(values)
    values["azure"]["scopes"] = ["https://management.azure.con/.default"]
    values["sidecar"] = {**values.get("sidecar", {}), **sidecar}
    return values


def spec_of(values: dict) -> dict:
    """The Deployment's pod template."""
    return one(render(SERVER, values), "Deployment")["spec"]["template"]


def config_maps(pod: dict) -> set[str]:
    """ConfigMaps that a pod reads: as volumes and as variables."""
    names = {v["configMap"]["name"] for v in pod["spec"].get("volumes", []) if "configMap" in v}
    for container in containers(pod):
        names |= {e["configMapRef"]["name"] for e in container.get("envFrom", []) if "configMapRef" in e}
        names |= {e["valueFrom"]["configMapKeyRef"]["name"] for e in container.get("env", []) if "configMapKeyRef" in e.get("valueFrom", {})}
    return names


class Configuration(unittest.TestCase):
    def test_nothing_that_old_pods_read_is_changed_by_an_upgrade(self):
        """A ConfigMap of the release would be the new one for pods of the last release, too, at once or when they restart."""
        looked = 0
        for values in ci_values(SERVER):
            if values_of(values).get("sidecar", {}).get("restartOnConfigChange") is False:
                continue
            with self.subTest(values=values.name):
                objects = documents(template(SERVER, values))
                made = {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")}
                for _, pod in pod_templates(objects):
                    self.assertEqual(config_maps(pod) & made, set())
                    looked += 1
        self.assertGreater(looked, 10)

    def test_a_change_makes_other_pods_and_these_have_it(self):
        values = {**GOOD, "app": {**GOOD["app"], "tools": TOOLS}}
        old, new = spec_of(values), spec_of(changed(values))
        self.assertNotEqual(old, new)
        self.assertEqual(old, spec_of(values), "the same values make the same pods")
        self.assertIn("azure.com/.default", config_of(render(SERVER, values)))
        self.assertIn("azure.con/.default", config_of(render(SERVER, changed(values))))
        self.assertNotIn("checksum", json.dumps(new))
        other = copy.deepcopy(values)
        other["app"]["tools"]["tools"][0]["name"] = "find_order"
        self.assertEqual(yaml.safe_load(tools_of(old)), TOOLS)
        self.assertEqual(yaml.safe_load(tools_of(spec_of(other)))["tools"][0]["name"], "find_order")
        test = one(render(SERVER, values), "Pod")
        self.assertEqual(yaml.safe_load(tools_of(test)), TOOLS)

    def test_the_test_checks_the_configuration_of_the_pods(self):
        for more in ({}, {"restartOnConfigChange": False}):
            objects = render(SERVER, {**GOOD, "sidecar": more})
            sidecar = next(c for c in containers(one(objects, "Deployment")["spec"]["template"]) if c["name"] == "token-sidecar")
            doctor = one(objects, "Pod")["spec"]["containers"][0]
            self.assertEqual(doctor["env"], sidecar["env"])
            self.assertEqual(doctor.get("volumeMounts"), sidecar.get("volumeMounts"))

    def test_sidecars_that_reload_have_a_file_and_their_pods_stay(self):
        objects = render(SERVER, changed(GOOD, restartOnConfigChange=False))
        self.assertIn("azure.con/.default", one(objects, "ConfigMap", "-sidecar")["data"]["config.yaml"])
        pod = one(objects, "Deployment")["spec"]["template"]
        self.assertEqual(pod, spec_of({**GOOD, "sidecar": {"restartOnConfigChange": False}}), "another configuration, the same pods")
        self.assertEqual(config_maps(pod), {"mcp-server-sidecar"})
        sidecar = next(c for c in containers(pod) if c["name"] == "token-sidecar")
        self.assertEqual(env_of(sidecar)["TOKEN_SIDECAR_CONFIG"], "/etc/token-sidecar/config/config.yaml")
        self.assertNotIn("TOKEN_SIDECAR_CONFIG_TEXT", env_of(sidecar))

    def test_what_a_variable_can_hold_and_no_more(self):
        """The chart's bound is below the kernel's, and both are where they are said to be."""
        wide = copy.deepcopy(GOOD)
        wide["sidecar"] = {"config": {"allowedHosts": [f"h{i}.example.com" for i in range(6000)]}}
        text = config_of(render(SERVER, wide))
        self.assertLessEqual(len(text), 131000)
        done = lambda size: subprocess.run([binary("token-sidecar"), "--check"], env={"TOKEN_SIDECAR_CONFIG_TEXT": text + "\n#" + "x" * (size - len(text) - 2), "AZURE_FEDERATED_TOKEN_FILE": "/t"}, capture_output=True, text=True, check=False)
        self.assertEqual(done(131000).stdout, "ok\n")
        with self.assertRaises(OSError):
            done(131072)
        wide["sidecar"]["config"]["allowedHosts"] *= 2
        for helm_name in HELMS:
            self.assertIn("sidecar.restartOnConfigChange=false", refusal(SERVER, wide, helm_name=helm_name))
        wide["sidecar"]["restartOnConfigChange"] = False
        self.assertGreater(len(config_of(render(SERVER, wide))), 131000)

    def test_more_tools_than_annotations_take(self):
        tools = {"tools": [{**TOOLS["tools"][0], "name": f"t{i}", "description": "x" * 1000} for i in range(240)]}
        self.assertIn("app.tools", refusal(SERVER, {**GOOD, "app": {**GOOD["app"], "tools": tools}}))

    def test_dollar_signs_arrive(self):
        objects = documents(template(SERVER, SERVER / "ci" / "platform-values.yaml"))
        config = yaml.safe_load(config_of(objects))
        self.assertEqual(config["credentials"]["backend"]["inject"]["prefix"], "$Bearer$(HOME) ")

    def test_a_route_takes_its_upstream_from_a_config_map(self):
        name = "TOKEN_SIDECAR_UPSTREAM_BACKEND"
        reference = {"name": name, "valueFrom": {"configMapKeyRef": {"name": "backend", "key": "url"}}}
        routes = [{"name": "backend", "upstream": {"env": name}, "credential": "backend"}]
        objects = render(SERVER, {**GOOD, "sidecar": {"env": [reference], "config": {"routes": routes}}})
        sidecar = next(c for c in containers(one(objects, "Deployment")["spec"]["template"]) if c["name"] == "token-sidecar")
        self.assertIn(reference, sidecar["env"])
        text = config_of(objects)
        self.assertEqual(yaml.safe_load(text)["routes"], routes)
        env = {"TOKEN_SIDECAR_CONFIG_TEXT": text, "AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}
        checked = lambda url: subprocess.run([binary("token-sidecar"), "--check"], env={**env, name: url}, capture_output=True, text=True)
        self.assertEqual(checked("https://backend.example\n").stdout, "ok\n")
        evil = checked('https://backend.example"}')
        self.assertIn(f"routes[0].upstream.env: the value of {name}: not a URL", evil.stderr)


class Upgrade(unittest.TestCase):
    """What the first version of the chart rendered of its values files (first_release.json), and what is rendered now."""

    FIRST = json.loads((pathlib.Path(__file__).parent / "first_release.json").read_text())
    # In the pods now. Helm takes them away; pods that run keep what they mounted.
    GONE = {"ConfigMap/mcp-server-sidecar", "ConfigMap/mcp-server-tools"}

    def test_no_field_changes_that_kubernetes_does_not_let_change(self):
        for file, first in self.FIRST.items():
            objects = {f"{o['kind']}/{o['metadata']['name']}": o for o in documents(template(SERVER, SERVER / "ci" / file))}
            for name, fields in first.items():
                with self.subTest(values=file, object=name):
                    if name in self.GONE:
                        continue
                    self.assertIn(name, objects, "an object that goes")
                    spec = objects[name].get("spec", {})
                    if "selector" in fields:
                        self.assertEqual(spec["selector"]["matchLabels"], fields["selector"])
                        self.assertNotIn("matchExpressions", spec["selector"])
                    for key in ("clusterIP", "type"):
                        if key in fields:
                            self.assertEqual(spec[key], fields[key])

    def test_values_of_the_first_version_are_enough(self):
        """`helm upgrade --reuse-values` brings the defaults of the version that was installed: what has come since is not among them."""
        new = ["app.envFrom", "app.command", "app.args", "app.port", "app.scratch", "app.volumes", "app.volumeMounts", "service.loadBalancerSourceRanges", "sidecar.env"]
        new += ["commonLabels", "runtimeClassName", "dnsConfig", "hostAliases", "revisionHistoryLimit"]
        for helm_name in HELMS:
            bare = render(SERVER, GOOD, "--set", ",".join(f"{n}=null" for n in new), helm_name=helm_name)
            for o in render(SERVER, GOOD, helm_name=helm_name):
                if o["kind"] == "Deployment":
                    del o["spec"]["revisionHistoryLimit"]
                self.assertIn(o, bare)

    def test_the_record_is_of_this_chart(self):
        self.assertGreater(len(self.FIRST), 5)
        self.assertTrue(all("Deployment/mcp-server" in first for first in self.FIRST.values()))


if __name__ == "__main__":
    unittest.main()

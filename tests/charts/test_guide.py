"""charts/README.md: its commands run, in order, as a person would paste them. Helm is real (what it would install is rendered); az, kubectl and kcadm.sh
are stand-ins that know which commands and options there are; what they print is made up. And what the guide names exists."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

from lib import ALL, CHARTS, HELMS, ROOT
from lib import binary, documents, env_of, of_kind, one, values_of
from test_monitoring import KNOWN
from test_render import as_aks_serves

HERE = pathlib.Path(__file__).parent
GUIDE = (CHARTS / "README.md").read_text()
STAND_IN = HERE / "stand_in.py"
TOOLS = ["az", "kubectl", "kcadm.sh", "helm", "curl", "sleep"]


def section(title: str) -> str:
    """The shell commands under a heading of the second level."""
    text = re.split(r"^## ", GUIDE, flags=re.M)
    found = [t for t in text if t.startswith(title)]
    assert len(found) == 1, f"{len(found)} sections begin with `{title}`"
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", found[0], re.M | re.S))


class Run:
    """A run of commands in a folder of its own; what the stand-ins were told is in `calls`, what Helm would install in `installed`."""

    def __init__(self, script: str, helm: str):
        with tempfile.TemporaryDirectory() as folder:
            place, tools = pathlib.Path(folder, "clone"), pathlib.Path(folder, "bin")
            place.mkdir(), tools.mkdir()
            for name in TOOLS:
                (tools / name).symlink_to(STAND_IN)
            for name in ("charts", "Dockerfile.proxy", "Dockerfile.server", "tests"):
                (place / name).symlink_to(ROOT / name)
            (place / "client-secret.txt").write_text("secret")
            log = pathlib.Path(folder, "log")
            log.touch()
            env = {
                **{k: v for k, v in os.environ.items() if k.startswith("HELM_")},
                "PATH": f"{tools}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": folder,
                "GIT_DIR": subprocess.run(["git", "rev-parse", "--absolute-git-dir"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip(),
                "STAND_IN_LOG": str(log),
                "STAND_IN_HELM": helm,
                "STAND_IN_KUBECTL": str(pathlib.Path(HELMS["helm 4"]).parents[1] / "kubectl" / "kubectl"),
            }
            self.done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=place, env=env, capture_output=True, text=True, timeout=240, check=False)
            self.calls = [json.loads(line) for line in log.read_text().splitlines()]
        self.installed = [c["rendered"] for c in self.calls if "rendered" in c]


class Commands(unittest.TestCase):
    def run_section(self, *titles: str) -> Run:
        script = "\n".join(section(t) for t in titles)
        for name, helm in HELMS.items():
            run = Run(script, helm)
            self.assertEqual(run.done.returncode, 0, f"{name}: {run.done.stdout}{run.done.stderr}")
        return run

    def takes(self, rendered: str):
        """The binaries take what Helm would install."""
        objects = documents(rendered)
        pod = as_aks_serves(one(objects, "Deployment")["spec"]["template"])
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder, "config.yaml")
            config.write_text(one(objects, "ConfigMap", "-sidecar")["data"]["config.yaml"])
            env = {"AZURE_FEDERATED_TOKEN_FILE": "/t"}
            done = subprocess.run([binary("token-sidecar"), "--check", "--config", str(config)], env=env, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)
            for tools in [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"].endswith("-tools")]:
                path = pathlib.Path(folder, "tools.yaml")
                path.write_text(tools["data"]["tools.yaml"])
                server = next(c for c in pod["spec"]["containers"] if c["name"] == "mcp-server")
                env = {**env_of(server), "TOOLS_FILE": str(path)}
                done = subprocess.run([binary("mcp-server"), "--check"], env=env, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
        return objects

    def test_aks_from_an_empty_subscription_to_a_tool_call(self):
        run = self.run_section("AKS: ")
        objects = self.takes(run.installed[0])
        # The pieces that must agree, from the first step to the last.
        credential = next(c["options"] for c in run.calls if c["command"] == "az identity federated-credential create")
        account = one(objects, "ServiceAccount")["metadata"]
        self.assertEqual(credential["--subject"], f"system:serviceaccount:{account['namespace']}:{account['name']}")
        self.assertTrue(credential["--issuer"].endswith("/"))
        self.assertEqual(credential["--audiences"], "api://AzureADTokenExchange")
        pod = one(objects, "Deployment")["spec"]["template"]
        self.assertEqual(pod["metadata"]["labels"]["azure.workload.identity/use"], "true")
        self.assertEqual(pod["spec"]["serviceAccountName"], account["name"])
        built = {c["options"]["--image"] for c in run.calls if c["command"] == "az acr build"}
        images = {c["image"] for c in pod["spec"]["containers"] + pod["spec"]["initContainers"]}
        self.assertEqual({i.split("/", 1)[1] for i in images}, built)
        created = next(c["options"] for c in run.calls if c["command"] == "az acr create")
        self.assertEqual({i.split(".", 1)[0] for i in images}, {created["--name"]})
        call = next(c for c in run.calls if c["command"] == "curl")
        message = json.loads(call["options"]["--data"])
        tools = yaml.safe_load(one(objects, "ConfigMap", "-tools")["data"]["tools.yaml"])["tools"]
        self.assertEqual(message["params"]["name"], tools[0]["name"])
        self.assertEqual(set(message["params"]["arguments"]), set(tools[0]["inputSchema"]["required"]))

    def test_identity_bindings(self):
        run = self.run_section("AKS: ", "Identity bindings")
        objects = self.takes(run.installed[-1])
        pod = one(objects, "Deployment")["spec"]["template"]
        self.assertEqual(pod["metadata"]["annotations"]["azure.workload.identity/use-identity-binding"], "true")
        role, binding = next(c["objects"] for c in run.calls if c["command"] == "kubectl apply")
        self.assertEqual(role["rules"][0]["verbs"], ["use-managed-identity"])
        self.assertEqual(binding["subjects"][0]["name"], pod["spec"]["serviceAccountName"])

    def test_keycloak_and_other_servers(self):
        run = self.run_section("Any Kubernetes, with Keycloak")
        for rendered in run.installed:
            objects = self.takes(rendered)
            pod = one(objects, "Deployment")["spec"]["template"]
            self.assertNotIn("azure.workload.identity/use", pod["metadata"]["labels"])

    def test_injection(self):
        run = self.run_section("AKS: ", "Injection")
        objects = documents(run.installed[-1])
        profiles = yaml.safe_load(one(objects, "ConfigMap", "-profiles")["data"]["profiles.yaml"])["profiles"]
        self.assertIn("/token-sidecar:", profiles["default"]["image"])
        self.assertEqual(profiles["default"]["rewrite"][0]["variable"], "BACKEND_API_URL")
        # The label of the namespace is the one that the webhook's configuration looks for, that of pods the one that it asks about.
        hook = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]
        labelled = next(c["names"] for c in run.calls if c["command"] == "kubectl label" and c["names"][2] == "shop")
        wanted = [e for e in hook["namespaceSelector"]["matchExpressions"] if e["operator"] == "In"]
        self.assertEqual(labelled[3], f"{wanted[0]['key']}={wanted[0]['values'][0]}")
        asked = next(c["options"]["--labels"] for c in run.calls if c["command"] == "kubectl run")
        self.assertIn(f"'{asked.split('=')[0]}'", hook["matchConditions"][0]["expression"])
        for call in run.calls:
            if call["command"] == "kubectl patch":
                json.loads(call["options"]["--patch"])

    def test_day_two(self):
        run = self.run_section("AKS: ", "Day two")
        self.takes(next(r for r in run.installed if "resource: https://mcp.example.com/mcp" in r))
        kinds = {o["kind"] for o in documents(run.installed[-1])}
        self.assertLessEqual({"PodMonitor", "PrometheusRule"}, kinds)

    def test_the_stand_ins_can_refuse(self):
        for line in [
            "az aks update --enable-workload-identity-on-kubelet",
            "az aks creat",
            "kubectl get pods --selektor a=b",
            "kubectl gett pods",
            "helm test x --log",
            "helm upgrade --install mcp-server charts/mcp-server --set app.backendUrl=x",
        ]:
            run = Run(line, HELMS["helm 4"])
            self.assertNotEqual(run.done.returncode, 0, line)


class Names(unittest.TestCase):
    def test_values_that_the_guide_names_are_there(self):
        tops = {}
        for chart in ALL:
            for key, value in values_of(chart / "values.yaml").items():
                tops.setdefault(key, []).append(value)
        found = 0
        for name in set(re.findall(r"`([a-z][A-Za-z]*(?:\.[A-Za-z]+)+)(?:=[^`]*)?`", GUIDE)):
            first, *rest = name.split(".")
            if first not in tops:
                continue
            found += 1

            def has(value, path):
                for key in path:
                    if not isinstance(value, dict):
                        return False
                    if not value:
                        return True  # an open map, such as labels
                    if key not in value:
                        return False
                    value = value[key]
                return True

            self.assertTrue(any(has(v, rest) for v in tops[first]), f"`{name}` is no value")
        self.assertGreater(found, 10)

    def test_az_commands_in_the_text_are_there(self):
        known = json.loads((HERE / "az.json").read_text())
        found = 0
        for command in re.findall(r"`(az [^`]+)`", GUIDE):
            words = command.split()
            name = " ".join(itertools.takewhile(lambda w: re.fullmatch(r"[a-z-]+", w) and not w.startswith("-"), words))
            self.assertIn(name, known, command)
            for option in re.findall(r"(?<= )--?[a-z-]+", command):
                self.assertIn(option, known[name], command)
                found += 1
        self.assertGreater(found, 3)

    def test_series_that_the_guide_names_are_exported(self):
        for name in set(re.findall(r"`((?:token_sidecar|mcp_server)_[a-z_]+)`", GUIDE)):
            self.assertIn(name, KNOWN)

    def test_every_code_of_the_authorities_has_a_row(self):
        source = (ROOT / "proxy" / "src" / "token" / "exchange" / "error" / "known.rs").read_text()
        known = set(re.findall(r'"(aadsts_\d+)"', source))
        named = set(re.findall(r"aadsts_\d+", GUIDE))
        self.assertEqual(named - known, set(), "the sidecar never says these")
        # Codes of grants that the guide does not set up: users' assertions and sign-ins, secrets, malformed requests; and what passes by itself.
        elsewhere = {f"aadsts_{n}" for n in (9001023, 900144, 90023, 9002313, 7000215, 7000222, 7000218, 700222, 700223, 700229, 700238, 50013, 500131, 500133, 82001, 70043, 50074, 50076, 50079, 50173, 1002016, 50196, 90006, 90012, 90024, 90033, 50033)}
        self.assertEqual(known - named - elsewhere, set(), "no row in Troubleshooting")

    def test_links_lead_somewhere(self):
        def slug(title):
            return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")

        anchors = {slug(t) for t in re.findall(r"^#+ (.*)$", GUIDE, re.M)} | set(re.findall(r'<a id="([^"]+)"', GUIDE))
        for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
            if target.startswith("#"):
                self.assertIn(target[1:], anchors)
            elif not target.startswith("http"):
                self.assertTrue((CHARTS / target).exists(), target)


if __name__ == "__main__":
    unittest.main()

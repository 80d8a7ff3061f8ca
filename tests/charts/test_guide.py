"""charts/README.md, and the commands of README.md: the guide's run, in order, as a person would paste them. Helm is real (what it would install is rendered); az, kubectl and kcadm.sh
are stand-ins that know which commands and options there are; what they print is made up. And what the guide names exists."""

import base64
import itertools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

import yaml

from lib import ALL, CHARTS, HELMS, ROOT
from lib import binary, config_of, documents, env_of, one, tools_of, values_of
from test_monitoring import KNOWN, unknown
from test_render import as_aks_serves

HERE = pathlib.Path(__file__).parent
GUIDE = (CHARTS / "README.md").read_text()
STAND_IN = HERE / "stand_in.py"
README = (ROOT / "README.md").read_text()
TOOLS = ["az", "kubectl", "kcadm.sh", "helm", "docker", "curl", "sleep"]


SECTIONS = re.split(r"^## ", GUIDE, flags=re.M)[1:]
# Which sections are run, one after the other, as by a person who reads on from the first.
AKS, BINDINGS, OWN, KEYCLOAK, INJECTION, DAY_TWO, RUNBOOK = (
    ["AKS: "],
    ["AKS: ", "Identity bindings"],
    ["AKS: ", "A server of your own"],
    ["Any Kubernetes, with Keycloak"],
    ["AKS: ", "Injection"],
    ["AKS: ", "Day two"],
    ["AKS: ", "Runbook"],
)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def section(title: str) -> str:
    """The shell commands under a heading of the second level."""
    found = [t for t in SECTIONS if t.startswith(title)]
    assert len(found) == 1, f"{len(found)} sections begin with `{title}`"
    return "\n".join(blocks(found[0], "sh"))


HELP = tempfile.TemporaryDirectory(prefix="guide-help-")


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
                "STAND_IN_HELP": HELP.name,
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
            config.write_text(config_of(objects))
            env = {"AZURE_FEDERATED_TOKEN_FILE": "/t"}
            done = subprocess.run([binary("token-sidecar"), "--check", "--config", str(config)], env=env, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)
            if tools := tools_of(pod):
                path = pathlib.Path(folder, "tools.yaml")
                path.write_text(tools)
                server = next(c for c in pod["spec"]["containers"] if c["name"] == "mcp-server")
                env = {**env_of(server), "TOOLS_FILE": str(path)}
                done = subprocess.run([binary("mcp-server"), "--check"], env=env, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
        return objects

    def test_aks_from_an_empty_subscription_to_a_tool_call(self):
        run = self.run_section(*AKS)
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
        tools = yaml.safe_load(tools_of(pod))["tools"]
        self.assertEqual(message["params"]["name"], tools[0]["name"])
        self.assertEqual(set(message["params"]["arguments"]), set(tools[0]["inputSchema"]["required"]))
        # An app role: who gets it is the identity, and it is assigned at the API that has it.
        role = next(c for c in run.calls if c["command"] == "az rest")
        self.assertEqual(role["body"].keys(), {"principalId", "resourceId", "appRoleId"})
        self.assertIn(f"/servicePrincipals/{role['body']['resourceId']}/appRoleAssignedTo", role["options"]["--url"])

    def test_the_names_are_the_same_in_every_terminal(self):
        lines = [line for line in section(AKS[0]).splitlines() if line.startswith("export ")]
        printed = {Run("\n".join([*lines, "export -p"]), HELMS["helm 4"]).done.stdout for _ in range(2)}
        [text] = {re.sub(r"/tmp/\w+", "", p) for p in printed}
        self.assertRegex(text, r'REGISTRY="mcp[0-9a-f]{20}"')

    def test_every_command_is_run(self):
        ran = [title for titles in (AKS, BINDINGS, OWN, KEYCLOAK, INJECTION, DAY_TWO, RUNBOOK) for title in titles]
        for text in SECTIONS:
            if blocks(text, "sh"):
                self.assertTrue(any(text.startswith(title) for title in ran), f"the commands of `{text.splitlines()[0]}` are run by no test")
        self.assertEqual(set(re.findall(r"^```(\w*)$", GUIDE, re.M)) - {""}, {"sh"}, "blocks in another language are not run")
        self.assertEqual(len(blocks(GUIDE, "sh")) * 2, len(re.findall(r"^```", GUIDE, re.M)))

    def test_commands_in_the_text_are_there(self):
        found = [c for c in re.findall(r"`((?:kubectl|helm) [^`…]+)`", GUIDE) if len(c.split()) > 3 and "kubectl get --raw" not in c]
        self.assertGreater(len(found), 15)
        run = Run("\n".join(c.replace('"$NAMESPACE"', "n") for c in found), HELMS["helm 4"])
        self.assertEqual(run.done.returncode, 0, run.done.stderr)

    def test_a_server_of_ones_own(self):
        run = self.run_section(*OWN)
        objects = self.takes(run.installed[-1])
        server = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(env_of(server)["BASE_URL"], env_of(server)["BACKEND_API_URL"])
        self.assertNotIn("initContainers", one(objects, "Pod")["spec"], "the image has no --check")
        self.assertIn("tcpSocket", server["readinessProbe"])

    def test_looking_into_a_pod(self):
        run = self.run_section(*RUNBOOK)
        inner = next(c["inner"] for c in run.calls if c["command"] == "kubectl exec")
        self.assertEqual(inner, ["token-sidecar", "check"])
        # What the command runs in: this chart's pods, and injected ones, name the configuration in the environment.
        sidecar = one(documents(run.installed[0]), "Deployment")["spec"]["template"]["spec"]["initContainers"][0]
        self.assertEqual(sidecar["name"], "token-sidecar")
        self.assertIn("TOKEN_SIDECAR_CONFIG_TEXT", env_of(sidecar))

    def test_identity_bindings(self):
        run = self.run_section(*BINDINGS)
        objects = self.takes(run.installed[-1])
        pod = one(objects, "Deployment")["spec"]["template"]
        self.assertEqual(pod["metadata"]["annotations"]["azure.workload.identity/use-identity-binding"], "true")
        role, binding = next(c["objects"] for c in run.calls if c["command"] == "kubectl apply")
        self.assertEqual(role["rules"][0]["verbs"], ["use-managed-identity"])
        self.assertEqual(binding["subjects"][0]["name"], pod["spec"]["serviceAccountName"])

    def test_keycloak_and_other_servers(self):
        run = self.run_section(*KEYCLOAK)
        pushed = {c["names"][1] for c in run.calls if c["command"] == "docker push"}
        self.assertEqual(pushed, {c["options"]["--tag"] for c in run.calls if c["command"] == "docker build"})
        for rendered in run.installed:
            objects = self.takes(rendered)
            pod = one(objects, "Deployment")["spec"]["template"]
            self.assertEqual({c["image"] for c in pod["spec"]["containers"] + pod["spec"]["initContainers"]}, pushed)
            self.assertNotIn("azure.workload.identity/use", pod["metadata"]["labels"])

    def test_injection(self):
        run = self.run_section(*INJECTION)
        objects = documents(run.installed[-1])
        profiles = yaml.safe_load(one(objects, "ConfigMap", "-profiles")["data"]["profiles.yaml"])["profiles"]
        self.assertIn("/token-sidecar:", profiles["default"]["image"])
        self.assertEqual(profiles["default"]["rewrite"][0]["variable"], "BACKEND_API_URL")
        # The last installation has the certificate that OpenSSL made, by the name that the API server calls, and vouches for it.
        self.assertIn("tls.crt: OK", run.done.stdout)
        hook = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]
        service = hook["clientConfig"]["service"]
        self.assertIn(f"-verify_hostname {service['name']}.{service['namespace']}.svc ", GUIDE)
        self.assertTrue(base64.b64decode(hook["clientConfig"]["caBundle"]).startswith(b"-----BEGIN CERTIFICATE-----"))
        made = next(c["names"][3] for c in run.calls if c["command"] == "kubectl create secret tls")
        mounted = [v["secret"]["secretName"] for v in one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"] if "secret" in v]
        self.assertEqual(mounted, [made])
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
        run = self.run_section(*DAY_TWO)
        objects = self.takes(next(r for r in run.installed if "resource: https://mcp.example.com/mcp" in r))
        # What is accepted must be what is issued: of tokens of version 2 the audience is the application's client id, and the issuer ends in v2.0.
        application = next(c for c in run.calls if c["command"] == "az ad app create")
        inbound = yaml.safe_load(config_of(objects))["inbound"]
        self.assertEqual(application["options"]["--requested-access-token-version"], "2")
        self.assertTrue(inbound["issuers"][0]["issuer"].endswith("/v2.0"))
        self.assertRegex(inbound["audience"][0], r"^[0-9a-f-]{36}$")
        kinds = {o["kind"] for o in documents(run.installed[-1])}
        self.assertLessEqual({"PodMonitor", "PrometheusRule"}, kinds)

    def test_the_stand_ins_can_refuse(self):
        for line in [
            "az aks update --enable-workload-identity-on-kubelet",
            "az aks creat",
            "az acr create --resource-group a --name b",
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
                self.assertIn(option, known[name]["options"], command)
                found += 1
        self.assertGreater(found, 3)

    def test_series_that_the_guide_names_are_exported(self):
        for name in set(re.findall(r"`((?:token_sidecar|mcp_server)_[a-z_]+)`", GUIDE)):
            self.assertIn(name, KNOWN)
        queries = re.findall(r"`(sum [^`]+)`", GUIDE)
        self.assertEqual([(q, unknown(q)) for q in queries if unknown(q)], [])
        self.assertGreater(len(queries), 1)

    def test_figures_are_those_of_the_readme(self):
        figures = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", README[README.index("## Figures") :], re.M))
        own = lambda row: figures[row].split(";")[0]
        self.assertIn(f"| memory, idle | {own('resident memory, idle')} |", GUIDE)
        self.assertIn(f"| memory for an idle connection | {own('anonymous memory for an idle connection, at 9,500')} |", GUIDE)
        first = README[: README.index("## Two commands")]
        self.assertIn(f"a binary of {own('stripped release binary')} in {own('resident memory, idle')} of memory", first)
        nginx, envoy = own("CPU for a request, over nginx 1.22 (plain upstream)"), own("the same, over Envoy 1.40")
        self.assertTrue(nginx.startswith("1.1") and "1.1 times nginx' CPU" in first, nginx)
        self.assertTrue(all(0.2 <= float(n) <= 0.3 for n in re.findall(r"0\.\d+", envoy)) and "a quarter of Envoy's" in first, envoy)

    def test_links_lead_somewhere(self):
        def anchors(text):
            slug = lambda title: re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
            return {slug(t) for t in re.findall(r"^#+ (.*)$", text, re.M)} | set(re.findall(r'<a id="([^"]+)"', text))

        for page in (CHARTS / "README.md", ROOT / "README.md"):
            links = [t for t in re.findall(r"\]\(([^)]+)\)", page.read_text()) if not t.startswith("http")]
            self.assertTrue(links)
            for link in links:
                file, _, anchor = link.partition("#")
                target = page.parent / file if file else page
                self.assertTrue(target.exists(), f"{page}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors(target.read_text()), f"{page}: {link}")


class Readme(unittest.TestCase):
    """The commands and configurations of README.md. That the demo and the tests work is tested beside them."""

    def test_its_commands_are_there(self):
        found = 0
        for line in "".join(blocks(README, "sh")).replace("\\\n", "").splitlines():
            words = line.split()
            if words[:3] == ["cargo", "run", "--bin"]:
                program, arguments = words[3], words[5:]
            elif words[0] == "token-sidecar":
                program, arguments = words[0], words[1:]
            elif words[:2] == ["docker", "build"]:
                given = shlex.split(line)
                dockerfile = (ROOT / given[given.index("-f") + 1]).read_text()
                output, target = (given[given.index(option) + 1] for option in ("--output", "--target"))
                stages = {name: (base, steps) for base, name, steps in re.findall(r"(?ms)^FROM (\S+) AS (\S+)$(.*?)(?=^FROM |\Z)", dockerfile)}
                base, steps = stages[target]
                self.assertEqual(base, "scratch", "the whole of that stage is put out")
                # What is compared is among it.
                made_by, folder = re.search(r"(?m)^COPY --from=(\S+) (\S+) /$", steps).groups()
                self.assertIn(folder + given[given.index("cmp") + 1].removeprefix(f"{output}/"), stages[made_by][1])
                for at, word in enumerate(given):
                    if word == "--build-arg":
                        self.assertRegex(dockerfile, rf"(?m)^ARG {given[at + 1].split('=')[0]}(=|$)")
                continue
            else:
                self.assertRegex(line, r"^(cargo test --workspace|BASE_URL=http://127\.0\.0\.1:8080 python server\.py)$")
                continue
            found += 1
            self.assertNotIn("#", line, "not every shell takes a comment behind a command")
            at = arguments.index("--") if "--" in arguments else len(arguments)
            asked = [binary(program), *arguments[:at], "--help", *arguments[at:]]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, f"{line}: {done.stderr}")
        self.assertGreater(found, 3)

    def test_its_configurations_are_taken(self):
        found = [b for b in blocks(README, "yaml") if "credentials:" in b]
        self.assertGreater(len(found), 1)
        for text in found:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                env = {"AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_TENANT_ID": "00000000-aaaa-bbbb-cccc-555555555555", "AZURE_CLIENT_ID": "c"}
                done = subprocess.run([binary("token-sidecar"), "--check", "--config", file.name], env=env, capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()

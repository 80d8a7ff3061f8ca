"""What the chart tests share: running Helm, the matrix of values, and looking into what was rendered. No tests in here."""

import functools
import json
import os
import pathlib
import re
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
SERVER = CHARTS / "mcp-server"
INJECTOR = CHARTS / "token-sidecar-injector"
ALL = [SERVER, INJECTOR]
HELMS = {"helm 3": os.environ["HELM3_BINARY"], "helm 4": os.environ["HELM4_BINARY"]}
# A native sidecar needs 1.29; what the charts say in kubeVersion begins earlier.
VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
NATIVE_FROM = 29
# Kinds that are not Kubernetes' own: their shape is looked at by tests of their own.
FOREIGN = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "CiliumNetworkPolicy", "Certificate", "Issuer"}


class HelmError(Exception):
    """Helm refused; the text is what it said."""


def helm(binary: str, *args: str, stdin: str | None = None) -> str:
    """Runs Helm and gives its standard output; raises `HelmError` with its standard error."""
    done = subprocess.run([binary, *args], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise HelmError(done.stderr)
    return done.stdout


def ci_values(chart: pathlib.Path) -> list[pathlib.Path]:
    """The matrix: every values file under the chart's ci/ and examples/."""
    return sorted((chart / "ci").glob("*-values.yaml")) + sorted((chart / "examples").glob("*-values.yaml"))


def values_of(path: pathlib.Path) -> dict:
    """A values file as Helm reads it."""
    return yaml.safe_load(path.read_text()) or {}


@functools.cache
def template(chart: pathlib.Path, values: pathlib.Path | None, helm_name: str = "helm 4", version: str = "1.36", extra: tuple = ()) -> str:
    """What Helm renders in the namespace `mcp` under the chart's own name."""
    args = ["template", chart.name, str(chart), "--namespace", "mcp", "--kube-version", version + ".0"]
    if values is not None:
        args += ["--values", str(values)]
    return helm(HELMS[helm_name], *args, *extra)


def documents(text: str) -> list[dict]:
    """The objects of a rendering."""
    return [d for d in yaml.safe_load_all(text) if d]


def render(chart: pathlib.Path, values: dict, *extra: str, helm_name: str = "helm 4") -> list[dict]:
    """The objects that come of values given as a dict."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return documents(template.__wrapped__(chart, pathlib.Path(file.name), helm_name, extra=tuple(extra)))


def refusal(chart: pathlib.Path, values: dict, *extra: str, helm_name: str = "helm 4") -> str:
    """Why Helm refuses these values. That it does not is an AssertionError."""
    try:
        render(chart, values, *extra, helm_name=helm_name)
    except HelmError as error:
        return str(error)
    raise AssertionError(f"{chart.name} takes {json.dumps(values)}")


def of_kind(objects: list[dict], kind: str) -> list[dict]:
    """The objects of a kind."""
    return [o for o in objects if o["kind"] == kind]


def one(objects: list[dict], kind: str, suffix: str = "") -> dict:
    """The one object of a kind whose name ends so."""
    found = [o for o in of_kind(objects, kind) if o["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} *{suffix}"
    return found[0]


def pod_templates(objects: list[dict]) -> list[tuple[str, dict]]:
    """Every pod template and pod, with a name to report it by."""
    pods = []
    for o in objects:
        name = f"{o['kind']}/{o['metadata']['name']}"
        if o["kind"] == "Pod":
            pods.append((name, o))
        elif "template" in o.get("spec", {}):
            pods.append((name, o["spec"]["template"]))
    return pods


def containers(pod: dict) -> list[dict]:
    """All containers of a pod, native sidecars first."""
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def env_of(container: dict) -> dict:
    """A container's literal environment; what the kubelet would look up is left out."""
    return {e["name"]: e.get("value", "") for e in container.get("env", []) if "valueFrom" not in e}


def config_of(objects: list[dict]) -> str:
    """The sidecar's configuration as its container finds it: out of the environment, or out of the mounted ConfigMap."""
    sidecar = next(c for c in containers(one(objects, "Deployment")["spec"]["template"]) if c["name"] == "token-sidecar")
    text = env_of(sidecar).get("TOKEN_SIDECAR_CONFIG_TEXT")
    if text is None:
        return one(objects, "ConfigMap", "-sidecar")["data"]["config.yaml"]
    # As the kubelet does: `$$` is a dollar sign, and `$(NAME)` would be a variable's value.
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", text), "a part of the configuration would be taken for a variable"
    return text.replace("$$", "$")


def tools_of(pod: dict) -> str | None:
    """The server's tools as its container finds them: a file out of an annotation of the pod."""
    for volume in pod["spec"].get("volumes", []):
        if volume["name"] == "tools":
            [item] = volume["downwardAPI"]["items"]
            key = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"]).group(1)
            return pod["metadata"]["annotations"][key]
    return None


def binary(name: str) -> str:
    """A binary that `run` has built."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "debug" / name)

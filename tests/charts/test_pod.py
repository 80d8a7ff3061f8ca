"""The pod that the chart makes, as two processes on this machine: the real binaries with the rendered arguments, environment, configuration and probes,
against the development authority and its upstream. What a kubelet and AKS' webhook would add is added here; the ports are moved to free ones."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import ports
from lib import SERVER
from lib import binary, config_of, containers, env_of, one, render


def get(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and body; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@contextlib.contextmanager
def started(command: list[str], env: dict, **kwargs):
    """A process for as long as the block lasts, asked to stop as Kubernetes does."""
    process = subprocess.Popen(command, env=env, text=True, **kwargs)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()
        process.wait()


class Pod(unittest.TestCase):
    def until(self, what: str, condition):
        """Waits for a condition, at most two minutes."""
        end = time.monotonic() + 120
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)

    def authority(self, stack, folder) -> dict:
        """Starts the development authority; gives the variables that AKS would set, and upstream and scope."""
        path = pathlib.Path(folder, "env")
        with path.open("w") as out:
            example = str(pathlib.Path(binary("examples")) / "authority")
            stack.enter_context(started([example, "--upstream"], dict(os.environ), stdout=out, stderr=subprocess.DEVNULL))
        self.until("the authority says where it is", lambda: "TOKEN_SIDECAR_UPSTREAM" in path.read_text() and path.read_text().endswith("\n"))
        return dict(re.findall(r"^export ([A-Z_]+)='?([^'\n]*)'?$", path.read_text(), re.M))

    def run_pod(self, **more):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            aks = self.authority(stack, folder)
            values = {
                "azure": {"tenantId": aks["AZURE_TENANT_ID"], "clientId": aks["AZURE_CLIENT_ID"], "authorityHost": aks["AZURE_AUTHORITY_HOST"], "scopes": [aks["TOKEN_SIDECAR_SCOPE"]]},
                "app": {"backendApiUrl": aks["TOKEN_SIDECAR_UPSTREAM"], "readinessCheckBackend": True},
                **more,
            }
            objects = render(SERVER, values)
            pod = one(objects, "Deployment")["spec"]["template"]
            sidecar, server = (next(c for c in containers(pod) if c["name"] == n) for n in ("token-sidecar", "mcp-server"))
            listen, admin, port = ports.free(), ports.free(), ports.free()
            moved = {"127.0.0.1:8080": f"127.0.0.1:{listen}", "[::]:9090": f"127.0.0.1:{admin}"}
            config = config_of(objects)
            for old, new in moved.items():
                self.assertIn(old, config)
                config = config.replace(old, new)
            tokens = "/var/run/secrets/token-sidecar/tokens/pod"
            config = config.replace(tokens, aks["AZURE_FEDERATED_TOKEN_FILE"])
            # The authority's certificate is of this run; a cluster's image has the public roots.
            env = {**env_of(sidecar), "TOKEN_SIDECAR_CONFIG_TEXT": config, "SSL_CERT_FILE": aks["SSL_CERT_FILE"]}
            if pod["metadata"]["labels"].get("azure.workload.identity/use") == "true":
                env |= {k: aks[k] for k in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST", "AZURE_FEDERATED_TOKEN_FILE")}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            first = stack.enter_context(started([binary("token-sidecar"), *sidecar.get("args", [])], env, **quiet))
            probe = lambda c, name, at: get(f"http://127.0.0.1:{at}{c[name]['httpGet']['path']}")[0]
            # As a kubelet: the server is started once the native sidecar's startup probe passes.
            self.until("the sidecar's startup probe passes", lambda: probe(sidecar, "startupProbe", admin) == 200)
            theirs = {**env_of(server), "PORT": str(port), "HOST": "127.0.0.1"}
            theirs["BACKEND_API_URL"] = theirs["BACKEND_API_URL"].replace("127.0.0.1:8080", f"127.0.0.1:{listen}")
            self.assertFalse([k for k in theirs if k.startswith("AZURE")])
            second = stack.enter_context(started([binary("mcp-server")], theirs, **quiet))
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                self.until(f"the server's {name} passes", lambda: probe(server, name, port) == 200)
                self.assertEqual(probe(sidecar, name, admin), 200, name)

            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_user_profile", "arguments": {"user_id": "123"}}}
            headers = {"Content-Type": "application/json", "Host": "mcp-server.mcp.svc:3333"}
            status, text = get(f"http://127.0.0.1:{port}/messages", json.dumps(call).encode(), **headers)
            self.assertEqual(status, 200, text)
            self.assertIs(json.loads(text)["result"]["isError"], False, text)
            self.assertEqual(get(f"http://127.0.0.1:{port}/tools", **{"Host": "evil.example"})[0], 403)

            # What `helm test` runs.
            doctor = one(objects, "Pod")["spec"]["containers"][0]["args"]
            looks = one(objects, "Pod")["spec"]["initContainers"][0]["args"]
            done = subprocess.run([binary("mcp-server"), *looks], env=theirs, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            done = subprocess.run([binary("token-sidecar"), *doctor], env=env, capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertNotIn("[FAIL]", done.stdout)
            env.pop("AZURE_FEDERATED_TOKEN_FILE", None)
            env["TOKEN_SIDECAR_CONFIG_TEXT"] = config.replace(aks["AZURE_FEDERATED_TOKEN_FILE"], "/nowhere")
            done = subprocess.run([binary("token-sidecar"), *doctor], env=env, capture_output=True, text=True, timeout=120, check=False)
            self.assertNotEqual(done.returncode, 0, "the doctor finds what is wrong")

            # The server first, then the sidecar, as with a native one.
            for process in (second, first):
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(timeout=60), 0)

    def test_with_aks_webhook(self):
        self.run_pod()

    def test_with_the_charts_own_volume(self):
        self.run_pod(subjectToken={"source": "projected"})


if __name__ == "__main__":
    unittest.main()

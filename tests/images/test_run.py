"""The binaries out of the images' root file systems, as a pod runs them: read-only, nothing to write to, the image's user and environment."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

import ports
from lib import ROOT, get, mounted, run, start

TOKEN = "var/run/secrets/azure/tokens/azure-identity-token"


@contextlib.contextmanager
def authority():
    """The development authority and its upstream, which wants a token of it; gives the environment that AKS would inject. Ends with the block."""
    process = subprocess.Popen(
        ["cargo", "run", "--quiet", "--locked", "-p", "harness", "--example", "authority", "--", "--upstream"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        env = {}
        while "TOKEN_SIDECAR_UPSTREAM" not in env:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the development authority ended before it said where it is")
            name, value = re.fullmatch(r"export (\w+)='(.*)'\n", line).groups()
            env[name] = value
        yield env
    finally:
        # cargo and what it started.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()


def as_the_kubelet_does(token: str, root: pathlib.Path) -> dict[str, str]:
    """Brings the projected token and the names of the machine into a root file system; gives the environment that goes with it. Takes /tmp away:
    distroless has one, and nothing should need it."""
    (root / TOKEN).parent.mkdir(parents=True)
    shutil.copy(token, root / TOKEN)
    (root / TOKEN).chmod(0o444)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    shutil.rmtree(root / "tmp")
    return {"AZURE_FEDERATED_TOKEN_FILE": f"/{TOKEN}"}


class Run(unittest.TestCase):
    def test_the_sidecar_gets_a_token_and_serves_with_it(self):
        with authority() as env, mounted("token-sidecar") as root:
            ca = env.pop("SSL_CERT_FILE")
            with open(root / "etc/ssl/certs/ca-certificates.crt", "a", encoding="utf-8") as roots:
                roots.write(pathlib.Path(ca).read_text(encoding="utf-8"))
            env |= as_the_kubelet_does(env.pop("AZURE_FEDERATED_TOKEN_FILE"), root)
            done = run("token-sidecar", root, "--check", env=env)
            self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)

            admin, listen = f"127.0.0.1:{ports.free()}", f"127.0.0.1:{ports.free()}"
            with self.alive("token-sidecar", root, "--admin", admin, "--listen", listen, env=env, url=f"http://{admin}"):
                self.eventually(lambda: get(f"http://{admin}/readyz")[0] == 200, "ready")
                self.assertEqual(get(f"{env['TOKEN_SIDECAR_UPSTREAM']}/echo", trust=ca)[0], 401, "the upstream wants a token of the authority")
                status, text = get(f"http://{listen}/echo")
                self.assertEqual(status, 200, text)

    def test_the_sidecar_trusts_the_base_s_roots_alone(self):
        with authority() as env, mounted("token-sidecar") as root:
            del env["SSL_CERT_FILE"]
            env |= as_the_kubelet_does(env.pop("AZURE_FEDERATED_TOKEN_FILE"), root)
            admin, listen = f"127.0.0.1:{ports.free()}", f"127.0.0.1:{ports.free()}"
            with self.alive("token-sidecar", root, "--admin", admin, "--listen", listen, env=env, url=f"http://{admin}"):
                self.eventually(lambda: 'error="tls_certificate_error"' in get(f"http://{admin}/metrics")[1], "a refused certificate")
                status, text = get(f"http://{admin}/readyz")
                self.assertEqual(status, 503)
                self.assertIn("credential default", text)

    def test_the_server_runs(self):
        with mounted("mcp-server") as root:
            shutil.rmtree(root / "tmp")
            port = ports.free()
            env = {"BACKEND_API_URL": "http://127.0.0.1:1", "HOST": "127.0.0.1", "PORT": str(port), "SHUTDOWN_DELAY": "0"}
            with self.alive("mcp-server", root, env=env, url=f"http://127.0.0.1:{port}"):
                status, text = get(f"http://127.0.0.1:{port}/readyz")
                self.assertEqual(status, 200, text)
                self.assertIn("ready", text)
            done = run("mcp-server", root, env={"BACKEND_API_URL": "https://api.example.com"})
            self.assertEqual(done.returncode, 64, "it only ever talks to localhost")

    def eventually(self, holds, what: str) -> None:
        """Waits until it holds, two minutes at most."""
        until = time.monotonic() + 120
        while not holds():
            self.assertLess(time.monotonic(), until, f"not in 2 min: {what}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def alive(self, image: str, root, *arguments: str, env: dict, url: str):
        """It runs while the block lasts, and then stops as Kubernetes stops it."""
        process = start(image, root, *arguments, env=env)
        try:
            self.eventually(lambda: process.poll() is not None or get(f"{url}/livez")[0] == 200, "alive")
            self.assertIsNone(process.poll(), process.stdout.read() if process.poll() is not None else "")
            self.assertEqual(os.stat(f"/proc/{process.pid}").st_uid, 65532)
            yield
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=120), 0)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


if __name__ == "__main__":
    unittest.main()

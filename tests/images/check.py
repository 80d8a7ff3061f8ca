"""Looks into the images that `run` built, and runs the binaries out of their root file systems. Needs root, for chroot."""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request

STORE = os.environ["IMAGES_STORE"].split()
REVISION = os.environ["REVISION"]
# By its path: the binaries are started with an environment of their own.
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
LIMIT = {"token-sidecar": 10 * 1024 * 1024}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def buildah(*args: str) -> str:
    """Runs buildah on the store of this test."""
    return subprocess.run(["buildah", *STORE, *args], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def mounted(image: str):
    """The root file system of an image, read for as long as the block lasts."""
    container = buildah("from", "--pull-never", image)
    try:
        yield pathlib.Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def files(root: pathlib.Path) -> dict[str, int]:
    """Every file with its size."""
    return {str(p.relative_to(root)): p.lstat().st_size for p in root.rglob("*") if p.is_symlink() or p.is_file()}


def inside(root: pathlib.Path, *command: str, env: dict | None = None) -> subprocess.CompletedProcess:
    """Runs a command of the image as the image's user."""
    return subprocess.run([CHROOT, "--userspec=65532:65532", str(root), *command], env=env or {}, capture_output=True, text=True, timeout=60, check=False)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url: str) -> tuple[int, str]:
    """Status and body; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def projected_token() -> str:
    """What looks like a projected token: unsigned, good for an hour."""
    part = lambda claims: base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{part({'alg': 'RS256'})}.{part({'iss': 'https://issuer.example', 'sub': 'system:serviceaccount:mcp:mcp-server', 'exp': int(time.time()) + 3600})}.c2ln"


class Images(unittest.TestCase):
    def each(self):
        for name in ("token-sidecar", "mcp-server"):
            with self.subTest(image=name), mounted(name) as root:
                yield name, root

    def test_an_image_is_its_base_and_one_binary(self):
        with mounted(os.environ["RUNTIME_IMAGE"]) as root:
            base = files(root)
        for name, root in self.each():
            mine = files(root)
            self.assertEqual(set(mine) - set(base), {f"usr/local/bin/{name}"})
            self.assertEqual({f for f in base if mine.get(f) != base[f]}, set())
            size = mine[f"usr/local/bin/{name}"]
            print(f"{name}: binary {size} bytes ({size / 2**20:.1f} MiB), image {sum(mine.values())} bytes on the stand-in base")
            self.assertLessEqual(size, LIMIT.get(name, size))
            for shell in ("bin/sh", "bin/bash", "bin/busybox", "busybox/sh", "usr/bin/sh"):
                self.assertNotIn(shell, mine)

    def test_labels_user_and_entry(self):
        version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
        for name in ("token-sidecar", "mcp-server"):
            with self.subTest(image=name):
                config = json.loads(buildah("inspect", "--type", "image", name))["OCIv1"]["config"]
                self.assertEqual(config["User"], "65532:65532")
                self.assertEqual(config["Entrypoint"], [f"/usr/local/bin/{name}"])
                self.assertNotIn("Healthcheck", config)
                labels = {k.removeprefix("org.opencontainers.image."): v for k, v in config["Labels"].items()}
                self.assertEqual((labels["title"], labels["revision"], labels["version"], labels["licenses"]), (name, REVISION, version, "Apache-2.0"))

    def test_the_binary_says_what_it_was_built_of(self):
        for name, root in self.each():
            done = inside(root, f"/usr/local/bin/{name}", "--version")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(REVISION, done.stdout)

    def test_the_binary_needs_no_library_that_distroless_lacks_and_carries_its_dependencies(self):
        for name, root in self.each():
            path = str(root / "usr/local/bin" / name)
            dynamic = subprocess.run(["readelf", "-dW", path], check=True, capture_output=True, text=True).stdout
            needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
            self.assertLessEqual(needed, {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"})
            sections = subprocess.run(["readelf", "-SW", path], check=True, capture_output=True, text=True).stdout
            self.assertIn(".dep-v0", sections, "cargo-auditable's section")
            self.assertNotIn(".symtab", sections, "stripped")
            text = (root / "usr/local/bin" / name).read_bytes()
            self.assertNotIn(b"/build/proxy", text, "no paths of the builder")
            self.assertNotIn(b"/usr/local/cargo", text)

    def test_the_sidecar_runs(self):
        with mounted("token-sidecar") as root:
            token = root / "tmp" / "token"
            token.write_text(projected_token())
            admin, listen = free_port(), free_port()
            env = {
                "AZURE_CLIENT_ID": "11111111-2222-3333-4444-555555555555",
                "AZURE_TENANT_ID": "72f988bf-86f1-41af-91ab-2d7cd011db47",
                # Nobody is there: what is looked at is that it says so.
                "AZURE_AUTHORITY_HOST": f"https://127.0.0.1:{free_port()}",
                "AZURE_FEDERATED_TOKEN_FILE": "/tmp/token",
                "TOKEN_SIDECAR_UPSTREAM": "https://127.0.0.1:1",
                "TOKEN_SIDECAR_SCOPE": "https://management.azure.com/.default",
            }
            done = inside(root, "/usr/local/bin/token-sidecar", "--check", env=env)
            self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)
            command = ["/usr/local/bin/token-sidecar", "--admin", f"127.0.0.1:{admin}", "--listen", f"127.0.0.1:{listen}"]
            self.serves(root, command, env, f"http://127.0.0.1:{admin}", 503, "credential default")

    def test_the_server_runs(self):
        with mounted("mcp-server") as root:
            port = free_port()
            env = {"BACKEND_API_URL": "http://127.0.0.1:1", "HOST": "127.0.0.1", "PORT": str(port), "SHUTDOWN_DELAY": "0"}
            self.serves(root, ["/usr/local/bin/mcp-server"], env, f"http://127.0.0.1:{port}", 200, "ready")
            done = inside(root, "/usr/local/bin/mcp-server", env={"BACKEND_API_URL": "https://api.example.com"})
            self.assertEqual(done.returncode, 64, "it only ever talks to localhost")

    def serves(self, root, command, env, url, ready_status, word):
        """Starts it, waits until it lives, looks at /readyz, and stops it as Kubernetes does."""
        process = subprocess.Popen([CHROOT, "--userspec=65532:65532", str(root), *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + 30
            while get(f"{url}/livez")[0] != 200:
                self.assertIsNone(process.poll(), process.stdout.read() if process.poll() is not None else "")
                self.assertLess(time.monotonic(), until, "not alive in 30 s")
                time.sleep(0.05)
            status, text = get(f"{url}/readyz")
            self.assertEqual(status, ready_status, text)
            self.assertIn(word, text)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=30), 0)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()

    def test_the_bills_of_materials_name_the_dependencies(self):
        names = buildah("images", "--format", "{{.Name}}").split()
        for name in ("token-sidecar", "mcp-server"):
            if f"localhost/{name}-sbom" not in names:
                self.skipTest("run with --sbom")
            with mounted(f"{name}-sbom") as root:
                bill = json.loads((root / f"{name}.cdx.json").read_text())
                components = {c["name"] for c in bill["components"]}
                self.assertIn("hyper", components)
                self.assertEqual("rustls" in components, name == "token-sidecar")
                print(f"{name}: {len(components)} components in its bill of materials")


if __name__ == "__main__":
    unittest.main(verbosity=2)

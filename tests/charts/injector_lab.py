"""The injector as a process, with the arguments and the certificate that its chart gives it, asked by https as the API server asks. No tests in here."""

import base64
import contextlib
import json
import pathlib
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

import jsonpatch

import ports
from lib import binary, containers, one
from test_certificate import field

NAME = "token-sidecar-injector"


class Injector:
    """One that runs. `folder`: where its files are; `listen`, `admin`: its ports; `path`: where reviews go."""

    def __init__(self, folder: str, listen: int, admin: int, path: str):
        self.folder, self.listen, self.admin, self.path = folder, listen, admin, path

    def metrics(self) -> str:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=60).read().decode()

    def review(self, pod: dict, namespace: str = "shop") -> dict:
        """The answer to a review of this pod's creation."""
        request = {
            "uid": "u-1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
        }
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
        context = ssl.create_default_context(cafile=f"{self.folder}/ca")
        # The certificate is for the Service's name, not for loopback.
        with socket.create_connection(("127.0.0.1", self.listen), timeout=60) as raw, context.wrap_socket(raw, server_hostname=f"{NAME}.mcp.svc") as tls:
            head = f"POST {self.path} HTTP/1.1\r\nHost: {NAME}.mcp.svc\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            tls.sendall(head.encode() + body)
            answer = b""
            while chunk := tls.recv(65536):
                answer += chunk
        headers, _, text = answer.partition(b"\r\n\r\n")
        if b" 200 " not in headers.split(b"\r\n")[0]:
            raise AssertionError(headers)
        return json.loads(text)


def patched(pod: dict, answer: dict) -> dict:
    """The pod with the patch of an answer applied, by a library that is not the injector's; as it was when there is none."""
    patch = answer["response"].get("patch")
    return jsonpatch.apply_patch(pod, json.loads(base64.b64decode(patch))) if patch else pod


@contextlib.contextmanager
def running(objects: list[dict], profiles: str):
    """An injector that is ready, by what its chart rendered. `profiles`: the text of its profiles file. It must end well when told to."""
    secret = one(objects, "Secret", "-tls")
    arguments = containers(one(objects, "Deployment")["spec"]["template"])[0]["args"]
    hook = one(objects, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {
            "profiles/profiles.yaml": profiles,
            "tls/tls.crt": field(secret, "tls.crt"),
            "tls/tls.key": field(secret, "tls.key"),
            "ca": base64.b64decode(hook["caBundle"]).decode(),
        }.items():
            pathlib.Path(folder, name).parent.mkdir(exist_ok=True)
            pathlib.Path(folder, name).write_text(text)
        listen, admin = ports.free(), ports.free()
        changed = [a.replace("/etc/token-sidecar", folder).replace("[::]:8443", f"127.0.0.1:{listen}").replace("[::]:9090", f"127.0.0.1:{admin}") for a in arguments]
        # A file, and not a pipe that nobody would read meanwhile.
        log = pathlib.Path(folder, "log")
        with log.open("w") as out:
            process = subprocess.Popen([binary("token-sidecar"), *changed], env={}, stdout=out, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + 120
            while True:
                if process.poll() is not None:
                    raise AssertionError("the injector did not start: " + log.read_text())
                if time.monotonic() > until:
                    raise AssertionError("not ready in 2 min: " + log.read_text())
                with contextlib.suppress(OSError):
                    if urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2).status == 200:
                        break
                time.sleep(0.1)
            yield Injector(folder, listen, admin, hook["service"]["path"])
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=120) != 0:
                raise AssertionError("the injector did not end well: " + log.read_text())
        finally:
            process.kill()
            process.wait()

"""As much of a Kubernetes API server as Helm needs to install, test, roll back and uninstall a release: objects in memory, no kubelet, no validation. A Deployment
is ready and a pod or a Job has ended as soon as it is there. Logs are answered as a real one does: of a pod that is there, and without a container's name
only when it has one container. Not a test of what Kubernetes makes of the objects: that is test_render's.
"""

import base64
import contextlib
import copy
import http.server
import json
import pathlib
import select
import threading
import time
import urllib.parse

import yaml

# Group and version, plural, kind, whether in a namespace: what the charts make.
KINDS = [
    ("v1", "namespaces", "Namespace", False),
    ("v1", "pods", "Pod", True),
    ("v1", "services", "Service", True),
    ("v1", "secrets", "Secret", True),
    ("v1", "configmaps", "ConfigMap", True),
    ("v1", "serviceaccounts", "ServiceAccount", True),
    ("apps/v1", "deployments", "Deployment", True),
    ("apps/v1", "replicasets", "ReplicaSet", True),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", True),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", True),
    ("batch/v1", "jobs", "Job", True),
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False),
]
LOG = "the log of {}\n"


def status_of(kind: str, reason: str, code: int, message: str) -> dict:
    return {"kind": "Status", "apiVersion": "v1", "status": kind, "reason": reason, "code": code, "message": message}


def merged(old, patch):
    """A JSON merge patch (RFC 7386); lists are replaced, which is all that Helm's own patches of these kinds need here."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return patch
    new = dict(old)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new


def fields(data: bytes):
    """The fields of a protocol buffers message: number, and an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            size = varint()
            at += size
            yield key >> 3, data[at - size : at]
        else:
            raise ValueError(f"wire type {key & 7}")


def secret_of(data: bytes) -> dict:
    """A Secret as client-go sends it: k8s.io/apimachinery's Unknown around k8s.io/api's Secret. Helm keeps its releases in Secrets, and only those come so."""
    pairs = lambda found, number: [dict(fields(b)) for n, b in found if n == number]
    secret = list(fields(dict(fields(data.removeprefix(b"k8s\0")))[2]))
    meta = list(fields(dict(secret)[1]))
    labels = {p[1].decode(): p[2].decode() for p in pairs(meta, 11)}
    held = {p[1].decode(): base64.b64encode(p[2]).decode() for p in pairs(secret, 2)}
    named = {"name": dict(meta)[1].decode(), "namespace": dict(meta).get(3, b"").decode(), "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": named, "data": held, "type": dict(secret)[3].decode()}


class Cluster:
    """The objects, by path of their collection and name."""

    def __init__(self):
        self.objects: dict[tuple[str, str], dict] = {}
        self.version = 1
        self.lock = threading.RLock()
        # Whether a pod that ends succeeds, and what it logs; None: its log is LOG, and it does. In: the pod's spec.
        self.outcome = None
        self.logs: dict[str, str] = {}

    def put(self, collection: str, name: str, thing: dict) -> dict:
        with self.lock:
            self.version += 1
            meta = thing.setdefault("metadata", {})
            meta.setdefault("uid", f"uid-{self.version}")
            meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            meta["resourceVersion"] = str(self.version)
            meta["generation"] = 1
            if thing.get("kind") == "Deployment":
                count = thing["spec"].get("replicas", 1)
                condition = {"type": "Available", "status": "True"}
                thing["status"] = {"observedGeneration": 1, "replicas": count, "readyReplicas": count, "availableReplicas": count, "updatedReplicas": count, "conditions": [condition]}
            if thing.get("kind") == "Pod":
                phase = "Succeeded" if self.ends_well(name, thing["spec"]) else "Failed"
                thing["status"] = {"phase": phase, "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}]}
            if thing.get("kind") == "Job":
                self.run(collection, name, thing)
            self.objects[(collection, name)] = thing
            return thing

    def ends_well(self, name: str, spec: dict) -> bool:
        """Runs a pod to its end, which is now."""
        if self.outcome is None:
            return True
        good, self.logs[name] = self.outcome(spec)
        return good

    def run(self, collection: str, name: str, job: dict):
        """Runs a Job to its end. Its pod stays, as its log does."""
        template = copy.deepcopy(job["spec"]["template"])
        template["metadata"] = {**template.get("metadata", {}), "name": f"{name}-x"}
        template["metadata"]["labels"] = {**template["metadata"].get("labels", {}), "job-name": name}
        pod = self.put(collection.rsplit("/", 1)[0].replace("/apis/batch/v1", "/api/v1") + "/pods", f"{name}-x", {"apiVersion": "v1", "kind": "Pod", **template})
        good = pod["status"]["phase"] == "Succeeded"
        condition = {"type": "Complete", "status": "True"} if good else {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
        job["status"] = {"startTime": "2026-01-01T00:00:00Z", "succeeded" if good else "failed": 1, "conditions": [condition]}

    def listed(self, collection: str, query: dict) -> list[dict]:
        """The objects of a collection that the selectors of a query name."""
        wanted = [part.split("=", 1) for key in ("labelSelector", "fieldSelector") for part in ",".join(query.get(key, [])).replace("==", "=").split(",") if part]

        def fits(thing):
            own = {**thing["metadata"].get("labels", {}), "metadata.name": thing["metadata"]["name"]}
            return all(own.get(key) == value for key, value in wanted)

        with self.lock:
            return [copy.deepcopy(o) for (place, _), o in sorted(self.objects.items()) if place == collection and fits(o)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_):
        pass

    def answer(self, body, code: int = 200, kind: str = "application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def discovery(self, path: str) -> dict | None:
        """What there is, in the form of before aggregated discovery, which clients still take."""
        groups: dict[str, list[str]] = {}
        for version, *_ in KINDS:
            if "/" in version and version.split("/")[1] not in groups.setdefault(version.split("/")[0], []):
                groups[version.split("/")[0]].append(version.split("/")[1])
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            named = [{"name": n, "versions": [{"groupVersion": f"{n}/{v}", "version": v} for v in vs], "preferredVersion": {"groupVersion": f"{n}/{vs[0]}", "version": vs[0]}} for n, vs in groups.items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
        for version in {k[0] for k in KINDS}:
            if path == ("/api/" if version == "v1" else "/apis/") + version:
                verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
                resources = [{"name": plural, "kind": kind, "namespaced": spaced, "verbs": verbs} for v, plural, kind, spaced in KINDS if v == version]
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        return None

    def split(self) -> tuple[str, str, str, dict]:
        """Collection, name, subresource, query."""
        url = urllib.parse.urlparse(self.path)
        parts = url.path.strip("/").split("/")
        lead = 2 if parts[0] == "api" else 3
        rest = parts[lead:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            lead, rest = lead + 2, rest[2:]
        collection = "/" + "/".join(parts[: lead + 1])
        return collection, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else "", urllib.parse.parse_qs(url.query)

    def body(self) -> dict:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return secret_of(data) if "protobuf" in self.headers["Content-Type"] else yaml.safe_load(data) or {}

    def do_GET(self):
        if self.path.startswith("/openapi/v2"):
            # An empty document: nothing is known, so nothing is validated.
            return self.answer("", kind="application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        found = self.discovery(urllib.parse.urlparse(self.path).path)
        if found is not None:
            return self.answer(found)
        collection, name, sub, query = self.split()
        if not name:
            return self.watch(collection, query) if query.get("watch") else self.answer(self.list(collection, query))
        thing = self.cluster.objects.get((collection, name))
        if thing is None:
            return self.missing(collection, name)
        if sub == "log":
            return self.pod_log(thing, query)
        return self.answer(thing)

    def list(self, collection: str, query: dict) -> dict:
        kind = next((k for _, plural, k, _ in KINDS if collection.endswith(plural)), "")
        version = collection.split("/")[2] if collection.startswith("/api/") else "/".join(collection.split("/")[2:4])
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": str(self.cluster.version)}, "items": self.cluster.listed(collection, query)}

    def watch(self, collection: str, query: dict):
        """What is there, and what comes or changes, as events, until the client has seen enough. Deletions are not told."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def tell(kind: str, thing: dict):
            event = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()

        seen, end = 0, time.monotonic() + 60
        initial = query.get("sendInitialEvents") == ["true"]
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                for thing in self.cluster.listed(collection, query):
                    if int(thing["metadata"]["resourceVersion"]) > seen:
                        tell("ADDED" if initial else "MODIFIED", thing)
                seen = self.cluster.version
                if initial:
                    kind = self.list(collection, {})
                    mark = {"resourceVersion": str(seen), "annotations": {"k8s.io/initial-events-end": "true"}}
                    tell("BOOKMARK", {"kind": kind["kind"].removesuffix("List"), "apiVersion": kind["apiVersion"], "metadata": mark})
                    initial = False
                if select.select([self.connection], [], [], 0.05)[0]:
                    break
        self.close_connection = True

    def pod_log(self, pod: dict, query: dict):
        names = [c["name"] for c in pod["spec"]["containers"]]
        inits = [c["name"] for c in pod["spec"].get("initContainers", [])]
        container = query.get("container", [""])[0]
        if not container and len(names) > 1:
            text = f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: [{' '.join(names)}]"
            return self.answer(status_of("Failure", "BadRequest", 400, text), 400)
        if container and container not in names + inits:
            return self.answer(status_of("Failure", "BadRequest", 400, f"container {container} is not valid"), 400)
        return self.answer(self.cluster.logs.get(pod["metadata"]["name"], LOG.format(container or names[0])), kind="text/plain")

    def missing(self, collection: str, name: str):
        self.answer(status_of("Failure", "NotFound", 404, f'{collection.rsplit("/", 1)[1]} "{name}" not found'), 404)

    def do_POST(self):
        collection, _, _, _ = self.split()
        thing = self.body()
        name = thing["metadata"]["name"]
        if (collection, name) in self.cluster.objects:
            return self.answer(status_of("Failure", "AlreadyExists", 409, f"{name} already exists"), 409)
        self.answer(self.cluster.put(collection, name, thing), 201)

    def do_PUT(self):
        collection, name, _, _ = self.split()
        self.answer(self.cluster.put(collection, name, self.body()))

    def do_PATCH(self):
        collection, name, _, _ = self.split()
        patch, old = self.body(), self.cluster.objects.get((collection, name))
        if "apply-patch" in self.headers["Content-Type"]:
            return self.answer(self.cluster.put(collection, name, patch), 200 if old else 201)
        if old is None:
            return self.missing(collection, name)
        self.answer(self.cluster.put(collection, name, merged(old, patch)))

    def do_DELETE(self):
        collection, name, _, _ = self.split()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.cluster.objects.pop((collection, name), None) is None:
            return self.missing(collection, name)
        self.answer(status_of("Success", "", 200, ""))


@contextlib.contextmanager
def running(folder: pathlib.Path):
    """A cluster, and the file by which Helm finds it."""
    cluster = Cluster()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "c", "cluster": {"server": url}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}]}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield cluster, path
    finally:
        server.shutdown()
        server.server_close()

"""Releases: both real Helms install, test, upgrade, roll back and uninstall the server's chart, against as much of an API server as they need (api_server)."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import unittest

import api_server
from lib import HELMS, SERVER
from lib import config_of


class Helm:
    """A Helm, and the cluster that it talks to."""

    def __init__(self, binary: str, folder: pathlib.Path, cluster: api_server.Cluster, config: pathlib.Path):
        self.binary, self.folder, self.cluster = binary, folder, cluster
        self.env = {**os.environ, "KUBECONFIG": str(config), "HOME": str(folder)}

    def __call__(self, *args: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.binary, *args, "--namespace", "mcp"], env=self.env, capture_output=True, text=True, timeout=120, check=False)

    def named(self, collection: str) -> dict[str, dict]:
        """The objects of a kind, by name."""
        return {name: thing for (place, name), thing in self.cluster.objects.items() if place.endswith("/" + collection)}


class Releases(unittest.TestCase):
    @contextlib.contextmanager
    def cluster(self, binary: str):
        """A Helm with a cluster of its own."""
        with tempfile.TemporaryDirectory() as folder, api_server.running(pathlib.Path(folder)) as (cluster, config):
            yield Helm(binary, pathlib.Path(folder), cluster, config)

    def good(self, done: subprocess.CompletedProcess) -> str:
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def upstream(self, helm: Helm) -> str:
        """The upstream that the configuration of the release's pods names."""
        config = config_of(list(helm.named("deployments").values()))
        return next(line for line in config.splitlines() if "upstream:" in line).split()[-1]

    def test_a_release_from_its_first_day_to_its_last(self):
        chart, values = str(SERVER), ["--values", str(SERVER / "ci" / "aks-values.yaml")]
        for name, binary in HELMS.items():
            with self.subTest(helm=name), self.cluster(binary) as helm:
                self.from_first_to_last(helm, chart, values)

    def from_first_to_last(self, helm: Helm, chart: str, values: list[str]):
        said = self.good(helm("upgrade", "--install", "mcp-server", chart, *values, "--create-namespace"))
        self.assertIn("STATUS: deployed", said)
        self.assertIn("helm test -n mcp mcp-server --logs", said, "the notes")
        first = self.upstream(helm)

        # Twice: the pod of the first test is in nobody's way.
        for _ in range(2):
            said = self.good(helm("test", "mcp-server", "--logs"))
            self.assertIn("Phase:          Succeeded", said)
            self.assertIn(api_server.LOG.format("token-sidecar"), said, "the doctor's log")
        self.assertIn("mcp-server-test", helm.named("pods"))

        self.good(helm("upgrade", "mcp-server", chart, *values, "--set", "app.backendApiUrl=https://other.example.com"))
        self.assertEqual(self.upstream(helm), "https://other.example.com")
        self.assertEqual(self.good(helm("history", "mcp-server")).count("mcp-server-"), 2)
        self.good(helm("rollback", "mcp-server"))
        self.assertEqual(self.upstream(helm), first)

        self.good(helm("uninstall", "mcp-server"))
        left = {(place.rsplit("/", 1)[1], name) for place, name in helm.cluster.objects}
        # The guide says so.
        self.assertEqual(left, {("namespaces", "mcp"), ("pods", "mcp-server-test")})


if __name__ == "__main__":
    unittest.main()

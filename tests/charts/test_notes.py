"""What Helm prints after an installation: it names what is there, and leaves out what an image of one's own does not have."""

import subprocess
import tempfile
import unittest

import yaml

from lib import HELMS, INJECTOR, SERVER, values_of

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")


def notes(values: dict, chart=SERVER) -> str:
    """The notes of an installation that is only tried. Helm 4's: Helm 3 wants a cluster for that; both render them for `lint`."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        command = [HELMS["helm 4"], "install", chart.name, str(chart), "--namespace", "mcp", "--values", file.name, "--dry-run=client"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("NOTES:")[1]


class Notes(unittest.TestCase):
    def test_how_a_tool_is_called(self):
        self.assertIn("get_user_profile", notes(GOOD))
        own = notes(values_of(SERVER / "examples" / "python-values.yaml"))
        self.assertNotIn("get_user_profile", own)
        self.assertIn("http://mcp-server.mcp:3333", own)
        self.assertIn("deployment/mcp-server", own)

    def test_what_is_not_scraped_and_why(self):
        policy = {"ingress": {"from": [{"podSelector": {}}], "metricsFrom": [{"namespaceSelector": {}}]}}
        monitors = {"podMonitor": {"enabled": True}}
        self.assertIn("Nothing scrapes", notes(GOOD))
        self.assertNotIn("scrape", notes({**GOOD, "monitoring": monitors}))
        self.assertIn("the server's are not", notes({**GOOD, "monitoring": monitors, "networkPolicy": policy}))

    def test_the_probe_of_the_injector_is_one_that_is_injected(self):
        def probe(profiles: dict) -> str:
            said = notes({"profiles": profiles}, INJECTOR)
            self.assertEqual(said.count("--dry-run=server"), 1)
            return next(line for line in said.splitlines() if "--dry-run=server" in line)

        one = {"rewrite": [{"variable": "ORDERS_URL", "scope": "api://orders/.default"}, {"variable": "B", "scope": "api://b/.default"}]}
        self.assertIn("--env=ORDERS_URL=https://", probe({"default": one}))
        self.assertNotIn("--annotations", probe({"default": one, "another": {"token": {"aks": {}}, **one}}))
        self.assertIn("--annotations=token-sidecar.io/profile=orders", probe({"orders": {"token": {"aks": {}}, **one}}))
        self.assertIn(" run web ", probe({"default": {"rewrite": [{"variable": "A", "scope": "api://a/.default", "containers": ["web"]}]}}))

    def test_without_a_rewrite_one_is_to_be_added_first(self):
        said = notes({}, INJECTOR)
        self.assertNotIn("--dry-run", said)
        self.assertIn("rewrite:", said)

    def test_who_renews_the_injectors_certificate(self):
        secret = values_of(INJECTOR / "ci" / "secret-values.yaml")
        for values, who in [({}, "made by Helm"), ({"certificate": {"source": "certManager"}}, "renewed by cert-manager"), (secret, "yours to renew")]:
            self.assertIn(who, notes(values, INJECTOR))


if __name__ == "__main__":
    unittest.main()

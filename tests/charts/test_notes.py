"""What Helm prints after an installation: it names what is there, and leaves out what an image of one's own does not have."""

import subprocess
import tempfile
import unittest

import yaml

from lib import HELMS, SERVER, values_of

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")


def notes(values: dict) -> str:
    """The notes of an installation that is only tried. Helm 4's: Helm 3 wants a cluster for that; both render them for `lint`."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        command = [HELMS["helm 4"], "install", "mcp-server", str(SERVER), "--namespace", "mcp", "--values", file.name, "--dry-run=client"]
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


if __name__ == "__main__":
    unittest.main()

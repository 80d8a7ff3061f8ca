"""Values that are wrong: refused by both Helms, with the value's name and the mend in what they say."""

import copy
import json
import unittest

from lib import ALL, HELMS, SERVER
from lib import refusal, values_of

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")


def with_(path: str, value, base=GOOD) -> dict:
    """The good values with another one at a path of dots."""
    values = copy.deepcopy(base)
    *parents, last = path.split(".")
    at = values
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = value
    return values


class Typos(unittest.TestCase):
    def test_an_unknown_value_is_refused_and_the_known_ones_are_named(self):
        for helm_name in HELMS:
            for path, named in [
                ("replicaCont", "replicaCount"),
                ("app.bakendApiUrl", "backendApiUrl"),
                ("azure.tenant_id", "tenantId"),
                ("sidecar.image.repo", "repository"),
                ("monitoring.podMonitor.enable", "enabled"),
                ("networkPolicy.egress.cidr", "cidrs"),
                ("autoscaling.max", "maxReplicas"),
            ]:
                with self.subTest(helm=helm_name, path=path):
                    said = refusal(SERVER, with_(path, "x"), helm_name=helm_name)
                    self.assertIn(path.split(".")[-1], said)
                    self.assertIn(named, said)

    def test_what_is_often_guessed_names_what_is_meant(self):
        for path, mend in [
            ("replicas", "replicaCount"),
            ("azure.tenantID", "azure.tenantId"),
            ("azure.scope", "azure.scopes"),
            ("app.backendUrl", "app.backendApiUrl"),
            ("azure.clientSecret", "no secret is needed"),
            ("ingress", "app.allowedHosts"),
            ("podDisruptionBudget.minAvailable", "maxUnavailable"),
        ]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, path=path):
                    self.assertIn(mend, refusal(SERVER, with_(path, 1), helm_name=helm_name))

    def test_text_in_the_place_of_a_list_or_of_parts_is_told_what_is_meant(self):
        for path, mend in [
            ("azure.scopes", "a list of one scope"),
            ("image", "image.repository and image.tag"),
            ("sidecar.image", "sidecar.image.repository and sidecar.image.tag"),
            ("app.allowedHosts", "app.allowedHosts={one,two}"),
            ("app.allowedOrigins", "app.allowedOrigins={one,two}"),
        ]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, path=path):
                    self.assertIn(mend, refusal(SERVER, with_(path, "text"), helm_name=helm_name))
                    self.assertIn(path.split(".")[-1], refusal(SERVER, with_(path, 1), helm_name=helm_name))

    def test_every_object_of_the_schemas_is_closed_and_names_its_values(self):
        def walk(schema, at):
            if "properties" in schema:
                known = [k for k, v in schema["properties"].items() if "const" not in v]
                said = schema["additionalProperties"]["const"]
                self.assertEqual(said, f"there is no such value; here are: {', '.join(known)}", at)
            for key, child in schema.get("properties", {}).items():
                walk(child, f"{at}.{key}")
            if isinstance(schema.get("items"), dict):
                walk(schema["items"], f"{at}[]")

        for chart in ALL:
            walk(json.loads((chart / "values.schema.json").read_text()), chart.name)

    def test_schema_and_values_have_the_same_names(self):
        def compare(schema, values, at):
            for key, child in schema["properties"].items():
                if "const" in child or key == "global":
                    continue
                self.assertIn(key, values, f"{at}.{key} is in the schema but not in values.yaml")
                if "properties" in child:
                    compare(child, values[key], f"{at}.{key}")

        for chart in ALL:
            compare(json.loads((chart / "values.schema.json").read_text()), values_of(chart / "values.yaml"), chart.name)


class Meaning(unittest.TestCase):
    CASES = [
        ("app.backendApiUrl", "", "app.backendApiUrl"),
        ("app.backendApiUrl", "http://api.example.com", "https"),
        ("app.backendApiUrl", "api.example.com", "https"),
        ("azure.scopes", [], "azure.scopes"),
        ("azure.scopes", ["https://a/.default", "https://b/.default"], "upstreams"),
        ("azure.scopes", ["https://a/.default https://b/.default"], "several scopes"),
        ("azure.scopes", ["https://graph.microsoft.com/User.Read"], "/.default"),
        ("azure.tenantId", "common", "AADSTS9001023"),
        ("azure.clientId", "", "az identity show"),
        ("credential", {"tokenExchange": {"tokenEndpoint": "https://sts.example.com"}}, "give one"),
        ("subjectToken.audience", "https://sts.example.com", "subjectToken.source=projected"),
        ("subjectToken.expirationSeconds", 300, "600"),
        ("subjectToken.more", [{"name": "pod", "audience": "x"}], "choose another"),
        ("upstreams", [{"name": "a", "url": "https://a.example.com", "port": 8080, "scope": "https://a/.default"}], "taken"),
        ("upstreams", [{"name": "a", "url": "https://a.example.com", "port": 9090, "scope": "https://a/.default"}], "taken"),
        ("upstreams", [{"name": "a", "url": "https://a.example.com", "port": 8081}], "scope"),
        ("upstreams", [{"name": "a", "url": "http://a.example.com", "port": 8081, "scope": "https://a/.default"}], "https"),
        ("upstreams", [{"name": "backend", "url": "https://a.example.com", "port": 8081, "scope": "https://a/.default"}], "choose another"),
        ("securityContext.runAsUser", 10002, "different users"),
        ("autoscaling.minReplicas", 20, "maxReplicas"),
        ("app.env", [{"name": "BACKEND_API_URL", "value": "https://x"}], "app.env"),
        ("app.env", [{"name": "AZURE_CLIENT_SECRET", "value": "x"}], "azure.*"),
        ("monitoring", {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "enable one"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a"}], "secret"),
        ("app.env", [{"name": "PORT", "value": "1"}], "app.env"),
        ("inbound", {"resource": "https://mcp.example.com/mcp"}, "inbound.issuers"),
        ("inbound", {"issuers": [{"issuer": "https://sso.example.com"}]}, "inbound.resource"),
        ("subjectToken", {"source": "projected", "identityBinding": True}, "subjectToken.source=webhook"),
        ("image.digest", "latest", "digest"),
        ("app.logLevel", "loud", "debug"),
        ("replicaCount", "three", "replicaCount"),
    ]

    def test_each_is_refused_and_mended(self):
        for path, value, mend in self.CASES:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, path=path, value=value):
                    self.assertIn(mend, refusal(SERVER, with_(path, value), helm_name=helm_name))

    def test_a_native_sidecar_on_an_old_cluster(self):
        said = refusal(SERVER, GOOD, "--kube-version", "1.28.9")
        self.assertIn("sidecar.native=false", said)
        self.assertIn("1.29", said)


if __name__ == "__main__":
    unittest.main()

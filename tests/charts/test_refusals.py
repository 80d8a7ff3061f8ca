"""Values that are wrong: refused by both Helms, with the value's name and the mend in what they say."""

import copy
import json
import re
import subprocess
import unittest

import kubernetes_validate

from lib import ALL, FOREIGN, HELMS, SERVER, HelmError
from lib import binary, config_of, refusal, render, values_of

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
            for name, child in schema.get("definitions", {}).items():
                walk(child, name)
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
                # An empty one is Kubernetes' own, such as dnsConfig.
                if "properties" in child and values[key] != {}:
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
        # Tags that YAML takes for numbers: 20251125 would be 2.0251125e+07.
        ("image.tag", 20251125, "put the tag in quotes"),
        ("image.tag", 1.1, "--set-string"),
        ("sidecar.image.tag", 20251125, "put the tag in quotes"),
        # URLs.
        ("azure.authorityHost", "login.microsoftonline.com", "https://login.microsoftonline.com"),
        ("azure.authorityHost", "http://login.microsoftonline.com", "https"),
        ("azure.authorityHost", "https://login.microsoftonline.com/tenant", "azure.tenantId"),
        ("app.backendApiUrl", "https://", "names no host"),
        ("app.backendApiUrl", "https:///api", "names no host"),
        ("app.backendApiUrl", "https://h:99999", "1 to 65535"),
        ("app.backendApiUrl", "https://h:0", "1 to 65535"),
        ("app.backendApiUrl", "https://h:1000000", "1 to 65535"),
        ("app.backendApiUrl", "https://h:", "names no host"),
        ("app.backendApiUrl", "https://user:pw@h", "user name or password"),
        ("app.backendApiUrl", "https://a b.example.com", "names no host"),
        ("app.backendApiUrl", "https://h/?a=b", "query"),
        ("upstreams", [{"name": "a", "url": "https://user:pw@h", "port": 8081, "scope": "https://a/.default"}], "user name or password"),
        # Users.
        ("securityContext.runAsUser", 10002.0, "different users"),
        ("podSecurityContext", {"runAsUser": 10002, "runAsNonRoot": True}, None),
        ("sidecarSecurityContext.runAsUser", 10001, "different users"),
        # Ports, probes and mounts that this chart makes.
        ("app.port", 8080, "app.port"),
        ("app.port", 9090, "app.port"),
        ("sidecar.config", {"admin": "0.0.0.0:9091"}, "sidecar.config.admin"),
        ("sidecar.config", {"listen": "127.0.0.1:8090"}, "sidecar.config.listen"),
        ("sidecar.config", {"routes": [{"name": "a", "listen": "127.0.0.1:3333", "upstream": "https://a", "credential": "backend"}]}, "port 3333 is taken"),
        ("sidecar.config", {"routes": [{"name": "a", "listen": "127.0.0.1:9090", "upstream": "https://a", "credential": "backend"}]}, "port 9090 is taken"),
        ("sidecar.config", {"inbound": {"listen": "0.0.0.0:3334"}}, "sidecar.config.inbound"),
        ("sidecar.config", {"inbound": {"resource": "https://mcp.example.com/mcp"}}, "sidecar.config.inbound"),
        ("inbound", {"listen": "0.0.0.0:1", "resource": "https://mcp.example.com/mcp", "issuers": [{"issuer": "https://sso.example.com"}]}, "inbound.listen"),
        ("upstreams", [{"name": "a", "url": "https://a", "port": 3333, "scope": "https://a/.default"}], "taken"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a", "secret": "a", "configMap": "b"}], "keep one"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a", "secret": "a"}, {"name": "a", "path": "/etc/b", "secret": "b"}], "twice"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a", "secret": "a"}, {"name": "b", "path": "/etc/a/", "secret": "b"}], "that of a"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/token-sidecar/config", "secret": "a"}], "/etc/token-sidecar/config"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/token-sidecar/config/b/", "secret": "a"}], "/etc/token-sidecar/config"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a", "secret": "A_B"}], "secret"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/a", "configMap": True}], "configMap"),
        ("resources.limits.memory", 256, "a number alone is bytes"),
        ("sidecar.resources.requests.memory", "64m", "memory with its unit"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc", "secret": "a"}], "/etc/token-sidecar/config"),
        ("sidecar.mounts", [{"name": "a", "path": "/", "secret": "a"}], "/etc/token-sidecar/config"),
        ("sidecar.mounts", [{"name": "a", "path": "/var/run/secrets/token-sidecar/tokens", "secret": "a"}], "/var/run/secrets"),
        ("sidecar.mounts", [{"name": "a", "path": "/etc/../etc/a", "secret": "a"}], "plain path"),
        ("sidecar.env", [{"name": "AZURE_CLIENT_ID", "value": "x"}], "azure.*"),
        ("sidecar.env", [{"name": "TOKEN_SIDECAR_CONFIG", "value": "x"}], "sidecar.config"),
        ("sidecar.env", [{"name": "TOKEN_SIDECAR_UPSTREAM", "value": "x"}], "sidecar.config"),
        ("sidecar.env", [{"name": "https_proxy", "value": "x"}], "sidecar.httpsProxy"),
        ("sidecar.env", [{"name": "A"}, {"name": "A"}], "two entries"),
        # What the API server would refuse, or lose.
        ("app.env", [{"name": "A", "vale": "1"}], "name, value, valueFrom"),
        ("app.env", [{"name": "A", "value": 1.5}], "quotes"),
        ("app.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}], "two entries"),
        ("app.env", [{"name": "1 A", "value": "1"}], "app"),
        ("app.env", [{"name": "A", "valueFrom": {"secretRef": {"name": "x"}}}], "secretKeyRef"),
        ("tolerations", [{"key": "a", "value": True}], "value"),
        ("service.loadBalancerSourceRanges", ["10.0.0.0/8"], "service.type=LoadBalancer"),
        ("dnsConfig", {"option": []}, "nameservers, searches, options"),
        ("monitoring.prometheusRule.subjectTokenSeconds", 300, "tenth"),
    ]

    def test_each_is_refused_and_mended(self):
        for path, value, mend in self.CASES:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, path=path, value=value):
                    if mend is None:
                        render(SERVER, with_(path, value), helm_name=helm_name)
                        continue
                    self.assertIn(mend, refusal(SERVER, with_(path, value), helm_name=helm_name))

    def test_a_value_that_is_nothing(self):
        """`key:` with nothing behind it takes a default away. What comes of it is right, or a refusal that names the value, never a fault of a template."""

        def paths(values, at=""):
            for key, child in values.items():
                key = key.replace(".", r"\.")  # As --set wants it.
                yield f"{at}{key}"
                # What is as in a pod is Kubernetes' to look at.
                if isinstance(child, dict) and not key.lower().endswith(("securitycontext", "resources")):
                    yield from paths(child, f"{at}{key}.")

        everything = list(paths(values_of(SERVER / "values.yaml")))
        for base, some in [("aks-values.yaml", everything), ("projected-values.yaml", [p for p in everything if p.startswith("subjectToken")])]:
            for path in some:
                with self.subTest(values=base, path=path):
                    try:
                        objects = render(SERVER, values_of(SERVER / "ci" / base), "--set", f"{path}=null")
                    except HelmError as error:
                        said = str(error)
                        self.assertRegex(said, rf"{re.escape(path)}: |missing propert.*'{path.split('.')[-1]}'")
                        self.assertNotIn("nil", said)
                        continue
                    for o in objects:
                        if o["kind"] not in FOREIGN:
                            kubernetes_validate.validate(o, "1.37", strict=True)
                    env = {"AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}
                    env["TOKEN_SIDECAR_CONFIG_TEXT"] = config_of(objects)
                    done = subprocess.run([binary("token-sidecar"), "--check"], env=env, capture_output=True, text=True, check=False)
                    self.assertEqual(done.stdout, "ok\n", done.stderr)

    def test_a_password_is_not_repeated(self):
        for helm_name in HELMS:
            self.assertNotIn("hunter2", refusal(SERVER, with_("app.backendApiUrl", "https://user:hunter2@h"), helm_name=helm_name))

    def test_the_users_are_those_that_the_containers_will_have(self):
        """A container's own, else the pod's, else that of the image, 65532 in both."""
        for server, sidecar, pod, taken in [
            (None, 10002, 10002, False),
            (10001, None, 10001, False),
            (None, None, None, False),
            (None, None, 10001, False),
            (65532, None, None, False),
            (None, 65532, None, False),
            (None, 10002, 10001, True),
            (10001, None, 10003, True),
            (None, 10002, None, True),
            (0, 0, None, False),
        ]:
            values = {**GOOD, "securityContext": {"runAsUser": server}, "sidecarSecurityContext": {"runAsUser": sidecar}, "podSecurityContext": {"runAsUser": pod}}
            with self.subTest(server=server, sidecar=sidecar, pod=pod):
                for helm_name in HELMS:
                    if taken:
                        render(SERVER, values, helm_name=helm_name)
                    else:
                        said = refusal(SERVER, values, helm_name=helm_name)
                        self.assertIn("different users", said)
                        self.assertIn("openshift", said)

    def test_urls_that_are_right(self):
        for url in ("https://api.example.com", "https://api.example.com:8443/v1/", "https://[2001:db8::1]:8443", "http://127.0.0.1:8000", "http://localhost", "https://a_b.example.com.", "https://10.1.2.3/x@y"):
            render(SERVER, with_("app.backendApiUrl", url))
        for host in ("https://login.microsoftonline.us", "https://login.microsoftonline.us/", "https://127.0.0.1:8443/"):
            render(SERVER, with_("azure.authorityHost", host))

    def test_a_native_sidecar_on_an_old_cluster(self):
        said = refusal(SERVER, GOOD, "--kube-version", "1.28.9")
        self.assertIn("sidecar.native=false", said)
        self.assertIn("1.29", said)


if __name__ == "__main__":
    unittest.main()

"""The network policies, evaluated as Kubernetes defines them: what is open, to whom; what an empty list opens; and what Cilium's flavor cannot say."""

import copy
import ipaddress
import random
import unittest

import yaml

from lib import HELMS, SERVER
from lib import config_of, documents, of_kind, one, refusal, render, template, values_of

GOOD = values_of(SERVER / "ci" / "aks-values.yaml")
METADATA, WIRE = "169.254.169.254", "168.63.129.16"
CLIENTS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "clients"}}}
PROMETHEUS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
RULE = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8443, "protocol": "TCP"}]}


def values(policy: dict, **more) -> dict:
    """The good values with another network policy."""
    return {**copy.deepcopy(GOOD), **more, "networkPolicy": policy}


def egress(policy: dict, helm_name: str = "helm 4", **more) -> list[dict]:
    """The rules of what goes out."""
    return one(render(SERVER, values(policy, **more), helm_name=helm_name), "NetworkPolicy")["spec"]["egress"]


def reaches(rules: list[dict], address: str, port: int) -> bool:
    """Whether a pod under these rules reaches an address off the cluster. A rule without `to` is open to all, as Kubernetes has it."""
    ip = ipaddress.ip_address(address)
    for rule in rules:
        if "ports" in rule and port not in [p["port"] for p in rule["ports"]]:
            continue
        if not rule.get("to"):
            return True
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            if block and ip in ipaddress.ip_network(block["cidr"]) and not any(ip in ipaddress.ip_network(e) for e in block.get("except", [])):
                return True
    return False


class Empty(unittest.TestCase):
    def test_an_empty_list_opens_nothing(self):
        for helm_name in HELMS:
            for nothing in ([], None):
                with self.subTest(helm=helm_name, nothing=nothing):
                    rules = egress({"egress": {"cidrs": nothing, "rules": [RULE]}}, helm_name)
                    self.assertTrue(all(r.get("to") for r in rules))
                    self.assertFalse(reaches(rules, METADATA, 443))
                    self.assertFalse(reaches(rules, "20.1.2.3", 443))
                    rules = egress({"egress": {"dns": nothing, "rules": [RULE]}}, helm_name)
                    self.assertTrue(all(r.get("to") for r in rules))
                    self.assertFalse(reaches(rules, "8.8.8.8", 53))
                    for key in ("cidrs", "dns"):
                        said = refusal(SERVER, values({"egress": {key: nothing}}), helm_name=helm_name)
                        self.assertIn(f"networkPolicy.egress.{key}", said)
                        self.assertIn("networkPolicy.egress.rules", said)

    def test_every_values_file_keeps_its_pods_from_the_metadata_service(self):
        for policy in ({}, {"egress": {"cidrs": ["169.0.0.0/8", "168.0.0.0/6"]}}, {"egress": {"cidrs": ["128.0.0.0/1", "fc00::/7", "fe00::/8"], "ports": [80]}}):
            rules = egress(policy)
            for port in (80, 443):
                for address in (METADATA, WIRE, "fe80::1", "fd00:ec2::254"):
                    self.assertFalse(reaches(rules, address, port), f"{policy} {address}:{port}")
        self.assertTrue(reaches(egress({}), "20.1.2.3", 443))
        self.assertTrue(reaches(egress({"egress": {"cidrs": ["169.0.0.0/8"]}}), "169.1.2.3", 443))
        self.assertTrue(reaches([{"ports": [{"port": 443}]}], METADATA, 443), "the evaluation can find the way open")


class Blocks(unittest.TestCase):
    def test_what_is_excepted_is_what_lies_within(self):
        """Against Python's own arithmetic, of which the chart's shares nothing."""
        dice = random.Random(4)
        for _ in range(4):
            blocks = []
            for bits, family in [(32, ipaddress.IPv4Network), (128, ipaddress.IPv6Network)]:
                for _ in range(12):
                    length = dice.randint(0, bits)
                    address = dice.getrandbits(bits) if dice.random() < 0.5 else dice.choice([0, 0xA9FE, 0xFE80 << 112, 1 << (bits - 1)]) % (1 << bits)
                    blocks.append(family((address >> (bits - length) << (bits - length), length)))
            cidrs, excepts = blocks[::2], blocks[1::2]
            good = [c for c in cidrs if not any(c.version == e.version and c.subnet_of(e) for e in excepts)]
            rules = egress({"egress": {"cidrs": [str(c) for c in good], "except": [str(e) for e in excepts], "dns": [RULE["to"][0]], "rules": [RULE]}}, dice.choice(list(HELMS)))
            got = {b["cidr"]: b.get("except", []) for r in rules for b in [t.get("ipBlock") or {} for t in r["to"]] if b and r["ports"][0]["port"] not in (53, 8443)}
            want = {str(c): [str(e) for e in excepts if e.version == c.version and e.subnet_of(c)] for c in good}
            self.assertEqual(got, want)

    def test_what_contradicts_itself_or_is_no_block(self):
        for policy, mend in [
            ({"cidrs": ["169.254.169.0/24"]}, "take one of the two out"),
            ({"cidrs": ["168.63.129.16/32"]}, "take one of the two out"),
            ({"cidrs": ["10.0.0.1"]}, "no block of addresses"),
            ({"cidrs": ["10.0.0.0/33"]}, "no block of addresses"),
            ({"cidrs": ["2001:db8::1::2/64"]}, "no block of addresses"),
            ({"except": ["imds"]}, "no block of addresses"),
        ]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, policy=policy):
                    self.assertIn(mend, refusal(SERVER, values({"egress": policy}), helm_name=helm_name))


class Cluster(unittest.TestCase):
    """An upstream in the cluster: Cilium does not match pods by address, and Service's ports are not the pods'."""

    def upstream(self, url: str, **policy) -> list[dict]:
        return render(SERVER, values(policy, app={"backendApiUrl": url}))

    def test_it_is_let_through_by_its_namespace(self):
        for url, namespace in [("https://orders.shop.svc", "shop"), ("https://orders.shop.svc.cluster.local:8443/api", "shop"), ("https://0.orders.shop.svc", "shop"), ("https://orders", "mcp")]:
            with self.subTest(url=url):
                rules = one(self.upstream(url, egress={"ports": [9443]}), "NetworkPolicy")["spec"]["egress"]
                [rule] = [r for r in rules if r["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]]
                self.assertEqual({p["port"] for p in rule["ports"]}, {8443 if "8443" in url else 443, 9443})
                if "8443" in url:
                    self.assertFalse(reaches(rules, "20.1.2.3", 8443))
                policy = one(self.upstream(url, flavor="cilium", egress={"ports": [9443]}), "CiliumNetworkPolicy")["spec"]["egress"]
                [rule] = [r for r in policy if r.get("toEndpoints") == [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": namespace}}]]
                self.assertEqual({p["port"] for p in rule["toPorts"][0]["ports"]}, {"8443" if "8443" in url else "443", "9443"})
                self.assertEqual([n["matchName"] for r in policy for n in r.get("toFQDNs", [])], ["login.microsoftonline.com"])

    def test_hosts_of_the_world_are_not(self):
        for url in ("https://api.svc.example.com", "https://svc.example.com", "https://orders.shop"):
            rules = one(self.upstream(url), "NetworkPolicy")["spec"]["egress"]
            self.assertFalse([r for r in rules if "ipBlock" not in str(r["to"])])


class Cilium(unittest.TestCase):
    CILIUM = {"flavor": "cilium"}

    def rules(self, **egress) -> list[dict]:
        return one(render(SERVER, values({**self.CILIUM, "egress": egress})), "CiliumNetworkPolicy")["spec"]["egress"]

    def test_what_it_does_not_look_at_is_refused(self):
        for key, value in [("cidrs", ["10.0.0.0/8"]), ("cidrs", []), ("except", []), ("except", ["169.254.0.0/16"])]:
            for helm_name in HELMS:
                with self.subTest(helm=helm_name, key=key, value=value):
                    said = refusal(SERVER, values({**self.CILIUM, "egress": {key: value}}), helm_name=helm_name)
                    self.assertIn(f"networkPolicy.egress.{key}", said)
                    self.assertIn("toCIDRSet", said)

    def test_its_defaults_are_those_of_the_values(self):
        egress = values_of(SERVER / "values.yaml")["networkPolicy"]["egress"]
        text = (SERVER / "templates" / "_cilium.tpl").read_text()
        defaults = yaml.safe_load(text.split('"mcp-server.egressDefaults" -}}')[1].split("{{- end -}}")[0])
        self.assertEqual(defaults, {k: egress[k] for k in ("cidrs", "except")})

    def test_ports_are_those_of_each_name(self):
        for rule in self.rules(ports=[8443]):
            ports = {p["port"] for p in rule["toPorts"][0]["ports"]}
            self.assertEqual(ports, {"443", "8443"} if "toFQDNs" in rule else {"53"})

    def test_who_answers_dns_is_said_in_its_own_words(self):
        peers = [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dns", "tier": "infra"}}, "podSelector": {"matchLabels": {"app": "coredns"}}},
            {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}},
            {"podSelector": {"matchLabels": {"app": "dns"}}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        ]
        rules = [r for r in self.rules(dns=peers) if "toFQDNs" not in r]
        self.assertEqual(
            [r.get("toEndpoints") or r.get("toCIDRSet") for r in rules],
            [
                [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "dns", "k8s:io.cilium.k8s.namespace.labels.tier": "infra", "k8s:app": "coredns"}}],
                [{"matchExpressions": [{"key": "k8s:app", "operator": "In", "values": ["a", "b"]}, {"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}]}],
                [{"matchLabels": {"k8s:app": "dns"}}],
                [peers[3]["ipBlock"]],
            ],
        )
        for rule in rules:
            self.assertEqual(rule["toPorts"], [{"ports": [{"port": "53", "protocol": "ANY"}], "rules": {"dns": [{"matchPattern": "*"}]}}])

    def test_the_authority_must_be_named(self):
        azure = {**GOOD["azure"], "authorityHost": ""}
        for helm_name in HELMS:
            self.assertIn("azure.authorityHost", refusal(SERVER, values(self.CILIUM, azure=azure), helm_name=helm_name))
        names = lambda o: {n["matchName"] for r in one(o, "CiliumNetworkPolicy")["spec"]["egress"] for n in r.get("toFQDNs", [])}
        self.assertEqual(names(render(SERVER, values(self.CILIUM, azure={**azure, "authorityHost": "https://login.microsoftonline.us/"}))), {"login.microsoftonline.us", "management.azure.com"})
        # Without AKS' webhook the sidecar's own default is known.
        self.assertIn("login.microsoftonline.com", names(render(SERVER, values(self.CILIUM, azure=azure, subjectToken={"source": "projected"}))))
        self.assertIn("AZURE_KUBERNETES_TOKEN_PROXY", refusal(SERVER, values(self.CILIUM, subjectToken={"identityBinding": True})))

    def test_a_proxy_with_a_password(self):
        objects = render(SERVER, values(self.CILIUM, sidecar={"httpsProxy": "http://user:secret@proxy.example.com:3128/"}))
        policy = one(objects, "CiliumNetworkPolicy")
        self.assertIn("proxy.example.com", str(policy))
        self.assertNotIn("secret", str(policy))


class Callers(unittest.TestCase):
    def test_who_reads_metrics_does_not_call_tools(self):
        policy = {"ingress": {"from": [CLIENTS], "metricsFrom": [PROMETHEUS]}}
        rules = one(render(SERVER, values(policy)), "NetworkPolicy")["spec"]["ingress"]
        ports = lambda peer: {p["port"] for r in rules if peer in r["from"] for p in r["ports"]}
        self.assertEqual((ports(CLIENTS), ports(PROMETHEUS)), ({3333}, {9090}))

    def test_the_servers_metrics_are_scraped_where_they_can_be(self):
        for policy, scraped in [
            ({}, True),
            ({"ingress": {"metricsFrom": [PROMETHEUS]}}, True),
            ({"ingress": {"from": [CLIENTS], "metricsFrom": [PROMETHEUS]}}, False),
            ({"ingress": {"from": [CLIENTS, PROMETHEUS], "metricsFrom": [PROMETHEUS]}}, True),
            ({"enabled": False, "ingress": {"from": [CLIENTS], "metricsFrom": [PROMETHEUS]}}, True),
        ]:
            with self.subTest(policy=policy):
                objects = render(SERVER, values(policy, monitoring={"podMonitor": {"enabled": True}}))
                ports = [e["port"] for e in one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]]
                self.assertEqual(ports, ["admin", "http"] if scraped else ["admin"])
                objects = render(SERVER, values(policy, monitoring={"serviceMonitor": {"enabled": True}}))
                ports = [e["port"] for e in one(objects, "ServiceMonitor")["spec"]["endpoints"]]
                self.assertEqual(ports, ["admin", "http"] if scraped else ["admin"])
                self.assertEqual([p["name"] for p in one(objects, "Service", "-metrics")["spec"]["ports"]], ports)

    def test_policies_are_for_this_charts_pods(self):
        """Another chart in the same release has pods of its own, and policies of its own."""
        for policy in ({}, {"flavor": "cilium"}):
            objects = render(SERVER, values(policy))
            for o in of_kind(objects, "NetworkPolicy") + of_kind(objects, "CiliumNetworkPolicy"):
                selector = o["spec"].get("podSelector") or o["spec"]["endpointSelector"]
                [names] = selector["matchExpressions"]
                for pod in (one(objects, "Deployment")["spec"]["template"], one(objects, "Pod")):
                    labels = pod["metadata"]["labels"]
                    self.assertIn(labels[names["key"]], names["values"])
                    self.assertLessEqual(selector["matchLabels"].items(), labels.items())
                self.assertNotIn("token-sidecar-injector", names["values"])

    def test_the_configuration_is_the_policys_source(self):
        objects = documents(template(SERVER, SERVER / "ci" / "upstreams-values.yaml"))
        names = {n["matchName"] for r in one(objects, "CiliumNetworkPolicy")["spec"]["egress"] for n in r.get("toFQDNs", [])}
        for route in yaml.safe_load(config_of(objects))["routes"]:
            host = route["upstream"].split("/")[2].split(":")[0]
            self.assertTrue(host in names or host == "10.1.2.3", host)


if __name__ == "__main__":
    unittest.main()

"""Alerts and dashboard: promtool takes and tests the rules, and every series and label that a query names is one that the binaries export."""

import contextlib
import json
import pathlib
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import yaml

import ports
from lib import ALL, CHARTS, INJECTOR, ROOT, SERVER
from lib import binary, documents, one, template

HERE = pathlib.Path(__file__).parent
# What the operator's pod discovery and kube-state-metrics put on every series.
# `exported_`: a label of the series itself that the target has too.
TARGET_LABELS = {"namespace", "pod", "container", "job", "instance", "endpoint", "exported_namespace"}
# Not ours, but there in every cluster that is watched: kube-state-metrics, and what the process collector of a client library exports.
OTHERS = {
    "kube_pod_init_container_status_ready": set(),
    "kube_pod_container_status_ready": set(),
    "kube_pod_status_phase": {"phase"},
    "kube_deployment_status_replicas_available": {"deployment"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}


ROWS = re.compile(r"^\| `(token_sidecar_[a-z_]+)` \| ([^|]*) \|", re.M)


def in_table(readme: pathlib.Path) -> set[str]:
    """The sidecar's or the injector's series, as its README lists them."""
    return {name for name, _ in ROWS.findall(readme.read_text())}


def series() -> dict[str, set[str]]:
    """Every series with its labels: the sidecar's from the tables of the two READMEs, which a test holds against the code; the server's from a running one."""
    known = dict(OTHERS)
    tables = (ROOT / "README.md").read_text() + (ROOT / "proxy" / "README.md").read_text()
    for name, labels in ROWS.findall(tables):
        known[name] = set(re.findall(r"`([a-z_]+)`", labels))
    known |= server_series()
    return known


def server_series() -> dict[str, set[str]]:
    """The series of a running server that has been called once well and once badly, each with its labels."""
    port = ports.free()
    url = f"http://127.0.0.1:{port}"
    env = {"BACKEND_API_URL": "http://127.0.0.1:1", "HOST": "127.0.0.1", "PORT": str(port), "SHUTDOWN_DELAY": "0"}
    process = subprocess.Popen([binary("mcp-server")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/livez", timeout=2).read()
                break
            time.sleep(0.05)
        urllib.request.urlopen(f"{url}/tools", timeout=5).read()
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(f"{url}/tools", headers={"Host": "foreign.example"}), timeout=5)
        call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_user_profile","arguments":{"user_id":"1"}}}'
        urllib.request.urlopen(urllib.request.Request(f"{url}/messages", data=call, headers={"Content-Type": "application/json"}), timeout=10).read()
        text = urllib.request.urlopen(f"{url}/metrics", timeout=5).read().decode()
    finally:
        process.terminate()
        process.wait()
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(mcp_server_[a-z_]+)(?:\{([^}]*)\})? ", text, re.M):
        name = re.sub(r"_(bucket|sum|count)$", "", name)
        found.setdefault(name, set()).update(set(re.findall(r'([a-z_]+)="', labels)) - {"le"})
    return found


KNOWN = series()


def names_in(query: str) -> set[str]:
    """Names of series in a query."""
    return set(re.findall(r"\b(?:token_sidecar|mcp_server|kube_pod|kube_deployment|process)_[a-z_]+", query))


def unknown(query: str) -> list[str]:
    """What a query names that nobody exports: series, and labels of matchers and groupings."""
    wrong = []
    labels = set(TARGET_LABELS) | {"le"}
    for name in names_in(query):
        base = next((name.removesuffix(s) for s in ("_bucket", "_sum", "_count") if name.endswith(s) and name.removesuffix(s) in KNOWN), name)
        if base not in KNOWN:
            wrong.append(name)
        labels |= KNOWN.get(base, set())
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", query):
        wrong += [label for label in re.split(r"[,\s]+", group) if label and label not in labels]
    for matchers in re.findall(r"\{([^}]*)\}", query):
        wrong += [label for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers) if label not in labels]
    return wrong


def rules_of(chart: pathlib.Path, values: str) -> dict:
    """The rules of a chart as Prometheus reads them."""
    return one(documents(template(chart, chart / "ci" / values)), "PrometheusRule")["spec"]


RULES = {chart.name: rules_of(chart, "monitoring-values.yaml") for chart in ALL}


class Alerts(unittest.TestCase):
    def promtool(self, *args: str, cwd: str):
        done = subprocess.run(["promtool", *args], cwd=cwd, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_promtool_takes_and_tests_the_rules(self):
        for chart, rules in RULES.items():
            with self.subTest(chart=chart), tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "rules.yaml")
                path.write_text(yaml.safe_dump(rules))
                self.promtool("check", "rules", "rules.yaml", cwd=folder)
                # promtool compares annotations word for word; what is tested here is when an alert fires, and with which labels.
                path.write_text(yaml.safe_dump({"groups": [{**g, "rules": [{**r, "annotations": {}} for r in g["rules"]]} for g in rules["groups"]]}))
                for test in sorted(HERE.glob(f"{chart}.*alerts.yaml")):
                    pathlib.Path(folder, "test.yaml").write_text(test.read_text())
                    self.promtool("test", "rules", "test.yaml", cwd=folder)

    def test_every_alert_is_tested_both_ways(self):
        """promtool passes an alert that no test names; so each must be expected to fire somewhere, and to be silent somewhere."""
        sidecars = {r["alert"] for g in RULES[SERVER.name]["groups"] for r in g["rules"]}
        for chart, rules in RULES.items():
            fires, silent = set(), set()
            for test in HERE.glob(f"{chart}.*alerts.yaml"):
                for case in yaml.safe_load(test.read_text())["tests"]:
                    for check in case["alert_rule_test"]:
                        (fires if check.get("exp_alerts") else silent).add(check["alertname"])
            alerts = {r["alert"] for g in rules["groups"] for r in g["rules"]}
            if chart != SERVER.name:
                alerts -= sidecars  # the same file, tested with the server's chart
            self.assertEqual(alerts - fires, set(), f"{chart}: never seen firing")
            self.assertEqual(alerts - silent, set(), f"{chart}: never seen silent")

    def test_every_series_and_label_is_exported(self):
        for chart, rules in RULES.items():
            for group in rules["groups"]:
                for rule in group["rules"]:
                    with self.subTest(chart=chart, alert=rule["alert"]):
                        self.assertTrue(names_in(rule["expr"]))
                        self.assertEqual(unknown(rule["expr"]), [])

    def test_labels_in_the_words_of_an_alert_are_there(self):
        for chart, rules in RULES.items():
            for group in rules["groups"]:
                for rule in group["rules"]:
                    words = " ".join(rule["annotations"].values())
                    kept = re.search(r"sum by \(([^)]*)\)", rule["expr"])
                    if kept and "unless" not in rule["expr"]:
                        allowed = set(re.split(r"[,\s]+", kept[1]))
                    else:
                        allowed = TARGET_LABELS | set().union(*(KNOWN.get(n, set()) for n in names_in(rule["expr"])))
                    used = set(re.findall(r"\$labels\.([a-z_]+)", words))
                    self.assertLessEqual(used, allowed, rule["alert"])

    def test_every_alert_has_a_line_in_the_guide(self):
        guide = (CHARTS / "README.md").read_text()
        for chart, rules in RULES.items():
            for group in rules["groups"]:
                for rule in group["rules"]:
                    self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                    self.assertTrue(rule["annotations"]["runbook_url"].endswith("#" + rule["alert"].lower()))
                    self.assertTrue(f'<a id="{rule["alert"].lower()}"></a>' in guide, f"{rule['alert']} has no line in charts/README.md")

    def test_the_two_charts_have_the_same_alerts_on_sidecars(self):
        a, b = (chart / "files" / "sidecar-alerts.yaml" for chart in (SERVER, INJECTOR))
        self.assertEqual(a.read_text(), b.read_text(), f"copy {a.relative_to(ROOT)} over {b.relative_to(ROOT)}")


class Dashboard:
    """What holds of every dashboard."""

    chart: pathlib.Path
    file: str
    variables: set[str]
    series: set[str]
    """Those that it must show."""
    at_least: int

    @classmethod
    def setUpClass(cls):
        cls.dashboard = json.loads((cls.chart / "files" / "dashboard.json").read_text())
        cls.panels = [p for p in cls.dashboard["panels"] if p["type"] != "row"]
        # A constant of the server's: what follows a workload's name in its pods' names.
        cls.suffix = next((v["query"] for v in cls.dashboard["templating"]["list"] if v["name"] == "suffix"), "")

    def test_every_query_is_promql_on_series_that_are_exported(self):
        rules = []
        for panel in self.panels:
            self.assertTrue(panel["targets"], panel["title"])
            for target in panel["targets"]:
                with self.subTest(panel=panel["title"], expr=target["expr"]):
                    self.assertTrue(names_in(target["expr"]))
                    self.assertEqual(unknown(target["expr"]), [])
                    wanted = set(re.findall(r"\{\{\s*([a-z_]+)\s*\}\}", target["legendFormat"]))
                    kept = re.search(r"(?:sum|min|max|count) by \(([^)]*)\)", target["expr"])
                    if kept:
                        self.assertLessEqual(wanted, set(re.split(r"[,\s]+", kept[1])))
                query = target["expr"]
                for variable, value in {"$__rate_interval": "5m", "$__range": "3h", "$namespace": ".+", "$pod": ".+", "$route": ".+", "$workload": ".+", "$suffix": self.suffix}.items():
                    query = query.replace(variable, value)
                self.assertNotIn("$", query, "a variable that the dashboard does not have")
                rules.append({"record": f"panel:{len(rules)}", "expr": query})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreaterEqual(len(rules), self.at_least)

    def test_it_shows_every_series(self):
        shown = set()
        for panel in self.panels:
            for target in panel["targets"]:
                shown |= {re.sub(r"_(bucket|sum|count)$", "", n) for n in names_in(target["expr"])}
        self.assertEqual(self.series - shown, set(), f"give them a panel in charts/{self.chart.name}/files/dashboard.json")

    def test_panels_are_complete_and_do_not_overlap(self):
        ids, taken = set(), {}
        for panel in self.dashboard["panels"]:
            self.assertNotIn(panel["id"], ids)
            ids.add(panel["id"])
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies over {taken.get((x, y))}")
                    taken[(x, y)] = panel["title"]
        for panel in self.panels:
            self.assertTrue(panel["title"] and panel["description"], panel["title"])
            self.assertEqual(panel["datasource"]["uid"], "${datasource}", "the data source is the reader's choice")
            self.assertTrue(panel["fieldConfig"]["defaults"]["unit"], panel["title"])
            refs = [t["refId"] for t in panel["targets"]]
            self.assertEqual(len(refs), len(set(refs)))
            for target in panel["targets"]:
                self.assertEqual(target["datasource"]["uid"], "${datasource}")

    def test_variables(self):
        variables = {v["name"]: v for v in self.dashboard["templating"]["list"]}
        self.assertEqual(set(variables), self.variables)
        for variable in variables.values():
            if variable["type"] == "query":
                self.assertEqual(unknown(variable["definition"]), [])

    def test_the_chart_carries_it_whole(self):
        configmap = one(documents(template(self.chart, self.chart / "ci" / "monitoring-values.yaml")), "ConfigMap", "-dashboard")
        self.assertEqual(json.loads(configmap["data"][self.file]), self.dashboard)
        self.assertEqual(configmap["metadata"]["labels"]["grafana_dashboard"], "1")


class ServerDashboard(Dashboard, unittest.TestCase):
    chart, file, at_least = SERVER, "token-sidecar.json", 20
    variables = {"datasource", "namespace", "workload", "suffix", "pod", "route"}
    series = in_table(ROOT / "README.md")

    def test_a_workload_is_its_own_pods(self):
        """What is chosen as a workload is what its pods are named after, and no other workload's pods are shown with it."""
        pods = {
            "mcp-server": ["mcp-server-6c8f9d7b5-x2x4z", "mcp-server-6c8f9d7b5-q7k9m"],
            "mcp-server-b": ["mcp-server-b-6c8f9d7b5-x2x4z"],
            "orders-db": ["orders-db-0", "orders-db-11"],
            "orders": ["orders-x2x4z"],
            "report-28937280": ["report-28937280-q7k9m"],
        }
        chosen = next(v["regex"] for v in self.dashboard["templating"]["list"] if v["name"] == "workload")
        for workload, own in pods.items():
            for pod in own:
                self.assertEqual(re.search(chosen.strip("/"), pod)[1], workload)
            shown = [p for p in sum(pods.values(), []) if re.fullmatch(f"({workload})({self.suffix})?", p)]
            self.assertEqual(shown, own)
            self.assertTrue(all(re.fullmatch(f"(.+)({self.suffix})?", p) for p in [*own, "bare"]), "all are shown of `All`")
        for panel in self.panels:
            for target in panel["targets"]:
                self.assertEqual(target["expr"].count('pod=~"$pod"'), target["expr"].count('pod=~"($workload)($suffix)?"'))


class InjectorDashboard(Dashboard, unittest.TestCase):
    chart, file, at_least = INJECTOR, "token-sidecar-injector.json", 10
    variables = {"datasource", "namespace", "pod"}
    series = in_table(ROOT / "proxy" / "README.md")


class Watcher(unittest.TestCase):
    def test_the_search_for_unknown_names_can_fail(self):
        self.assertEqual(unknown('rate(token_sidecar_exchanges_total{result="failure"}[5m])'), [])
        self.assertEqual(unknown("token_sidecar_exchange_total"), ["token_sidecar_exchange_total"])
        self.assertEqual(unknown('token_sidecar_exchanges_total{results="failure"}'), ["results"])
        self.assertEqual(unknown("sum by (tool) (token_sidecar_exchanges_total)"), ["tool"])
        self.assertEqual(unknown("sum by (tool) (mcp_server_tool_calls_total)"), [])
        self.assertEqual(unknown("token_sidecar_exchange_duration_seconds_bucket"), [])


if __name__ == "__main__":
    unittest.main()

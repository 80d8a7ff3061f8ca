"""Where the charts' pods may run and as whom: on Linux alone, and the pods of Helm's hooks, which a release waits for, wherever the Deployment's may."""

import unittest

from lib import ALL, HELMS, INJECTOR, SERVER
from lib import of_kind, one, pod_templates, refusal, render, values_of

NEEDED = {SERVER: values_of(SERVER / "ci" / "aks-values.yaml"), INJECTOR: {}}
LINUX = {"kubernetes.io/os": "linux"}


def hooks(values: dict, *extra: str) -> dict[str, dict]:
    """The injector's pods of hooks: of the check before a release and of `helm test`."""
    objects = render(INJECTOR, values, *extra)
    return {"check": one(objects, "Job")["spec"]["template"], "test": one(objects, "Pod")}


class Placement(unittest.TestCase):
    def test_no_pod_goes_to_a_node_of_windows(self):
        for chart in ALL:
            for helm_name in HELMS:
                with self.subTest(chart=chart.name, helm=helm_name):
                    for name, pod in pod_templates(render(chart, NEEDED[chart], helm_name=helm_name)):
                        self.assertEqual(pod["spec"]["nodeSelector"], LINUX, name)
                    # Beside what values say, as text; and it can be taken out.
                    for name, pod in pod_templates(render(chart, {**NEEDED[chart], "nodeSelector": {"gpu": False}}, helm_name=helm_name)):
                        self.assertEqual(pod["spec"]["nodeSelector"], {**LINUX, "gpu": "false"}, name)
                    for name, pod in pod_templates(render(chart, {**NEEDED[chart], "nodeSelector": {"kubernetes.io/os": None}}, helm_name=helm_name)):
                        self.assertNotIn("nodeSelector", pod["spec"], name)

    def test_the_hooks_pods_are_where_the_webhooks_may_be(self):
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["system"]}]}]}}
        # What is said of the webhook's pods and one another does not mean these: with one on each node, none would be left for them.
        apart = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app.kubernetes.io/part-of": "token-sidecar"}}}]}
        values = {"affinity": {"nodeAffinity": required, "podAntiAffinity": apart}, "tolerations": [{"key": "pool", "operator": "Exists"}], "priorityClassName": "high"}
        deployed = one(render(INJECTOR, values), "Deployment")["spec"]["template"]["spec"]
        self.assertEqual(deployed["affinity"], values["affinity"])
        for name, pod in hooks(values).items():
            self.assertEqual(pod["spec"]["affinity"], {"nodeAffinity": required}, name)
            for key in ("tolerations", "priorityClassName", "nodeSelector", "securityContext"):
                self.assertEqual(pod["spec"][key], deployed[key], name)
        for name, pod in hooks({"affinity": {"podAntiAffinity": apart}}).items():
            self.assertNotIn("affinity", pod["spec"], name)


class Hooks(unittest.TestCase):
    def test_their_service_account_can_be_named(self):
        for values, account in [
            ({}, "default"),
            ({"serviceAccount": {"create": False, "name": "existing"}}, "existing"),
            ({"hooks": {"serviceAccountName": "admitted"}}, "admitted"),
            ({"hooks": {"serviceAccountName": "admitted"}, "serviceAccount": {"create": False, "name": "existing"}}, "admitted"),
        ]:
            for name, pod in hooks(values).items():
                self.assertEqual(pod["spec"]["serviceAccountName"], account, (name, values))
                self.assertIs(pod["spec"]["automountServiceAccountToken"], False)
        # The webhook's own stays what it was.
        objects = render(INJECTOR, {"hooks": {"serviceAccountName": "admitted"}})
        self.assertEqual(one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], INJECTOR.name)
        self.assertEqual([o["metadata"]["name"] for o in of_kind(objects, "ServiceAccount")], [INJECTOR.name])

    def test_they_end_by_themselves(self):
        # `key:` with nothing behind it: not 0, with which they would fail at once.
        for values, seconds in [({}, 240), ({"hooks": {"activeDeadlineSeconds": 1200000}}, 1200000), ({"hooks": {"activeDeadlineSeconds": None}}, 240), ({"hooks": None, "affinity": None}, 240)]:
            objects = render(INJECTOR, values)
            self.assertEqual(one(objects, "Job")["spec"]["activeDeadlineSeconds"], seconds)
            self.assertEqual(one(objects, "Pod")["spec"]["activeDeadlineSeconds"], seconds)
        for wrong in (0, "4m", 2.5):
            for helm_name in HELMS:
                self.assertIn("activeDeadlineSeconds", refusal(INJECTOR, {"hooks": {"activeDeadlineSeconds": wrong}}, helm_name=helm_name))

    def test_no_mesh_keeps_them_from_ending(self):
        meshes = {"sidecar.istio.io/inject": "true", "linkerd.io/inject": "enabled", "consul.hashicorp.com/connect-inject": "true"}
        for chart in ALL:
            values = {**NEEDED[chart], "podLabels": {"sidecar.istio.io/inject": "true"}, "podAnnotations": meshes}
            objects = render(chart, values)
            for name, pod in pod_templates(objects):
                said = {**pod["metadata"]["annotations"], **pod["metadata"]["labels"]}
                expected = ["true", "enabled", "true"] if name.startswith("Deployment/") else ["false", "disabled", "false"]
                self.assertEqual([said[key] for key in meshes], expected, name)


if __name__ == "__main__":
    unittest.main()

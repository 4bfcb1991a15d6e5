"""The chart renders for every documented set of values, and refuses values that would not work."""

import json
import tomllib
import unittest

import helm_python
import kubernetes_validate
import yaml
from chart import CHART, VALUES, container, merged, objects, only, set_of, values_of
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from manifests import FOLDER, manifests
from project import environment_names, known_variables, read, setting_keys, version

# The oldest that the chart accepts, and the newest whose schemas there are.
KUBERNETES = ("1.30", "1.37")
# What the chart sets itself.
SET_BY_THE_CHART = {"config", "http", "store", "catalog", "grpc", "gateway", "journal"}


def documented():
    return [("the defaults", {})] + [(path.name, values_of(path)) for path in VALUES]


def only_settings(found):
    """The text of tollgate.toml."""
    (one,) = [one["data"]["tollgate.toml"] for one in found if "tollgate.toml" in one.get("data", {})]
    return one


class Rendering(unittest.TestCase):
    def test_helm_lint_finds_nothing(self):
        for name, values in documented():
            report = helm_python.lint(str(CHART), values, strict=True, kube_version="v1.33.0")
            serious = [message for message in report["messages"] if message["severity"] > 1]
            self.assertEqual((serious, report["errors"]), ([], []), name)

    def test_every_object_matches_the_schemas_of_kubernetes(self):
        for name, values in documented():
            for one in objects(values):
                with self.subTest(values=name, kind=one["kind"]):
                    if one["apiVersion"] == "monitoring.coreos.com/v1":
                        model = getattr(prometheus_operator, one["kind"]).model_validate(one)
                        # The model ignores fields that it does not know.
                        self.assertEqual(model.model_dump(by_alias=True, exclude_unset=True, mode="json"), one)
                        continue
                    for release in KUBERNETES:
                        kubernetes_validate.validate(one, release, strict=True)

    def test_the_plain_manifests_are_those_of_the_chart(self):
        written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
        self.assertEqual(written, manifests(), "run `scripts/deploy manifests`")

    def test_its_version_is_that_of_the_program(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual((chart["version"], chart["appVersion"]), (version(), version()))

    def test_it_sets_only_variables_that_exist(self):
        for name, values in documented():
            variables = {one["name"] for one in container(objects(values))["env"]}
            self.assertLessEqual(variables, known_variables(), name)
        texts = [(CHART / "values.yaml").read_text(), *(path.read_text() for path in VALUES)]
        self.assertLessEqual(environment_names("\n".join(texts)), known_variables())

    def test_its_schema_has_every_setting(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        settings = set(schema["properties"]["settings"]["properties"])
        self.assertEqual(settings, setting_keys() - SET_BY_THE_CHART)

    def test_numbers_in_settings_stay_whole(self):
        # A sample is accepted with a recording only.
        record = {"record": "trace", "record_sample": "0.5"}
        found = objects({"settings": {"max_body_memory_bytes": 1_099_511_627_776, "start_degraded": True, **record}})
        text = only(found, "ConfigMap")["data"]["tollgate.toml"]
        self.assertIn("max_body_memory_bytes = 1099511627776\n", text)
        self.assertIn("start_degraded = true\n", text)
        self.assertIn('record_sample = "0.5"', text)

    def test_replicas_without_the_store_admit_no_more_than_the_limit(self):
        redis = set_of("redis.yaml")
        for name, changes, nodes in (
            ("single.yaml", {}, None),
            ("redis.yaml", {}, redis["autoscaling"]["maxReplicas"]),
            ("redis.yaml", {"autoscaling": {"maxReplicas": 40}}, 40),
            ("redis.yaml", {"settings": {"nodes": 100}}, 100),
            ("gateway.yaml", {}, 3),
            ("gateway.yaml", {"replicaCount": 5}, 5),
            ("sidecar.yaml", {}, 3),
        ):
            with self.subTest(values=name, changes=changes):
                text = only_settings(objects(merged(set_of(name), changes)))
                self.assertEqual(tomllib.loads(text).get("nodes"), nodes)

    def test_a_change_of_the_number_of_nodes_restarts_the_pods(self):
        def checksum(changes):
            found = objects(merged(set_of("gateway.yaml"), changes))
            return only(found, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

        self.assertNotEqual(checksum({}), checksum({"replicaCount": 5}))
        self.assertEqual(checksum({"settings": {"nodes": 9}}), checksum({"settings": {"nodes": 9}, "replicaCount": 5}))


class Pods(unittest.TestCase):
    def test_no_container_has_rights(self):
        for name, values in documented():
            context = container(objects(values))["securityContext"]
            with self.subTest(name):
                self.assertTrue(context["runAsNonRoot"] and context["readOnlyRootFilesystem"])
                self.assertFalse(context["allowPrivilegeEscalation"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertEqual(f"{context['runAsUser']}:{context['runAsGroup']}", "65532:65532")
                self.assertIn("USER 65532:65532\n", read("deploy/Dockerfile"))

    def test_the_kubelet_probes_only_what_it_reaches(self):
        for name, values in documented():
            one = container(objects(values))
            address = next(variable["value"] for variable in one["env"] if variable["name"] == "TOLLGATE_HTTP")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                with self.subTest(values=name, probe=probe):
                    # A server on loopback is asked from inside its container.
                    self.assertEqual("exec" in one[probe], address.startswith("127."))
                    self.assertEqual("httpGet" in one[probe], not address.startswith("127."))

    def test_a_pod_does_not_start_without_the_store_and_the_catalog_of_its_secret(self):
        for name in ("redis.yaml", "gateway.yaml", "sidecar.yaml"):
            values = set_of(name)
            variables = {one["name"]: one for one in container(objects(merged(values, {"secretName": "mine"})))["env"]}
            for part in ("store", "catalog"):
                key = f"TOLLGATE_{part.upper()}"
                with self.subTest(values=name, key=key):
                    if values.get(part, {}).get("fromSecret"):
                        # `optional` would let it start.
                        self.assertEqual(variables[key], {"name": key, "valueFrom": {"secretKeyRef": {"name": "mine", "key": key}}})
                    else:
                        self.assertIn("value", variables[key])

    def test_a_sidecar_starts_before_its_pod_and_runs_beside_it(self):
        pod = only(objects(set_of("sidecar.yaml")), "Deployment")["spec"]["template"]["spec"]
        self.assertEqual([one["name"] for one in pod["containers"]], ["proxy"])
        (sidecar,) = pod["initContainers"]
        self.assertEqual((sidecar["name"], sidecar["restartPolicy"]), ("tollgate", "Always"))
        self.assertEqual(sidecar["startupProbe"]["exec"]["command"], ["/usr/local/bin/tollgate", "health"])

    def test_a_budget_and_a_service_select_the_pods(self):
        found = objects(set_of("redis.yaml"))
        labels = only(found, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
        for kind, selector in (
            ("Service", only(found, "Service")["spec"]["selector"]),
            ("PodDisruptionBudget", only(found, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]),
            ("NetworkPolicy", only(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]),
        ):
            self.assertLessEqual(selector.items(), labels, kind)

    def test_prometheus_reaches_what_it_is_told_to_scrape(self):
        for name, values in documented():
            found = objects(values)
            if any(one["kind"] == "ServiceMonitor" for one in found):
                rules = only(found, "NetworkPolicy")["spec"]["ingress"]
                admitted = [peer for rule in rules if {"port": "http", "protocol": "TCP"} in rule["ports"] for peer in rule["from"]]
                monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
                self.assertIn(monitoring, admitted, name)

    def test_there_is_time_to_drain(self):
        for name, values in documented():
            found = objects(values)
            pod = only(found, "Deployment")["spec"]["template"]["spec"]
            pause = container(found).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            drain = values.get("settings", {}).get("drain_timeout_ms", 8_000) / 1_000
            self.assertGreater(pod["terminationGracePeriodSeconds"], pause + drain, name)

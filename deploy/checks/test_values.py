"""The chart refuses values that would render and not work, with a message that names the value and says what is accepted."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml
from chart import CHART, container, merged, objects, only, parsed, set_of, templates_of
from project import known_variables
from test_program import environment, program

SINGLE, REDIS, GATEWAY, SIDECAR = (set_of(f"{name}.yaml") for name in ("single", "redis", "gateway", "sidecar"))
# Never in a message.
PASSWORD = "correct-horse"
FROM_SECRET = {"secretKeyRef": {"name": "mine", "key": "token"}}
# Those that a Secret holds. The chart sets each of the others itself, or has a value for it.
SECRETS = {"TOLLGATE_ADMIN_TOKEN", "TOLLGATE_ADMIN_READ_TOKEN", "TOLLGATE_ADMIN_TOKENS", "TOLLGATE_API_KEY_SECRET"}
CA = {"name": "redis-ca", "secret": {"secretName": "redis-ca"}}
CA_MOUNT = {"name": "redis-ca", "mountPath": "/etc/redis-ca", "readOnly": True}
PROXY = SIDECAR["sidecar"]["containers"][0]

GOOD_STORES = (
    "memory:", "memory:/var/lib/tollgate/usage", "memory:usage?max_keys=5000", "redis://redis", "redis://redis:6379/0", "rediss://[::1]:6379",
    "rediss://redis/0?prefix=a:&ca=/etc/ca.crt", "rediss-sentinel://a:1,b:2/main/0", "valkey-sentinel://a/main", "valkey-cluster://a:6379",
    "redis-cluster://a,b:7000", "redis+unix:///run/redis.sock?db=3", "unix:///run/redis.sock", "memcached://cache:11211", "memcached://cache?prefix=a:",
)  # fmt: skip
BAD_STORES = (
    "", "redis", "mysql://db", "redis://", "redis://:6379", "redis:///0", "redis://redis:port", "redis://redis:0", "redis://redis:65536", "redis://redis/first",
    "redis://a:1,b:2", "redis://redis#a", "redis-cluster://", "redis-cluster://a/3", "redis-cluster://a,", "redis-sentinel://a:1", "redis-sentinel:///main",
    "redis+unix://", "unix://", "memcached://", "memcached://cache/0", "memcached://a,b", "memory://usage", "memory:~/usage", "memory:?keys=5",
    "memory:?max_keys=0",
)  # fmt: skip


# For each text setting: values that are accepted, then values that are refused.
TEXTS = {
    "allowed_hosts": (("tollgate.internal", "a.example, b-c.example d"), ("b!!", "a.example:80", "http://a.example", "a,-b")),
    "trusted_proxies": (("10.0.0.0/8, 2001:db8::/32", "10.0.0.1 ::1"), ("proxy", "10.0.0.0/x", "10.0.0.0/33", "10.0.0")),
    "auth_headers": (("user=x-user-id, cost=x-cost", "user=x-user-id model=x-model"), ("x-user-id", "user=", "=x", "user=x y")),
    "record": (("/var/lib/tollgate/trace", "trace"), ("/data/trace", "/var/lib/tollgate/../trace")),
    "record_sample": (("0.25", "1", "0"), ("2", "a", ".5", "0.1234567")),
    "otlp_endpoint": (("http://collector:4318", "https://otel.example/v1"), ("collector:4318", "http://a@b", "http://a?b", "http://a:70000")),
    "otlp_sample": (("0.25", "1", "0"), ("2", "a", ".5", "0.1234567")),
}
# What else has to be set.
NEEDS = {
    "snapshot_every_ms": {"store": {"url": "memory:usage"}},
    "max_body_bytes": {"settings": {"max_body_memory_bytes": 1073741824}},
    "max_batch_body_bytes": {"settings": {"max_body_memory_bytes": 1073741824}},
    "drain_timeout_ms": {"terminationGracePeriodSeconds": 3600},
    "record_sample": {"settings": {"record": "trace"}},
    "record_max_bytes": {"settings": {"record": "trace"}},
    "record_hash_ids": {"settings": {"record": "trace"}},
    "otlp_sample": {"settings": {"otlp_endpoint": "http://collector:4318"}},
}


# These mean nothing without the others, and the program refuses them alone.
ALONE_REFUSED = {"snapshot_every_ms", "record_sample", "record_max_bytes", "record_hash_ids", "otlp_sample"}
# The values of a setting that are tried.
EDGES = {"boolean": lambda _: (True, False), "integer": lambda schema: (schema["minimum"], schema["maximum"])}


def message(values):
    """What the chart says about values that it refuses, or nothing."""
    try:
        objects(values)
    except helm_python.HelmError as error:
        return str(error)
    return None


class Case(unittest.TestCase):
    def refused(self, base, changes, *words):
        with self.subTest(changes):
            said = message(merged(base, changes))
            self.assertIsNotNone(said)
            for word in words:
                self.assertIn(word, said)
            self.assertNotIn(PASSWORD, said)
            # What a schema says that does not name what is accepted.
            for word in ("'not' failed", "'anyOf' failed", "does not match pattern", "<nil>", "%!"):
                self.assertNotIn(word, said)

    def accepted(self, base, changes):
        with self.subTest(changes):
            self.assertIsNone(message(merged(base, changes)))


class Values(Case):
    def test_the_schema_refuses_unknown_names_wrong_types_and_numbers_out_of_range(self):
        for changes, *words in (
            ({"mode": "daemon"}, "mode", "'server', 'sidecar'"),
            ({"replicas": 3}, "replicas"),
            ({"replicaCount": "three"}, "replicaCount", "want integer"),
            ({"settings": {"max_keyz": 5}}, "max_keyz"),
            ({"settings": {"max_keys": 0}}, "max_keys", "want 1"),
            ({"settings": {"http": "0.0.0.0:80"}}, "http"),
            ({"settings": {"on_store_error": "maybe"}}, "on_store_error", "'allow', 'deny', 'local'"),
            ({"service": {"type": "Ingress"}}, "type", "ClusterIP"),
            ({"networkPolicy": {"from": []}}, "from", "want 1"),
            ({"gateway": {"enabled": True, "config": {"models": [{"id": "a"}]}}}, "upstreams"),
            ({"sidecar": {"containers": [{"name": "proxy"}]}}, "image"),
            ({"terminationGracePeriodSeconds": 1}, "terminationGracePeriodSeconds", "want 15"),
            ({"podDisruptionBudget": {"maxUnavailable": -1}}, "maxUnavailable", "want 0"),
            ({"extraEnv": [{"value": PASSWORD}]}, "extraEnv/0", "name"),
            ({"extraEnv": [{"name": "A", "value": 5}]}, "extraEnv/0/value", "want string"),
            ({"extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mine"}}}]}, "extraEnv/0/valueFrom", "key"),
            ({"extraVolumeMounts": [{"name": "data"}]}, "extraVolumeMounts/0", "mountPath"),
        ):
            self.refused({}, changes, *words)

    def test_the_schema_has_nothing_whose_violation_prints_a_text_or_says_only_that_it_failed(self):
        def keywords(schema):
            if isinstance(schema, dict):
                yield from schema
            for one in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
                yield from keywords(one)

        found = set(keywords(json.loads((CHART / "values.schema.json").read_text())))
        self.assertEqual(found & {"pattern", "not", "anyOf", "oneOf", "contains", "format"}, set())

    def test_a_text_in_the_wrong_form_is_named_with_the_right_one(self):
        for changes, *words in (
            ({"image": {"repository": "registry.example/tollgate:0.1.0"}}, "image.repository", "without a tag"),
            ({"image": {"tag": "a b"}}, "image.tag"),
            ({"image": {"digest": "latest"}}, "image.digest", "sha256:"),
            ({"secretName": "My_Secret"}, "secretName", "lower-case"),
            ({"persistence": {"size": "10"}}, "persistence.size", "10Gi"),
            ({"serviceMonitor": {"interval": "often"}}, "serviceMonitor.interval", "15s"),
            ({"podDisruptionBudget": {"maxUnavailable": "999%"}}, "podDisruptionBudget.maxUnavailable", '"999%"', "0% to 100%"),
            ({"podDisruptionBudget": {"maxUnavailable": "one"}}, "podDisruptionBudget.maxUnavailable", "0% to 100%"),
            ({"settings": {"otlp_endpoint": f"http://me:{PASSWORD}@collector:4318"}}, "settings.otlp_endpoint", "OTEL_EXPORTER_OTLP_HEADERS"),
            ({"gateway": {"config": {"listen": "0.0.0.0:1"}}}, "gateway.config.listen", "without `listen`"),
        ):
            self.refused({}, changes, *words)
        for changes in ({"image": {"repository": "REGISTRY/tollgate"}}, {"image": {"repository": "localhost:5000/a/b-c"}}, {"secretName": "a.b-c"},
                        {"podDisruptionBudget": {"enabled": True, "maxUnavailable": "100%"}}, {"settings": {"otlp_endpoint": "http://otel.svc:4318/v1"}}):  # fmt: skip
            self.accepted({}, changes)

    def test_stores_are_those_that_the_program_accepts(self):
        for url, is_good in [(url, True) for url in GOOD_STORES] + [(url, False) for url in BAD_STORES]:
            with self.subTest(url), tempfile.TemporaryDirectory() as folder:
                # It tells all invalid settings, and so does not start with a valid store.
                env = environment({"TOLLGATE_HTTP": "nowhere", "TOLLGATE_STORE": url})
                done = subprocess.run([program(), "serve"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
                self.assertEqual((done.returncode, "TOLLGATE_STORE" not in done.stderr), (2, is_good), done.stderr)
            if is_good:
                self.accepted({}, {"store": {"url": url}})
            else:
                self.refused({}, {"store": {"url": url}}, "store.url", "redis://HOST")

    def test_no_login_gets_into_a_deployment_or_a_message(self):
        for url in (f"redis://:{PASSWORD}@redis:6379/0", f"redis://{PASSWORD}@redis", f"redis-sentinel://a/main?sentinel_password={PASSWORD}", f"mysql://a:{PASSWORD}@b"):
            self.refused({}, {"store": {"url": url}}, "store.url", "store.fromSecret")
        for url in (f"postgres://tollgate:{PASSWORD}@db/tollgate", f"postgresql://db/tollgate?user=a&password={PASSWORD}", f"postgres://a@{PASSWORD}@db/b"):
            self.refused({}, {"catalog": {"url": url}}, "catalog.url", "catalog.fromSecret")
        # PostgreSQL and Redis decode the names of options.
        self.refused({}, {"catalog": {"url": f"postgres://db/tollgate?pass%77ord={PASSWORD}"}}, "catalog.url", "catalog.fromSecret")
        self.refused({}, {"store": {"url": f"redis-sentinel://a/main?sentinel%5Fpassword={PASSWORD}"}}, "store.url", "store.fromSecret")
        for url in (f"mongodb://a:{PASSWORD}@db", "postgres://", "postgres://db", "sqlite"):
            self.refused({}, {"catalog": {"url": url}}, "catalog.url", "postgres://[USER@]HOST")
        for url in ("postgres://db/tollgate", "postgresql://tollgate@db:5432/tollgate?sslmode=require", "sqlite:tollgate.db", "sqlite:///var/lib/tollgate/a.db"):
            self.accepted({}, {"catalog": {"url": url}})

    def test_data_is_where_the_container_can_write(self):
        self.refused({}, {"store": {"url": "memory:/data"}}, "store.url", "read-only", "/var/lib/tollgate/")
        self.refused({}, {"store": {"url": "memory:/var/lib/tollgate/../usage"}}, "store.url", "read-only")
        self.refused({}, {"catalog": {"url": "sqlite:/data/tollgate.db"}}, "catalog.url", "read-only", "/var/lib/tollgate/")

    def test_settings_that_the_server_refuses_with_this_store_are_refused(self):
        memory = {"store": {"url": "memory:"}}
        for base, settings, *words in (
            (REDIS, {"max_keys": 5000}, "settings.max_keys", "memory:"),
            ({"store": {"url": "memcached://cache"}}, {"max_keys": 5000}, "settings.max_keys"),
            ({"store": {"url": "memory:?max_keys=5"}}, {"max_keys": 5000}, "settings.max_keys", "one of the two"),
            (REDIS, {"snapshot_every_ms": 5000}, "settings.snapshot_every_ms", "memory:DIR"),
            (memory, {"snapshot_every_ms": 5000}, "settings.snapshot_every_ms", "memory:DIR"),
            (memory, {"max_body_bytes": 67108864}, "settings.max_body_memory_bytes", "at least 67117056"),
        ):
            self.refused(base, {"settings": settings}, *words)
        self.accepted(SINGLE, {"settings": {"max_keys": 5000, "snapshot_every_ms": 5000}})
        self.accepted(memory, {"settings": {"max_keys": 5000}})

    def test_settings_are_those_that_the_program_accepts(self):
        schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["properties"]
        for key, one in schema.items():
            good, bad = TEXTS.get(key) or (one.get("enum") or EDGES[one["type"]](one), ())
            for value, is_good in [(value, True) for value in good] + [(value, False) for value in bad]:
                changes = merged(NEEDS.get(key, {}), {"settings": {key: value}})
                if not is_good:
                    self.refused(NEEDS.get(key, {}), {"settings": {key: value}}, f"settings.{key}: ", "accepted: ")
                    continue
                with self.subTest(changes):
                    self.assertIsNone(message(changes))
                    self.assertEqual(self.program_says(changes), "")
                if key in ALONE_REFUSED:
                    self.refused({}, {"settings": {key: value}}, f"settings.{key}: ", "accepted: with ")

    def program_says(self, values):
        """The problems that the program finds in the settings that the chart renders."""
        found = objects(values)
        (settings,) = [one["data"]["tollgate.toml"] for one in found if "tollgate.toml" in one.get("data", {})]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tollgate.toml").write_text(settings)
            variables = {one["name"]: one["value"] for one in container(found)["env"] if "value" in one}
            # It tells all invalid settings, and so does not start with valid ones.
            env = environment({**variables, "TOLLGATE_CONFIG": "tollgate.toml", "TOLLGATE_HTTP": "nowhere"})
            done = subprocess.run([program(), "serve"], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        return "".join(line for line in done.stderr.splitlines() if "TOLLGATE_HTTP" not in line)

    def test_a_pod_has_time_to_drain(self):
        self.refused({}, {"settings": {"drain_timeout_ms": 120_000}}, "terminationGracePeriodSeconds", "60 s", "drain_timeout_ms", "at least 127")
        self.refused({}, {"settings": {"drain_timeout_ms": 53_001}}, "terminationGracePeriodSeconds", "at least 61")
        self.refused(SIDECAR, {"settings": {"drain_timeout_ms": 60_000}}, "terminationGracePeriodSeconds", "at least 62")
        self.refused(GATEWAY, {"terminationGracePeriodSeconds": 60}, "terminationGracePeriodSeconds", "at least 127")
        self.accepted({}, {"settings": {"drain_timeout_ms": 53_000}})
        self.accepted({}, {"settings": {"drain_timeout_ms": 0}, "terminationGracePeriodSeconds": 15})

    def test_the_autoscaler_can_work(self):
        self.refused(REDIS, {"autoscaling": {"minReplicas": 13}}, "autoscaling.minReplicas", "13", "1 to 12")
        self.refused(REDIS, {"resources": {"requests": {"cpu": None}}}, "resources.requests.cpu", "autoscaling.enabled")
        self.refused(SIDECAR, {"autoscaling": {"enabled": True}}, "sidecar.containers[0].resources.requests.cpu", "autoscaling.enabled")
        self.accepted(REDIS, {"autoscaling": {"minReplicas": 12}})
        self.accepted({}, {"autoscaling": {"minReplicas": 13}})

    def test_resources_are_quantities_that_kubernetes_accepts(self):
        for amount in ("lots", "1 Gi", "256mb", "-1", "", -1):
            self.refused({}, {"resources": {"limits": {"memory": amount}}}, "resources.limits.memory", "is not a quantity", "256Mi")
        self.refused({}, {"resources": {"requests": {"cpus": 1}}}, "resources.requests.cpus", "cpu, memory")
        self.refused({}, {"resources": {"requests": {"memory": "2Gi"}}}, "resources.requests.memory", "2Gi", "1Gi")
        self.refused({}, {"resources": {"requests": {"cpu": "1.5"}, "limits": {"cpu": "1400m"}}}, "resources.requests.cpu")
        for amount in ("1Gi", 2147483648, "1.5Gi", "2G", "1e9", "1073741824000m"):
            self.accepted({}, {"resources": {"limits": {"memory": amount, "nvidia.com/gpu": 1}}})
        self.accepted({}, {"resources": {"requests": {"cpu": 0.5}, "limits": {"cpu": "500m"}}})

    def test_labels_of_the_chart_stay_its_own(self):
        for own in ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"):
            self.refused(SIDECAR, {"sidecar": {"podLabels": {own: "proxy"}}}, "sidecar.podLabels", own, "accepted: other labels")
        for where in ("serviceMonitor", "prometheusRule", "dashboard"):
            self.refused({}, {where: {"labels": {"app.kubernetes.io/name": "a"}}}, f"{where}.labels", "accepted: other labels")
        self.refused(SIDECAR, {"sidecar": {"podLabels": {"team": "a b"}}}, "sidecar.podLabels", "is not a label")
        self.refused({}, {"podAnnotations": {"checksum/settings": "1"}}, "podAnnotations", "checksum/settings")

    def test_a_sidecar_shares_a_pod(self):
        self.refused(SIDECAR, {"sidecar": {"containers": [{**PROXY, "name": "tollgate"}]}}, "sidecar.containers[0].name", "tollgate")
        self.refused(SIDECAR, {"sidecar": {"containers": [PROXY, PROXY]}}, "sidecar.containers[1].name", "proxy")
        taken = {**PROXY, "ports": [{"containerPort": 8080}, {"containerPort": 8000}]}
        self.refused(SIDECAR, {"sidecar": {"containers": [taken]}}, "sidecar.containers[0].ports", "8000")
        self.refused(SIDECAR, {"serviceMonitor": {"enabled": True}}, "serviceMonitor.enabled", "loopback")
        self.refused({}, {"sidecar": SIDECAR["sidecar"]}, "sidecar", "mode: sidecar")
        self.accepted(SIDECAR, {"sidecar": {"containers": [{**PROXY, "ports": [{"containerPort": 8001}]}]}})
        self.accepted(SIDECAR, {"store": {"fromSecret": False, "url": "memory:"}, "replicaCount": 1})

    def test_what_would_not_work_together_is_refused_with_a_reason(self):
        for base, changes, *words in (
            ({}, {"replicaCount": 2}, "store.url", "count apart"),
            ({}, {"autoscaling": {"enabled": True}}, "store.url", "count apart"),
            (SIDECAR, {"store": {"fromSecret": False, "url": "memory:"}}, "store.url", "count apart"),
            (SIDECAR, {"store": {"fromSecret": False}, "replicaCount": 1, "autoscaling": {"enabled": True}}, "store.url", "count apart"),
            (SINGLE, {"store": {"url": "redis://redis"}, "replicaCount": 2}, "catalog.url", "SQLite"),
            (SIDECAR, {"catalog": {"url": "sqlite:/var/lib/tollgate/tollgate.db"}}, "catalog.url", "SQLite"),
            (REDIS, {"persistence": {"enabled": True}}, "persistence.enabled"),
            (REDIS, {"settings": {"nodes": 3}}, "settings.nodes", "3", "12"),
            (SIDECAR, {"settings": {"nodes": 2}}, "settings.nodes"),
            (SIDECAR, {"persistence": {"enabled": True}}, "persistence.enabled", "sidecar"),
            (GATEWAY, {"catalog": {"fromSecret": False}}, "gateway.enabled", "database"),
            (GATEWAY, {"mode": "sidecar", "sidecar": SIDECAR["sidecar"]}, "gateway.enabled", "mode: server"),
            (REDIS, {"store": {"url": "redis://redis"}}, "store.url", "store.fromSecret", "one of the two"),
            (GATEWAY, {"catalog": {"url": "postgres://db/tollgate"}}, "catalog.url", "catalog.fromSecret", "one of the two"),
            ({}, {"secretName": ""}, "secretName", "TOLLGATE_ADMIN_TOKEN"),
            ({}, {"serviceMonitor": {"enabled": True}}, "networkPolicy.metricsFrom", "serviceMonitor"),
            (SIDECAR, {"secretName": ""}, "secretName", "store.fromSecret"),
            (SIDECAR, {"secretName": "", "store": {"fromSecret": False, "url": "redis://redis"}, "catalog": {"url": "postgres://db/a"}}, "TOLLGATE_API_KEY_SECRET"),
            ({}, {"mode": "sidecar"}, "sidecar.containers", "at least one"),
        ):
            self.refused(base, changes, *words)

    def test_replicas_share_no_store_at_a_loopback_address_or_a_socket(self):
        for url in ("redis://localhost", "redis://127.0.0.1:6379", "rediss://[::1]/0", "redis-cluster://a,localhost:1", "memcached://127.0.0.1", "redis+unix:///run/redis.sock", "unix:///a"):
            store = {"store": {"fromSecret": False, "url": url}}
            self.refused({}, {**store, "replicaCount": 3}, "store.url", "count apart")
            self.refused(SIDECAR, store, "store.url", "count apart")
            self.accepted({}, store)
        self.accepted({}, {"store": {"url": "redis://localhost.example"}, "replicaCount": 3})

    def test_a_gateway_needs_a_store_with_leases(self):
        self.refused(GATEWAY, {"store": {"fromSecret": False, "url": "memcached://cache"}}, "store.url", "leases")

    def test_all_that_is_wrong_is_told_at_once(self):
        self.refused({}, {"replicaCount": 2, "persistence": {"size": "10"}, "secretName": ""}, "\nstore.url: ", "\npersistence.size: ", "\nsecretName: ")


class Extra(Case):
    def extras(self):
        return {
            "extraEnv": [{"name": "VLLM_KEY", "valueFrom": FROM_SECRET}, {"name": "OTEL_SERVICE_NAME", "value": "limits"}],
            "extraVolumes": [CA, {"name": "scratch", "emptyDir": {}}],
            "extraVolumeMounts": [CA_MOUNT, {"name": "scratch", "mountPath": "/var/lib/tollgate/scratch"}],
        }

    def test_variables_and_volumes_are_added_in_each_mode(self):
        for base in ({}, SINGLE, REDIS, GATEWAY, SIDECAR):
            before, extras = objects(base), self.extras()
            found = objects(merged(base, extras))
            for key, extra in (("env", "extraEnv"), ("volumeMounts", "extraVolumeMounts")):
                self.assertEqual(container(found)[key], container(before)[key] + extras[extra])
            volumes = [only(one, "Deployment")["spec"]["template"]["spec"]["volumes"] for one in (before, found)]
            self.assertEqual(volumes[1], volumes[0] + extras["extraVolumes"])
            for release in ("1.30", "1.37"):
                kubernetes_validate.validate(only(found, "Deployment"), release, strict=True)

    def test_the_examples_in_the_values_are_accepted(self):
        text = (CHART / "values.yaml").read_text()
        examples = {name: text.split(f"#   {name}: ")[1].splitlines()[0] for name in self.extras()}
        self.accepted(GATEWAY, {name: yaml.safe_load(example) for name, example in examples.items()})

    def test_a_container_of_yours_can_mount_them_too(self):
        proxy = {**PROXY, "volumeMounts": [{"name": "redis-ca", "mountPath": "/ca"}]}
        self.accepted(SIDECAR, {"extraVolumes": [CA], "sidecar": {"containers": [proxy]}})

    def test_a_recording_can_be_in_a_volume_of_yours(self):
        values = {"settings": {"record": "/traces/a"}, "extraVolumes": [{"name": "traces", "emptyDir": {}}]}
        mount = {"name": "traces", "mountPath": "/traces"}
        self.accepted(values, {"extraVolumeMounts": [mount]})
        for unfit in ({**mount, "readOnly": True}, {**mount, "mountPath": "/trace"}):
            self.refused(values, {"extraVolumeMounts": [unfit]}, "settings.record", "extraVolumeMounts")

    def test_the_variable_of_the_standard_names_a_collector_too(self):
        collector = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}
        self.accepted({"settings": {"otlp_sample": "0.25"}}, {"extraEnv": [collector]})

    def test_a_setting_has_one_place(self):
        for name in sorted(known_variables()):
            if name in SECRETS:
                self.accepted({}, {"extraEnv": [{"name": name, "valueFrom": FROM_SECRET}]})
                self.refused({}, {"extraEnv": [{"name": name, "value": PASSWORD}]}, "extraEnv[0]", name, "secretKeyRef")
            else:
                self.refused({}, {"extraEnv": [{"name": name, "value": PASSWORD}]}, "extraEnv[0].name", name, "accepted: ")
        self.refused({}, {"extraEnv": [{"name": "TOLLGATE_STORE", "value": "memory:"}]}, "accepted: store.url or store.fromSecret")
        self.refused({}, {"extraEnv": [{"name": "TOLLGATE_NODES", "value": "2"}]}, "accepted: settings.nodes")

    def test_no_login_of_a_collector_gets_into_a_deployment(self):
        for name in ("HEADERS", "TRACES_HEADERS", "METRICS_HEADERS"):
            name = f"OTEL_EXPORTER_OTLP_{name}"
            self.refused({}, {"extraEnv": [{"name": name, "value": f"authorization=Bearer {PASSWORD}"}]}, "extraEnv[0]", name, "secretKeyRef")
            self.accepted({}, {"extraEnv": [{"name": name, "valueFrom": FROM_SECRET}]})
        for name in ("ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT"):
            name = f"OTEL_EXPORTER_OTLP_{name}"
            self.refused({}, {"extraEnv": [{"name": name, "value": f"http://me:{PASSWORD}@collector:4318"}]}, "extraEnv[0]", name, "without a user")
            self.accepted({}, {"extraEnv": [{"name": name, "value": "http://collector:4318"}]})

    def test_variables_that_kubernetes_refuses_or_ignores_are_refused(self):
        self.refused({}, {"extraEnv": [{"name": f"A={PASSWORD}"}]}, "extraEnv[0].name", "is not the name of a variable")
        self.refused({}, {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": PASSWORD}]}, "extraEnv[1].name", "given twice")
        self.refused({}, {"extraEnv": [{"name": "A", "value": "1", "valueFrom": FROM_SECRET}]}, "extraEnv[0]", "one of the two")

    def test_the_token_may_come_without_a_secret_of_the_chart(self):
        self.accepted({}, {"secretName": "", "extraEnv": [{"name": "TOLLGATE_ADMIN_TOKEN", "valueFrom": FROM_SECRET}]})

    def test_names_and_paths_of_volumes_do_not_clash(self):
        for own in ("config", "data", "redis-ca"):
            self.refused({}, {"extraVolumes": [CA, {"name": own, "emptyDir": {}}]}, "extraVolumes[1].name", own, "config and data")
        self.refused({}, {"extraVolumes": [{"name": "Redis_CA", "emptyDir": {}}]}, "extraVolumes[0].name", "lower-case")
        self.refused({}, {"extraVolumes": [{"name": "a"}]}, "extraVolumes[0]", "0 sources", "one source")
        self.refused({}, {"extraVolumes": [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "extraVolumes[0]", "2 sources")
        base = {"extraVolumes": [CA]}
        self.refused(base, {"extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}]}, "extraVolumeMounts[0].name", '"ca"', "data, redis-ca")
        self.refused(base, {"extraVolumeMounts": [{"name": "config", "mountPath": "/ca"}]}, "extraVolumeMounts[0].name", "data, redis-ca")
        self.refused(base, {"extraVolumeMounts": [CA_MOUNT, CA_MOUNT]}, "extraVolumeMounts[1].mountPath", "/etc/redis-ca")
        for path in ("/var/lib/tollgate", "/var/lib/tollgate/", "/var/lib", "/etc/tollgate", "/etc/tollgate/ca", "/etc", "/", "/usr/local/bin",
                     "/usr/local/bin/tollgate", "/etc/x/../tollgate", "ca", "/a:b"):  # fmt: skip
            self.refused(base, {"extraVolumeMounts": [{**CA_MOUNT, "mountPath": path}]}, "extraVolumeMounts[0].mountPath", "accepted: ")
        for path in ("/etc/tollgate-ca", "/var/lib/tollgate/ca", "/usr/local/bin/other", "/ca/"):
            self.accepted(base, {"extraVolumeMounts": [{**CA_MOUNT, "mountPath": path}]})


class Names(unittest.TestCase):
    def test_every_name_has_that_of_the_program_and_none_is_shortened(self):
        for release, name in (("a" * 41, f"{'a' * 41}-tollgate"), ("a" * 42 + "tollgate", "a" * 42 + "tollgate"), ("tollgate", "tollgate")):
            services = [one["metadata"]["name"] for one in parsed(templates_of({}, release)) if one["kind"] == "Service"]
            self.assertEqual(services, [name])
        for release in ("a" * 42, "a" * 43 + "tollgate"):
            with self.assertRaises(helm_python.HelmError) as raised:
                templates_of({}, release)
            self.assertIn("the name of the release", str(raised.exception))

    def test_a_class_of_storage_is_a_text(self):
        [claim] = [one for one in objects(merged(SINGLE, {"persistence": {"storageClassName": "-"}})) if one["kind"] == "PersistentVolumeClaim"]
        self.assertEqual(claim["spec"]["storageClassName"], "-")

    def test_the_notes_say_that_the_network_policy_keeps_callers_out(self):
        def notes(values):
            return next(text for path, text in templates_of(values).items() if path.endswith("NOTES.txt"))

        for kind in ("LoadBalancer", "NodePort"):
            self.assertIn("networkPolicy.from", notes({"service": {"type": kind}}))
        for values in ({}, {"service": {"type": "NodePort"}, "networkPolicy": {"enabled": False}}):
            self.assertNotIn("networkPolicy.from", notes(values))

"""The program itself accepts the settings, policies and gateways that deploy/ gives it."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from chart import CHART, VALUES, objects, values_of
from monitored import TOKEN, call, process, wait_for
from project import read

# What an upstream's key is called in an example.
KEYS = {"VLLM_KEY": "a-key", "MODEL_API_KEY": "a-key"}


def program():
    path = os.environ.get("TOLLGATE_BIN")
    if not path:
        raise AssertionError("TOLLGATE_BIN is not set; accepted: the path of a built `tollgate`")
    return path


def environment(settings):
    others = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    return {**others, **KEYS, "TOLLGATE_ADMIN_TOKEN": TOKEN, **settings}


def settings_of(values):
    """The files of the chart for a set of values, by their names below /etc/tollgate."""
    maps = [one for one in objects(values) if one["kind"] == "ConfigMap"]
    return next(one["data"] for one in maps if "tollgate.toml" in one["data"])


class Program(unittest.TestCase):
    def serves(self, files, settings):
        """Starts a server in a folder with these files, waits until it serves, and ends it."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in files.items():
                (folder / file).write_text(text, encoding="utf-8")
            log = folder / "log"
            variables = {"TOLLGATE_HTTP": "127.0.0.1:0", "TOLLGATE_LOG_FORMAT": "json", **settings}
            with process([program(), "serve"], folder, log, environment(variables)) as server:
                wait_for(r'"http":"(http://[^"]+)"', server, log)
            self.assertEqual(server.returncode, 0, log.read_text(encoding="utf-8"))

    def files_and_variables(self, files):
        """`files` with the gateway at a free port, and the variables that name them. A gateway needs a database."""
        variables = {"TOLLGATE_CATALOG": "file:policies.yaml" if "policies.yaml" in files else "sqlite:catalog.db"}
        if "tollgate.toml" in files:
            variables["TOLLGATE_CONFIG"] = "tollgate.toml"
        if "gateway.yaml" in files:
            gateway = re.sub(r"^listen: .*$", "listen: 127.0.0.1:0", files["gateway.yaml"], flags=re.MULTILINE)
            files = {**files, "gateway.yaml": gateway}
            variables["TOLLGATE_GATEWAY"] = "gateway.yaml"
        return files, variables

    def test_it_starts_with_what_the_chart_gives_it(self):
        for name, values in [("the defaults", {})] + [(path.name, values_of(path)) for path in VALUES]:
            with self.subTest(name):
                self.serves(*self.files_and_variables(settings_of(values)))

    def test_a_pod_that_replaces_another_begins_its_share_anew(self):
        """What docs/OPERATING.md says of a rolling update without the store."""
        policy = {"id": "a", "scope": "USER", "limit": 4, "windowSeconds": 3600, "onStoreError": "local"}
        check = {"userId": "bob", "modelId": "gpt-4"}
        admitted = []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "policies.yaml").write_text(json.dumps({"policies": [policy]}))
            # Nothing listens on port 1.
            variables = {"TOLLGATE_STORE": "redis://127.0.0.1:1", "TOLLGATE_NODES": "2", "TOLLGATE_CATALOG": "file:policies.yaml"}
            env = environment({"TOLLGATE_HTTP": "127.0.0.1:0", "TOLLGATE_LOG_FORMAT": "json", **variables})
            for log in (folder / "replaced", folder / "replacement"):
                with process([program(), "serve"], folder, log, env) as server:
                    http = wait_for(r'"http":"(http://[^"]+)"', server, log)
                    admitted.append(sum(call(f"{http}/rate-limit/check", check)[1]["allowed"] for _ in range(3)))
        self.assertEqual(admitted, [2, 2])

    def test_it_starts_with_the_files_of_compose(self):
        for file in ("policies.yaml", "gateway.yaml"):
            with self.subTest(file):
                self.serves(*self.files_and_variables({file: read(f"deploy/compose/{file}")}))

    def test_it_starts_with_the_settings_of_the_systemd_unit(self):
        lines = [line for line in read("deploy/systemd/tollgate.env").splitlines() if line and not line.startswith("#")]
        settings = dict(line.split("=", 1) for line in lines)
        # Empty, so that nobody runs it with the token of an example.
        self.assertEqual(settings.pop("TOLLGATE_ADMIN_TOKEN"), "")
        settings = {name: value.replace("/var/lib/tollgate/", "") for name, value in settings.items()}
        self.serves({}, {**settings, "TOLLGATE_HTTP": "127.0.0.1:0"})

    def test_it_does_not_start_as_the_image_does_without_a_token(self):
        variables = dict(re.findall(r"^ENV (\w+)=(\S+)$", read("deploy/Dockerfile"), re.MULTILINE))
        with tempfile.TemporaryDirectory() as folder:
            env = environment(variables)
            del env["TOLLGATE_ADMIN_TOKEN"]
            command = [program(), "serve"]
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("TOLLGATE_ADMIN_TOKEN is not set", done.stderr)

    def test_it_has_the_command_of_the_probes(self):
        for text in (read("deploy/Dockerfile"), (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")):
            self.assertIn("health", text)
        done = subprocess.run([program(), "health", "--help"], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--ready", done.stdout)

"""docker compose accepts the compose files, and refuses to start without the secrets."""

import importlib.util
import json
import unittest
from pathlib import Path

from project import DEPLOY, ROOT, known_variables, read, run, version

# The package's own command of this name returns 0 whatever docker compose says.
COMPOSE = Path(importlib.util.find_spec("compose").origin).with_name("docker-compose")
FILES = sorted(path.name for path in (DEPLOY / "compose").glob("*.yaml") if "services:" in path.read_text())
SECRETS = {
    name: "a-secret-of-24-characters"
    for name in ("TOLLGATE_ADMIN_TOKEN", "TOLLGATE_API_KEY_SECRET", "REDIS_PASSWORD", "POSTGRES_PASSWORD", "MODEL_API_KEY")
}


def config(file, env):
    command = (COMPOSE, "--file", DEPLOY / "compose" / file, "config", "--format", "json")
    return run(*command, env=env)


def loaded(file):
    code, text = config(file, SECRETS)
    if code != 0:
        raise AssertionError(f"{file}: {text}")
    return json.loads(text)


class Compose(unittest.TestCase):
    def test_every_file_is_valid(self):
        self.assertEqual(FILES, ["postgres-gateway.yaml", "redis.yaml", "single.yaml"])
        for file in FILES:
            with self.subTest(file):
                self.assertIn("tollgate", loaded(file)["services"])

    def test_a_secret_that_is_missing_is_named(self):
        for file in FILES:
            named = {name for name in SECRETS if f"${{{name}:?" in read(f"deploy/compose/{file}")}
            self.assertIn("TOLLGATE_ADMIN_TOKEN", named)
            for name in named:
                with self.subTest(file=file, name=name):
                    code, text = config(file, {**SECRETS, name: ""})
                    self.assertNotEqual(code, 0)
                    self.assertIn(name, text)

    def test_the_server_has_no_rights_and_only_this_machine_reaches_it(self):
        for file in FILES:
            service = loaded(file)["services"]["tollgate"]
            with self.subTest(file):
                self.assertEqual(service["image"], f"tollgate:{version()}")
                self.assertEqual(service["build"]["context"], str(ROOT))
                self.assertEqual(service["build"]["dockerfile"], "deploy/Dockerfile")
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertEqual({port["host_ip"] for port in service["ports"]}, {"127.0.0.1"})

    def test_no_database_is_published(self):
        for file in FILES:
            for name, service in loaded(file)["services"].items():
                if name != "tollgate":
                    self.assertNotIn("ports", service, f"{file}: {name}")

    def test_the_server_gets_only_variables_that_exist(self):
        for file in FILES:
            variables = set(loaded(file)["services"]["tollgate"]["environment"])
            self.assertLessEqual(variables - {"MODEL_API_KEY"}, known_variables(), file)

    def test_files_that_the_server_reads_are_mounted(self):
        for file in FILES:
            service = loaded(file)["services"]["tollgate"]
            mounts = {mount["target"]: mount for mount in service["volumes"]}
            for name in ("TOLLGATE_CATALOG", "TOLLGATE_GATEWAY"):
                path = service["environment"].get(name, "").removeprefix("file:")
                if path.startswith("/etc/tollgate/"):
                    self.assertEqual(mounts["/etc/tollgate"]["source"], str(DEPLOY / "compose"))
                    self.assertTrue((DEPLOY / "compose" / path.removeprefix("/etc/tollgate/")).is_file(), path)

    def test_the_servers_are_as_many_as_they_are_told(self):
        service = loaded("redis.yaml")["services"]["tollgate"]
        self.assertEqual(service["environment"]["TOLLGATE_NODES"], str(service["deploy"]["replicas"]))

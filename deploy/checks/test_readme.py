"""The commands and values of deploy/README.md fit the files, so that a new operator can follow it word for word."""

import json
import re
import shlex
import subprocess
import unittest

import yaml
from chart import VALUES, container, merged, objects, only, set_of, values_of
from manifests import FOLDER
from project import DEPLOY, ROOT, read

README = read("deploy/README.md")


def commands(text):
    """The words of each command that follows `$` or `#` in a block for a console."""
    blocks = "".join(re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    return [line[2:] for line in blocks.splitlines() if line.startswith(("$ ", "# "))]


def section(title):
    return re.split(r"\n#{2,3} ", README.split(f" {title}\n", 1)[1])[0]


def options(words, name):
    return [words[at + 1] for at, word in enumerate(words) if word == name]


def needed(values):
    """The keys of the Secret that pods with these values read."""
    keys = {f"TOLLGATE_{part.upper()}" for part in ("store", "catalog") if values.get(part, {}).get("fromSecret")}
    if values.get("mode", "server") == "server":
        keys.add("TOLLGATE_ADMIN_TOKEN")
    if values.get("catalog", {}).get("fromSecret"):
        keys.add("TOLLGATE_API_KEY_SECRET")
    return keys | {one["apiKeyEnv"] for one in values.get("gateway", {}).get("config", {}).get("upstreams", [])}


class Readme(unittest.TestCase):
    def test_it_has_the_commands_of_every_compose_file(self):
        told = commands(section("Compose"))
        for path in (DEPLOY / "compose").glob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            if "services:" in text:
                steps = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
                self.assertIn(f"docker compose -f deploy/compose/{path.name} up --build", steps)
                self.assertLessEqual(set(steps), set(told), path.name)
                # What the file demands is set by the commands before it.
                demanded = set(re.findall(r"\$\{(\w+):\?", text))
                self.assertEqual(demanded, set(re.findall(r"(\w+)=", " ".join(steps))), path.name)

    def test_every_set_of_values_can_be_installed(self):
        installed = set()
        for command in commands(section("With Helm")):
            words = shlex.split(command)
            self.assertEqual(words[:2] + words[3:4], ["helm", "install", "deploy/helm/tollgate"])
            values = {}
            for file in options(words, "--values"):
                installed.add(file)
                values = merged(values, yaml.safe_load(read(file)))
            for one in options(words, "--set"):
                path, value = one.split("=")
                value = json.loads(value) if value in ("true", "false") else value
                for name in reversed(path.split(".")):
                    value = {name: value}
                values = merged(values, value)
            found = objects(values)
            self.assertIn("REGISTRY/tollgate:", str(only(found, "Deployment")))
            if "serviceMonitor.enabled=false" in command:
                self.assertEqual([one["kind"] for one in found if one["apiVersion"].startswith("monitoring")], [])
        self.assertEqual(installed, {str(path.relative_to(ROOT)) for path in VALUES})

    def test_every_manifest_can_be_applied_with_an_image_of_ones_own(self):
        applied = set()
        for command in commands(section("Without Helm")):
            edit, apply = command.split(" | kubectl ")
            self.assertEqual(apply, "apply -f -")
            words = shlex.split(edit)
            applied.add(words[-1])
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
            images = re.findall(r"image: \"?([^\s\"]+tollgate[^\s\"]*|tollgate[^\s\"]*)", done.stdout)
            self.assertEqual([image.split(":")[0] for image in images], ["REGISTRY/tollgate"], command)
        self.assertEqual(applied, {str(path.relative_to(ROOT)) for path in FOLDER.glob("*.yaml")})

    def test_it_names_the_keys_of_each_secret(self):
        rows = dict(re.findall(r"^\| `(\w+\.yaml)` \| .* \| (.*) \|$", section("Kubernetes"), re.MULTILINE))
        self.assertEqual({name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows.items()}, {path.name: needed(values_of(path)) for path in VALUES})

    def test_it_says_which_values_need_the_operator_of_prometheus(self):
        need = {path.name for path in VALUES if any(one["apiVersion"].startswith("monitoring") for one in objects(values_of(path)))}
        sentence = re.search(r"Use one of them\. (.*) need the Prometheus operator", section("With Helm")).group(1)
        self.assertEqual(set(re.findall(r"`(\S+\.yaml)`", sentence)), need)

    def test_its_values_are_accepted(self):
        blocks = re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 1)
        mounts = container(objects(merged(set_of("redis.yaml"), yaml.safe_load(blocks[0]))))["volumeMounts"]
        file = re.search(r"\?ca=(\S+)/ca\.crt`", README).group(1)
        self.assertIn(file, [mount["mountPath"] for mount in mounts])

    def test_the_unit_has_the_same_commands(self):
        head = read("deploy/systemd/tollgate.service").split("\n\n")[0]
        unit = [line.removeprefix("# ") for line in head.splitlines() if not line.endswith("as root:")]
        self.assertEqual(commands(section("systemd"))[:-1], unit)
        for command in unit:
            for file in re.findall(r"deploy/\S+", command):
                self.assertTrue((ROOT / file).is_file(), file)

    def test_the_command_for_the_token_fits_the_file_of_settings(self):
        (command,) = [one for one in commands(section("systemd")) if one.startswith("sed ")]
        script = shlex.split(command)[2].replace("$(openssl rand -hex 24)", "a-token")
        done = subprocess.run(["sed", script, DEPLOY / "systemd" / "tollgate.env"], capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("\nTOLLGATE_ADMIN_TOKEN=a-token\n", done.stdout)

"""The workflows are valid, and run commands and build files that exist."""

import re
import unittest

import yaml
from project import ROOT, read, run

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps():
    """The steps of all jobs, except those that wait for a folder that is not there yet."""
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            for step in job.get("steps", []):
                needed = re.findall(r"hashFiles\('([^']+)'\) != ''", str(step.get("if", "")))
                if all((ROOT / file).exists() for file in needed):
                    yield step


class Workflows(unittest.TestCase):
    def test_actionlint_finds_nothing(self):
        self.assertEqual([path.name for path in WORKFLOWS], ["ci.yml", "release.yml"])
        # Without shellcheck and pyflakes, so that every machine finds the same.
        command = ("actionlint", "-no-color", "-shellcheck=", "-pyflakes=", *WORKFLOWS)
        self.assertEqual(run(*command), (0, ""))

    def test_they_run_what_everybody_runs(self):
        commands = [step["run"] for step in steps() if "run" in step]
        self.assertIn(".ci/run", commands)
        self.assertIn("exec make test", read(".ci/run"))
        targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
        for command in commands:
            self.assertLessEqual(set(re.findall(r"^make (\S+)$", command, re.MULTILINE)), targets)
        self.assertIn("make dist", commands)

    def test_the_files_that_they_name_exist(self):
        files = [step["with"]["file"] for step in steps() if "file" in step.get("with", {})]
        self.assertEqual(files, ["deploy/Dockerfile"])
        packed = next(step["run"] for step in steps() if step.get("name") == "Pack")
        for file in re.findall(r"deploy/\S+|LICENSE|README.md", packed):
            self.assertTrue((ROOT / file).exists(), file)

    def test_rust_is_as_new_as_the_project_needs(self):
        rust = re.search(r'^rust-version = "(.*)"$', read("Cargo.toml"), re.MULTILINE).group(1)
        for path in WORKFLOWS:
            for version in re.findall(r"--default-toolchain (\S+)", path.read_text(encoding="utf-8")):
                self.assertEqual(version, rust, path.name)

"""The Dockerfile builds what `make dist` builds, with versions that the project accepts."""

import json
import re
import unittest

from project import DEPLOY, environment_names, known_variables, read, run


def instructions():
    text = re.sub(r"\\\n\s*", "", read("deploy/Dockerfile"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def stages():
    """The instructions of each stage, by its name; the last stage is `image`."""
    found, name = {}, None
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "image"
            found[name] = []
        found[name].append((word, rest))
    return found


class Image(unittest.TestCase):
    def test_hadolint_finds_nothing(self):
        self.assertEqual(run("hadolint", DEPLOY / "Dockerfile"), (0, ""))

    def test_it_builds_what_make_dist_builds(self):
        recipe = re.search(r"^dist: .*\n\t\$\(CARGO\) (build .*)$", read("Makefile"), re.MULTILINE).group(1)
        commands = [rest for word, rest in stages()["build"] if word == "RUN"]
        self.assertIn(f"cargo {recipe} && mkdir /data", commands)
        # The dependencies are built with the same options, or they would be built twice.
        cook = next(rest for rest in commands if rest.startswith("cargo chef cook"))
        options = recipe.removeprefix("build ")
        self.assertEqual(cook, f"cargo chef cook --recipe-path recipe.json {options}")
        program = re.search(r"target/dist/(\w+)$", read("Makefile"), re.MULTILINE).group(1)
        self.assertIn(("COPY", f"--from=build /build/target/dist/{program} /usr/local/bin/{program}"), stages()["image"])

    def test_it_builds_the_console_that_the_program_embeds(self):
        commands = [rest for word, rest in stages()["console"] if word == "RUN"]
        # The commands of scripts/console.
        script = read("scripts/console")
        for command in ("npm ci --no-audit --no-fund --loglevel error", "npm run --silent build"):
            self.assertIn(command, commands)
            self.assertIn(command, script)
        folder = re.search(r'#\[folder = "(.*)"\]', read("crates/tollgate-server/src/http/console.rs")).group(1)
        self.assertEqual(folder, "../../console/dist")
        self.assertIn(("COPY", "--from=console /build/console/dist console/dist"), stages()["build"])

    def test_its_compilers_are_those_that_the_project_accepts(self):
        rust = re.search(r'^rust-version = "(.*)"$', read("Cargo.toml"), re.MULTILINE).group(1)
        self.assertEqual(stages()["chef"][0], ("FROM", f"rust:{rust}-bookworm AS chef"))
        node = json.loads(read("console/package.json"))["engines"]["node"].removeprefix(">=").split(".")
        chosen = re.match(r"node:(\d+)-", stages()["console"][0][1]).group(1)
        self.assertGreater(int(chosen), int(node[0]))

    def test_it_has_no_shell_and_its_user_no_rights(self):
        image = dict(stages()["image"])
        self.assertTrue(image["FROM"].startswith("gcr.io/distroless/"), image["FROM"])
        self.assertRegex(image["USER"], r"^[1-9]\d*:[1-9]\d*$")
        # Without a shell, commands are lists, and nothing can be run while it is built.
        for word in ("ENTRYPOINT", "CMD"):
            self.assertIsInstance(json.loads(image[word]), list)
        self.assertIsInstance(json.loads(image["HEALTHCHECK"].split(" CMD ")[1]), list)
        self.assertNotIn("RUN", image)

    def test_the_context_has_what_is_copied(self):
        allowed = {line[1:] for line in read("deploy/Dockerfile.dockerignore").splitlines() if line.startswith("!")}
        for word, rest in instructions():
            if word == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    self.assertIn(source.split("/")[0], allowed)
                    self.assertTrue((DEPLOY.parent / source).exists(), source)

    def test_it_sets_only_variables_that_exist(self):
        self.assertLessEqual(environment_names(read("deploy/Dockerfile")), known_variables())

"""The files of this repository, and the programs that check them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = Path(sys.executable).parent


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def run(*command, env=None, timeout=300):
    """The exit code and the output of a command in the root of the repository. Programs of the environment come first."""
    environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}", "NO_COLOR": "1", **(env or {})}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout


def setting_keys():
    """The settings that docs/SETTINGS.md lists, by their names in tollgate.toml."""
    flags = re.findall(r"^\| `--([a-z0-9-]+)` \|", read("docs/SETTINGS.md"), re.MULTILINE)
    return {flag.replace("-", "_") for flag in flags}


def environment_names(text):
    """The variables of Tollgate that a text names."""
    return set(re.findall(r"\bTOLLGATE_[A-Z_]+\b", text))


def known_variables():
    """The variables that docs/SETTINGS.md describes."""
    secrets = environment_names(read("docs/SETTINGS.md"))
    return secrets | {f"TOLLGATE_{key.upper()}" for key in setting_keys()}


def version():
    return re.search(r'^version = "(.*)"$', read("Cargo.toml"), re.MULTILINE).group(1)

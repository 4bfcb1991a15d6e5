"""Writes deploy/kubernetes: what the chart gives for each set of values in deploy/helm/values."""

import itertools
import sys

from chart import VALUES, render, values_of
from project import DEPLOY

FOLDER = DEPLOY / "kubernetes"


def manifests():
    """The text of each file, by its name."""
    files = {}
    for path in VALUES:
        # Without Helm, its labels would say nothing true.
        text = "\n---\n".join(render(values_of(path)))
        lines = [line for line in text.splitlines() if "app.kubernetes.io/managed-by" not in line and "helm.sh/chart" not in line]
        head = f"# What `helm template` gives for deploy/helm/values/{path.name}; `scripts/deploy manifests` writes it.\n"
        apply = f"#   kubectl apply -f deploy/kubernetes/{path.name}"
        comments = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        notes = [apply if "helm install" in line else line for line in comments]
        files[path.name] = head + "\n".join([*notes, *lines]) + "\n"
    return files


def write():
    for name, text in manifests().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())

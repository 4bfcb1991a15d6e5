"""Renders the chart as `helm template` does, with the library of Helm."""

import helm_python
import yaml

from project import DEPLOY

CHART = DEPLOY / "helm" / "tollgate"
VALUES = sorted((DEPLOY / "helm" / "values").glob("*.yaml"))


def values_of(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def merged(base, changes):
    """`base` with `changes`, member by member, as Helm merges values."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def set_of(name):
    return values_of(DEPLOY / "helm" / "values" / name)


def templates_of(values, name="tollgate"):
    """What `values` and the name of the release make of each template."""
    with helm_python.Chart.load(CHART) as chart:
        # `render` alone does not read values.schema.json, which `helm template` and `helm install` do.
        chart.validate_schema(values)
        return chart.render(values, name=name, namespace="default", is_install=True)


def manifests_of(templates):
    """The text of every manifest, in the order of the templates."""
    manifests = [text for path, text in sorted(templates.items()) if path.endswith(".yaml")]
    documents = [text.strip("\n") for text in "\n---\n".join(manifests).split("\n---\n")]
    return [text for text in documents if yaml.safe_load(text) is not None]


def render(values):
    """The text of every manifest that `values` give."""
    return manifests_of(templates_of(values))


def parsed(templates):
    return [yaml.safe_load(text) for text in manifests_of(templates)]


def objects(values):
    return parsed(templates_of(values))


def only(found, kind):
    """The one object of a kind."""
    (one,) = [one for one in found if one["kind"] == kind]
    return one


def container(found):
    """The container of Tollgate, whether it is a sidecar or not."""
    pod = only(found, "Deployment")["spec"]["template"]["spec"]
    (one,) = [one for one in pod.get("initContainers", []) + pod["containers"] if one["name"] == "tollgate"]
    return one

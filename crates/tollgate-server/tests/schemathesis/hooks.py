"""What generated requests need that JSON Schema cannot say."""

import json

import schemathesis
from schemathesis.generation import GenerationMode


@schemathesis.hook
def before_call(context, case, kwargs):
    """A change may repeat what only the server sets, and nothing else in its place; so it leaves that out."""
    is_change = case.method in ("PUT", "PATCH") and isinstance(case.body, dict)
    if not is_change or case.meta is None:
        return
    if case.meta.generation.mode == GenerationMode.POSITIVE:
        case.body = {name: value for name, value in case.body.items() if name not in ("id", "prefix")}


@schemathesis.serializer("application/toml")
def toml(context, value):
    """A document in TOML: whatever JSON Schema made of it, which need not be right."""
    return toml_of(value).encode("utf-8", "surrogatepass")


def toml_of(value):
    """`value` as a TOML document, of inline values alone; what TOML has no words for is left to be wrong."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "".join(f"{json.dumps(name)} = {inline(item)}\n" for name, item in value.items())


def inline(value):
    if isinstance(value, dict):
        entries = ", ".join(f"{json.dumps(name)} = {inline(item)}" for name, item in value.items())
        return f"{{{entries}}}"
    if isinstance(value, list):
        return f"[{', '.join(inline(item) for item in value)}]"
    return json.dumps(value)

"""The examples of the project's documents run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = ["README.md", "docs/PYTHON.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (document, number, example)
    for document in DOCUMENTS
    for number, example in enumerate(BLOCK.findall((ROOT / document).read_text()))
    if ("tollgate import" in example or "import tollgate.limits" in example)
    # LiteLLM has an environment of its own.
    and "tollgate.litellm" not in example
]


@pytest.mark.parametrize(
    "example", [pytest.param(text, id=f"{name}:{number}") for name, number, text in EXAMPLES]
)
def test_an_example_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "example", "exec"), {"__name__": "example"})


def test_each_document_has_examples() -> None:
    assert {name for name, _, _ in EXAMPLES} == set(DOCUMENTS)

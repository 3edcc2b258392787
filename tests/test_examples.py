"""What docstrings and the README show can be typed as it stands."""

import ast
import doctest
import re
from pathlib import Path

import torch

import cm3t
from cm3t import model

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_of_create_runs_as_printed():
    torch.manual_seed(0)
    (example,) = doctest.DocTestFinder(recurse=False).find(cm3t.create, "create", module=model)
    report: list[str] = []
    failed, tried = doctest.DocTestRunner().run(example, out=report.append)
    assert tried >= 10 and not failed, "".join(report)


def test_the_readmes_example_is_the_docstrings():
    """Its shapes are told there: the same call, the same modality, the same forward."""
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    shown = "".join(re.findall(r"^ *(?:>>>|\.\.\.) (.*\n)", cm3t.create.__doc__, re.MULTILINE))
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call)}
    assert {"cm3t.create", "model.add_modality", "model"} <= calls
    for line in ("model.add_modality(", "out = model("):
        (mine,), (theirs,) = (
            [x.split("#")[0].strip() for x in text.splitlines() if line in x] for text in (snippet, shown)
        )
        assert mine == theirs

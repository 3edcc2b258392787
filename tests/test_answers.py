"""Each exercise has its answer folded away beside it, and the answer is right by the notebook's own check."""

import ast
import contextlib
import io
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch

import cm3t
from cm3t import notebooks, plugins, published, stats
from cm3t.config import PROFILES
from cm3t.pages import exercises

ANSWER = re.compile(r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
BOOKS = {path.name[:2]: notebooks.read(path) for path in notebooks.known()}
UNSEEN = torch.tensor([True, False, True])


def told(book):
    """(answer, the code cell that checks it) of each exercise."""
    for cell, code in zip(book.cells, book.cells[1:], strict=False):
        for text in ANSWER.findall(cell.source) if cell.cell_type == "markdown" else ():
            assert code.cell_type == "code", "an answer stands in the cell before the one that checks it"
            yield "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), code.source


EXERCISES = [
    pytest.param(number, *found, id=f"{number}.{i}", marks=[pytest.mark.slow] * (number == "01" and i > 1))
    for number, book in BOOKS.items()
    for i, found in enumerate(told(book), 1)
]


@cache
def heard() -> tuple:
    """A model with two modalities, as if trained, a clip and its tokens."""
    torch.manual_seed(0)
    side = {"audio": torch.randn(1, 3, 4), "flow": torch.randn(1, 2, 5)}
    model = cm3t.create("video_swin_mini", method="mhva+pt+caa", heads={"verb": 4}, weights=None).eval()
    for name, tokens in side.items():
        model.add_modality(name, width=tokens.shape[-1])
    for p in model.trainable_parameters().values():
        torch.nn.init.normal_(p.data, std=0.1)
    return model, torch.randn(1, 3, 8, 96, 96), side


def scope() -> dict:
    """What the notebooks have at hand where their exercises stand, or something like it."""
    clips = SimpleNamespace(unseen=UNSEEN, subsets={"unseen": UNSEEN})
    known = dict(torch=torch, cm3t=cm3t, plugins=plugins, stats=stats, exercises=exercises, PROFILES=PROFILES)
    known |= dict(zip(("model", "video", "side"), heard(), strict=True))
    return known | dict(sets={"validation": clips}, costs=published.recorded())


@pytest.mark.parametrize("number, answer, code", EXERCISES)
def test_the_folded_answer_is_right(number, answer, code):
    names, said = scope(), io.StringIO()
    exec(answer, names)
    rest = ast.parse(code).body[1:]  # behind the place for the reader's own
    with contextlib.redirect_stdout(said):
        exec(ast.unparse(rest), names)
    assert said.getvalue().startswith(("right", "found")), said.getvalue()


@pytest.mark.parametrize("number", BOOKS)
def test_every_exercise_has_its_answer_folded_and_nowhere_else(number):
    book = BOOKS[number]
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    asked = re.findall(r"^\*\*\d\. .+?\*\* \((?:easy|medium|hard), \d+ minutes\)", text, re.MULTILINE)
    assert asked and len(asked) == len(list(told(book))) == len(ANSWER.findall(text))
    for cell in book.cells:
        assert "solution" not in cell.metadata.get("tags", [])
        assert "check_number(answer" not in cell.source, "the right number is handed over in sight: exercises.check"


def test_an_answer_is_not_given_away():
    assert exercises.check("03.1", None).startswith("not yet") and exercises.check("03.1", 391).endswith("too low")
    assert exercises.check("00.3", 2, SimpleNamespace(unseen=UNSEEN)) == "right"

"""The layers hold: imports point down, without a cycle, the evidence opens without torch, and all is documented."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import cm3t

PACKAGE = Path(cm3t.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# The generator of rooms is a program, kept beside the readers of what it writes; nothing below may need it.
LAYERS = (
    {"config", "coerce", "flags", "methods", "profiles", "rates", "settings", "sides", "words"},
    {"plugins", "backbones", "data", "metrics"},
    {"model", "assembly", "challenge"},
    {"train", "training", "pretrain", "contrastive", "model_card", "official", "evaluate", "extract", "dryrun"}
    | {"cost", "closed_forms", "published", "records", "claims", "paper", "stats", "study", "plans"},
    {"run", "report", "pages", "folder_report", "notebooks", "rooms", "bench", "pairs"},
)
# Tensors in, tensors out: none of these knows another.
STRANGERS = ({"plugins"}, {"backbones"}, {"data", "metrics"})
TORCH_FREE = """
    config flags methods claims paper records stats study plans closed_forms published report notebooks run
    pages.ledger pages.figures pages.curves pages.show_side pages.show_budget
""".split()
LINES = 350
# Where a reader meets tensors, a docstring tells their shapes.
WITH_SHAPES = ("plugins/", "backbones/", "assembly/", "model.py", "data/clip.py", "metrics.py")
SHAPE = re.compile(r"\((\w+'?|\.\.\.)(, ?[\w'.* /]+)+,?\)|\([A-Z],?\)|shape", re.IGNORECASE)
TENSOR = re.compile(r"(torch\.|np\.)?(Tensor|ndarray)( \| None)?")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(path: Path) -> str:
    name = module(path)
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


MODULES = {module(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package_of(path)) if node.level else node.module
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    found &= set(MODULES)
    own = module(path)
    return {name for name in found if name != own and not own.startswith(name + ".")} - {"cm3t"}


def layer(name: str) -> int:
    top = "rooms" if name.startswith("cm3t.data.rooms") else name.split(".")[1]
    places = [rank for rank, names in enumerate(LAYERS) if top in names]
    assert places, f"cm3t.{top} stands in no layer: add it to LAYERS, as low as it can be"
    return places[0]


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"cm3t"}))
def test_imports_point_down(name):
    for other in imported(MODULES[name]):
        assert layer(other) <= layer(name), f"{name} imports {other}, which stands above it"
        sides = [side for side in STRANGERS if name.split(".")[1] in side]
        if sides and layer(other) == layer(name):
            assert other.split(".")[1] in sides[0], f"{name} imports {other}: these two do not know each other"


def test_there_is_no_cycle():
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.slow
def test_the_evidence_opens_without_torch():
    names = [name for name in TORCH_FREE if (PACKAGE / f"{name.replace('.', '/')}.py").exists()]
    code = "import json, sys, cm3t\n" + "".join(f"import cm3t.{name}\n" for name in names)
    code += "cm3t.results('full')\n"
    code += "print(json.dumps([m for m in ('torch', 'torchvision', 'cv2', 'av') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_package_itself_is_light():
    heavy = "[m for m in ('torch', 'pandas', 'numpy', 'matplotlib') if m in sys.modules]"
    done = subprocess.run([sys.executable, "-c", f"import sys, cm3t; print({heavy})"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: module(path))
def test_a_file_can_be_read_in_one_sitting(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LINES, f"{path.name} has {lines} lines, at most {LINES}: split it by idea"


def public_objects(path: Path):
    """(qualified name, node) of the public functions and classes of a file, and the public methods of those."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", FILES, ids=lambda path: module(path))
def test_everything_public_is_documented(path):
    assert ast.get_docstring(tree(path)), f"{path.name} says in its first line what it is"
    missing = [name for name, node in public_objects(path) if not ast.get_docstring(node)]
    assert not missing, f"{path.name}: no docstring on {', '.join(missing)}"


def takes_tensors(node: ast.AST) -> bool:
    """Does a function's signature, or a class's forward, speak of tensors or arrays?"""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(inner, ast.FunctionDef) and inner.name == "forward" for inner in node.body)
    notes = [argument.annotation for argument in node.args.args + node.args.kwonlyargs] + [node.returns]
    return any(note is not None and TENSOR.fullmatch(ast.unparse(note)) for note in notes)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(PACKAGE).as_posix().startswith(WITH_SHAPES)],
    ids=lambda path: module(path),
)
def test_tensors_come_with_their_shapes(path):
    missing = []
    for name, node in public_objects(path):
        text = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            forward = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "forward"]
            text += "".join(ast.get_docstring(inner) or "" for inner in forward)
        named = name.rsplit(".", 1)[-1] == "forward"  # its class may tell
        if takes_tensors(node) and not named and not SHAPE.search(text):
            missing.append(name)
    assert not missing, f"{path.name}: no shapes in the docstrings of {', '.join(missing)}"

"""Each committed notebook is executed, clean, short, and honest about its parameters. Nothing is executed here."""

import ast
import importlib
import re
from inspect import ismodule
from pathlib import Path

import nbformat
import papermill
import pytest

from cm3t import notebooks
from cm3t.coerce import KINDS
from cm3t.config import ROOT, RunConfig
from tests.nbval_floor import FLOOR

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_LINES, MEDIAN_LINES, CELLS, PARAMETERS, BYTES = 30, 8, 40, 8, 500_000
# Section headings, in this order. Not each notebook has an experiment of its own; whoever runs one has them all.
SKELETON = ("set up", "predict", "recorded results", "takeaways", "exercises", "next")
REQUIRED = ("takeaways", "exercises", "next")
OPENING = ("you'll do", "you'll learn", "you'll need")
FORBIDDEN = {
    r"\btqdm\b": "one printed line an epoch; bars leave widgets or noise",
    r"^\s*[%!]\s*(pip|conda)\b": "the environment comes from requirements.lock",
    r"clear_output": "nbval keeps the first frame and fails",
    r"\bStyler\b|\.style\.": "its ids are random; print markdown",
    r"(?<![\w.:/])/(home|root|tmp|Users|work|mnt|opt)/": "no path of a machine",
    r"""["']\.\.?/""": "paths come from the package: cm3t.config.ROOT, data_dir(), results_dir()",
    r";\s*$": "nbval shows what a semicolon hides; return None or call plt.show()",
}

pytestmark = pytest.mark.skipif(not PATHS, reason="no notebooks yet")


@pytest.fixture(scope="module", params=PATHS or [Path("none")], ids=lambda path: path.stem)
def book(request):
    """A notebook, with its path."""
    found = notebooks.read(request.param)
    found.path = request.param
    return found


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def prose(book):
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


def parameters_cell(book):
    return next((cell for cell in code(book) if "parameters" in tags(cell)), None)


def trees(cells):
    """Syntax trees of code cells, IPython's magics left out."""
    lines = ("\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!"))) for cell in cells)
    return [ast.parse(source) for source in lines]


def test_the_file_is_valid_named_and_not_heavy(book):
    nbformat.validate(nbformat.read(book.path, as_version=4))
    assert (book.nbformat, book.nbformat_minor) >= (4, 5)
    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", book.path.name)
    assert book.path.stat().st_size <= BYTES


def test_the_metadata_names_a_python_kernel_and_nothing_else(book):
    assert book.metadata.kernelspec == notebooks.KERNEL and set(book.metadata) == {"kernelspec", "language_info"}
    for cell in book.cells:
        assert set(cell.metadata) <= {"tags", "jupyter"}, "python -m cm3t.run --refresh cleans the metadata"
        assert set(tags(cell)) <= set(notebooks.TAGS), f"known tags: {', '.join(notebooks.TAGS)}"


def test_it_was_executed_once_from_top_to_bottom(book):
    assert [cell.execution_count for cell in code(book)] == list(range(1, len(code(book)) + 1))


def test_it_was_executed_from_a_commit(book):
    """Its last lines say which. What came on top of one is in none: commit first, then refresh."""
    said = "".join(output.get("text", "") for output in code(book)[-1].outputs)
    assert re.match(r"commit [0-9a-f]{12}\n", said), said


def test_no_output_is_an_error_a_warning_or_a_widget(book):
    for cell in code(book):
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in tags(cell)
            assert output.get("name") != "stderr", f"a warning is stored: {output.get('text', '')[:200]}"
            data = output.get("data", {})
            assert not {"application/vnd.jupyter.widget-view+json", "image/svg+xml", "application/pdf"} & set(data)


def test_enough_is_compared(book):
    compared = sum(notebooks.is_compared(cell) for cell in book.cells)
    assert compared >= FLOOR, f"{compared} cells compared by nbval, at least {FLOOR} are needed"


def test_cells_are_short(book):
    lengths = sorted(len(cell.source.splitlines()) for cell in code(book))
    assert lengths[-1] <= CELL_LINES and lengths[len(lengths) // 2] <= MEDIAN_LINES and len(book.cells) <= CELLS


def test_nothing_forbidden_is_written(book):
    for cell in code(book):
        for pattern, remedy in FORBIDDEN.items():
            found = re.search(pattern, cell.source, re.MULTILINE)
            assert not found, f"{found.group()!r} in a cell: {remedy}"
    stored = "".join(str(cell.outputs) for cell in code(book))
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|Users|work)/", stored), "an output names a path of a machine"


def test_the_skeleton_is_there_in_order(book):
    assert book.cells[0].cell_type == "markdown" and re.match(r"# \d\d · .+", book.cells[0].source)
    text = prose(book).lower().replace("\u2019", "'")
    assert all(words in text for words in OPENING), f"the opening says what {', '.join(OPENING)}"
    headings = re.findall(r"^#{2,3}\s+(.+)$", text, re.MULTILINE)
    places = [next((i for i, heading in enumerate(headings) if heading.startswith(words)), None) for words in SKELETON]
    found = [place for place in places if place is not None]
    assert found == sorted(found), f"sections in the order {SKELETON}, found {headings}"
    missing = [words for words, place in zip(SKELETON, places, strict=True) if place is None and words in REQUIRED]
    assert not missing, f"sections missing: {missing}; found {headings}"


def test_there_is_one_parameters_cell_and_it_comes_first(book):
    assert ["parameters" in tags(cell) for cell in code(book)] == [True] + [False] * (len(code(book)) - 1)


def test_parameters_are_typed_explained_literals_at_smoke(book):
    nodes = ast.parse(parameters_cell(book).source).body
    assert nodes and len(nodes) <= PARAMETERS
    assert all(isinstance(node, ast.AnnAssign) for node in nodes), "write: name: type = value  # help"
    for node in nodes:
        ast.literal_eval(node.value)
    declared = papermill.inspect_notebook(str(book.path))
    assert set(declared) == {node.target.id for node in nodes}, "papermill does not see all of them"
    for name, found in declared.items():
        assert found["inferred_type_name"].split("[")[0] in KINDS and found["help"], f"{name} needs a type and a help"
    assert declared["profile"]["default"].strip("\"'") == "smoke"


def test_every_parameter_is_read_and_never_set_again(book):
    names = {node.target.id for node in ast.parse(parameters_cell(book).source).body}
    used = [node for tree in trees(code(book)[1:]) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {node.id for node in used if isinstance(node.ctx, ast.Load)}
    written = {node.id for node in used if isinstance(node.ctx, ast.Store)}
    assert names <= read, f"nobody reads {names - read}"
    assert not names & written, f"set again below the parameters: {names & written}"


def test_names_given_to_resolve_are_settings(book):
    for tree in trees(code(book)[1:]):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("resolve"):
                given = {keyword.arg for keyword in node.keywords if keyword.arg}
                assert given <= set(RunConfig.__dataclass_fields__), given


def part_of(module, name):
    """What `from module import name` gives."""
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


def test_what_it_takes_from_the_package_is_there(book):
    nodes = [node for tree in trees(code(book)) for node in ast.walk(tree)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("cm3t")]
    taken = {name.name: part_of(node.module, name.name) for node in imports for name in node.names}
    parts = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    modules = {name: found for name, found in taken.items() if ismodule(found)}
    used = [(modules[part.value.id], part) for part in parts if part.value.id in modules]
    assert not [ast.unparse(part) for module, part in used if not hasattr(module, part.attr)]


def test_links_to_notebooks_are_called_as_they_are(book):
    for words, name in re.findall(r"\[(\d\d · [^\]]+)\]\(([\w.]+\.ipynb)\)", prose(book)):
        assert words in (notebooks.title(book.path.parent / name), "00 · Start here")


def test_links_and_files_exist(book):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(book)):
        if not re.match(r"[a-z]+:", target):
            assert (book.path.parent / target).resolve().exists(), f"broken link: {target}"
    for target in re.findall(r"results/[\w/.+-]+\.(?:json|md|csv|png|svg)", prose(book)):
        assert (ROOT / target).exists(), f"mentioned, but not there: {target}"


def test_each_code_cell_is_led_to_by_prose(book):
    """Never more than two code cells in a row: a reader is told what to look for."""
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in book.cells)
    assert "cccc" not in kinds, "four code cells in a row without a sentence between them"

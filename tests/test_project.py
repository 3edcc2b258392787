"""What a newcomer meets first agrees with itself: versions, pins, README, licence, and no trace of a machine."""

import ast
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import cm3t
from cm3t import report

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(
    re.fullmatch(r"([a-z0-9-]+)==(\S+)(?:  # .+)?", line).groups()
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
)
ENVIRONMENT = (ROOT / "environment.yml").read_text()
PINS = dict(re.findall(r"^\s+- ([a-z0-9-]+)==(\S+)", ENVIRONMENT, re.MULTILINE))
EXTRAS = ("test",)
WORDS = 900


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!\[ ]", name)[0]).lower()


def direct() -> set[str]:
    extras = [need for extra in EXTRAS for need in PROJECT["optional-dependencies"][extra]]
    return {normal(need) for need in PROJECT["dependencies"] + extras}


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cm3t.__version__ == PROJECT["version"] == str(citation["version"])
    keys = re.findall(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert len(keys) == 1


def test_the_citation_is_of_the_paper():
    from cm3t.paper import TITLE

    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert paper["title"].strip() == TITLE and paper["year"] == 2025
    assert [author["family-names"] for author in paper["authors"]] == ["Agrawal", "Guermal", "Balazia", "Brémond"]


def test_every_dependency_is_pinned_once_and_the_same_everywhere():
    assert direct() == set(PINS), "environment.yml pins exactly the direct dependencies; see `make lock`"
    assert {name: LOCK[name] for name in PINS} == PINS, "run `make lock`"


def test_every_pin_has_its_reason():
    bare = [line for line in ENVIRONMENT.splitlines() if re.match(r"\s+- [a-z0-9-]+=", line) and "  # " not in line]
    assert not bare


def test_the_lock_names_no_place():
    pins = re.sub(r"#.*", "", (ROOT / "requirements.lock").read_text())
    assert not re.search(r"://|--|@", pins), "pins only: no index, no hash, no path"


def test_the_lock_satisfies_the_package():
    from packaging.requirements import Requirement

    extras = [need for extra in EXTRAS for need in PROJECT["optional-dependencies"][extra]]
    for need in map(Requirement, PROJECT["dependencies"] + extras):
        assert need.specifier.contains(LOCK[normal(need.name)]), need


def test_torch_and_torchvision_are_of_one_build():
    """Else torchvision's operators do not load: "operator torchvision::nms does not exist"."""
    import torch
    import torchvision

    builds = {package.__version__.partition("+")[2] for package in (torch, torchvision)}
    assert len(builds) == 1, f"two builds: {torch.__version__} and {torchvision.__version__}"
    assert torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5).tolist() == [0]


# Part of the study's fixed stack, imported or not: the notebooks' kernel, and what a reader may count on in them.
FIXED = {"ipykernel", "fvcore", "seaborn", "timm"}


@pytest.mark.slow
def test_what_is_imported_is_declared():
    """Whoever installs the package can import it: nothing comes along by chance. The generator is an extra."""
    files = [path for path in ROOT.glob("cm3t/**/*.py") if "rooms" not in path.parts]
    names = {name.split(".")[0] for path in files for name in imported(path)}
    dists = metadata.packages_distributions()
    needed = {normal(dists[name][0]) for name in names if name in dists} - {"cm3t"}
    core = {normal(need) for need in PROJECT["dependencies"]}
    assert needed <= core, f"imported but not declared: {needed - core}"
    assert core - needed <= FIXED, f"declared but not imported: {core - needed}"


def imported(path: Path):
    """Names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_the_readme_is_short_and_its_links_resolve():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= WORDS
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (ROOT / target).exists(), f"README.md links to {target}"


def test_the_readmes_numbers_are_the_records():
    assert not report.stale_readme(), "run: python -m cm3t.report readme"


def test_the_ledger_on_file_is_the_records():
    """A status cannot change without the change being seen in a diff."""
    from cm3t.pages.ledger import ledger

    kept = (ROOT / "results" / "tables" / "ledger.csv").read_text(encoding="utf-8")
    assert kept == ledger().to_csv(index=False, lineterminator="\n"), "run: python -m cm3t.report"


def tracked() -> list[Path]:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_file_names_a_place_of_a_machine():
    place = re.compile(r"(?<![\w.:/\\])/(home|root|Users|mnt|opt|work)/\w")
    text = (".py", ".md", ".toml", ".yml", ".lock", ".json", ".cff", ".csv", "")
    for path in tracked():
        if path.suffix in text and path.is_file() and path.name != "test_notebooks.py":
            found = place.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"


def test_what_runs_make_is_never_committed():
    kept = [path.relative_to(ROOT).as_posix() for path in tracked()]
    made = [name for name in kept if re.match(r"(results/local|data/source|\.venv)|.*\.(pyc|egg-info)", name)]
    assert not made


def test_all_rooms_together_take_at_most_40_mb():
    sizes = [p.stat().st_size for p in (ROOT / "data").glob("rooms-*/**/*") if p.is_file()]
    assert len(sizes) > 1000 and sum(sizes) <= 40e6


def test_ci_calls_what_people_call():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script and "make" in script and "test" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

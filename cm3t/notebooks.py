"""The study's notebooks as files: found by number, executed in place, kept clean, counted.

A committed notebook is executed, has counts 1 to n, a python3 kernel and no trace of the machine in its metadata:
then strict nbval compares every output that is not tagged otherwise.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cm3t import config
from cm3t.coerce import ConfigError

if TYPE_CHECKING:  # slow to import, and the report needs no more than titles
    import nbformat

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
UNCOMPARED = ("nbval-ignore-output", "nbval-skip")
TAGS = ("parameters", *UNCOMPARED, "raises-exception", "hide-input")
CELL_TIMEOUT = config.PROFILES["smoke"].cell_timeout


def folder() -> Path:
    """Where the notebooks lie."""
    return config.ROOT / "notebooks"


def known() -> list[Path]:
    """All notebooks, in order."""
    return sorted(folder().glob("[0-9][0-9]_*.ipynb"))


def find(words=()) -> list[Path]:
    """Notebooks in order, all or those named by number ("02", "2") or by the start of their name."""
    there = known()
    if not there:
        raise ConfigError(f"no notebooks in {folder()}; set CM3T_HOME to a checkout of cm3t")
    chosen = []
    for word in words:
        start = f"{int(word):02d}_" if word.isdigit() else word.removesuffix(".ipynb")
        found = [path for path in there if path.name.startswith(start)]
        if not found:
            raise ConfigError(f"no notebook {word!r}; there are {', '.join(path.stem for path in there)}")
        chosen += found
    return sorted(set(chosen)) if words else there


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook in format 4."""
    import nbformat

    return nbformat.read(path, as_version=4)


def title(path: Path) -> str:
    """The text of a notebook's first heading."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    return next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")), path.stem)


def is_compared(cell: nbformat.NotebookNode) -> bool:
    """Would strict nbval compare something here: a code cell that ran, printed, and is not tagged away?"""
    tags = cell.metadata.get("tags", [])
    return (
        cell.cell_type == "code"
        and cell.execution_count is not None
        and bool(cell.outputs)
        and not any(tag in UNCOMPARED for tag in tags)
    )


def refresh(path: Path) -> None:
    """Execute a notebook where it lies, as nbval does, and write it back clean; an error leaves the file alone.

    Runs go to an empty folder that is then removed, so the stored outputs are those of a first execution.
    """
    from nbclient import NotebookClient

    notebook = read(path)
    kept = os.environ.get("CM3T_LOCAL")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["CM3T_LOCAL"] = empty
        try:
            client = NotebookClient(
                notebook,
                kernel_name="python3",
                timeout=CELL_TIMEOUT,
                config=kernel_settings(),
                coalesce_streams=True,
                resources={"metadata": {"path": str(path.parent)}},
            )
            client.execute()
        finally:
            os.environ.pop("CM3T_LOCAL")
            if kept is not None:
                os.environ["CM3T_LOCAL"] = kept
    write(clean(notebook), path)


def kernel_settings():
    """Settings for nbclient (and papermill) by which kernels encrypt what they say, where they can.

    Kernels talk over TCP, and warn about it once each where that is in plain text.
    """
    from nbclient.client import KernelManager, NotebookClient

    known = KernelManager.class_trait_names(config=True)  # only newer ones have the policy
    policy = {"transport_encryption": "auto"} if "transport_encryption" in known else {}
    return NotebookClient.config.klass({"KernelManager": policy})


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without widgets, papermill's and execution's metadata.

    Kernel, language, tags, folded sources and pictures' alternative texts stay.
    """
    from nbformat import from_dict

    notebook.metadata = from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat_minor = max(5, notebook.nbformat_minor)
    for cell in notebook.cells:
        cell.metadata = from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                said = output.metadata.get("image/png", {}).get("alt")
                output.metadata = from_dict({"image/png": {"alt": said}} if said else {})
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Validate, then replace the file in one step."""
    import nbformat

    nbformat.validate(notebook)
    partial = path.with_name(f".{path.name}.partial")
    nbformat.write(notebook, partial)
    os.replace(partial, path)

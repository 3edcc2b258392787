"""Assets of the installed simulators: found, thinned once into a cache, never shipped.

Software rendering is bound by triangles and texture size, so `thinned` copies a package's asset folder to
``$CM3T_CACHE`` (default ``~/.cache/cm3t``), simplifies every mesh to a few hundred faces and shrinks every texture.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

MESHES = {".stl", ".obj"}
TEXTURES = {".png", ".jpg", ".jpeg"}


class MissingAsset(RuntimeError):
    """A simulator package (or a file in it) that the generator needs is not installed."""


def package_folder(package: str, *inside: str) -> Path:
    """Folder (or file) of an installed package, found without importing it.

    Args:
        package: import name, such as ``"metaworld"``.
        inside: path components below the package.
    Raises:
        MissingAsset: the package or the path is not there; the message says what to install.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingAsset(f"package {package!r} is not installed: in the clone, pip install -e '.[simulate]'")
    path = Path(list(spec.submodule_search_locations)[0]).joinpath(*inside)
    if not path.exists():
        raise MissingAsset(f"{path} is missing: the installed {package!r} is another version than cm3t[simulate] pins")
    return path


def package_version(distribution: str) -> str:
    """Installed version of a distribution, ``"absent"`` when there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def cache_folder() -> Path:
    """``$CM3T_CACHE`` or ``~/.cache/cm3t``, created when absent."""
    folder = Path(os.environ.get("CM3T_CACHE") or Path.home() / ".cache" / "cm3t")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def thinned(folder: Path | str, *, faces: int = 300, texture: int = 128) -> Path:
    """Copy of an asset folder with simplified meshes and small textures, made once and cached.

    Args:
        folder: asset folder of an installed package (XML, STL or OBJ, PNG or JPEG inside).
        faces: greatest number of triangles of a mesh; a mesh below it is copied as it is.
        texture: longest side of a texture in pixels.
    Returns:
        The copy's folder, with the same relative paths. Safe when two processes ask at once.
    Choice: only what is *drawn* is thinned; physics runs on the package's own meshes.
    """
    folder = Path(folder)
    key = hashlib.sha256(f"{_fingerprint(folder)}|{faces}|{texture}|2".encode()).hexdigest()[:12]
    target = cache_folder() / f"assets-{folder.name}-{key}"
    if target.exists():
        return target
    work = Path(tempfile.mkdtemp(dir=cache_folder(), prefix="making-"))
    try:
        copy = work / folder.name
        shutil.copytree(folder, copy)
        for path in sorted(copy.rglob("*")):
            if path.suffix.lower() in MESHES:
                simplify_mesh(path, faces)
            elif path.suffix.lower() in TEXTURES:
                shrink_texture(path, texture)
        try:
            copy.rename(target)
        except OSError:  # another process was faster
            if not target.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def simplify_mesh(path: Path, faces: int) -> None:
    """Rewrite a mesh file with at most about ``faces`` triangles (quadric edge collapse)."""
    import fast_simplification
    import numpy as np
    import trimesh

    mesh = trimesh.load(path, process=True, force="mesh")
    count = len(mesh.faces)
    if count <= faces:
        return
    vertices, triangles = fast_simplification.simplify(
        np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32), 1 - faces / count
    )
    if len(triangles) >= 4:
        trimesh.Trimesh(vertices, triangles, process=False).export(path)


def shrink_texture(path: Path, side: int) -> None:
    """Rewrite an image file with its longest side at most ``side`` pixels (RGB)."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side))
    small.save(path)


def _fingerprint(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return ";".join(f"{p.relative_to(folder)}:{p.stat().st_size}" for p in files)

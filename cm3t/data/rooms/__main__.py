"""Command line of the generator: ``python -m cm3t.data.rooms source|kitchen|card|probes|group|dyad|...``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

MODULES = (  # each has a main(arguments)
    "kitchen", "card", "probes", "group", "group-card", "group-probes", "dyad", "dyad-card", "dyad-probes",
)  # fmt: skip


def source(arguments: list[str]) -> int:
    """``source``: make or complete the source set."""
    from cm3t.config import data_dir

    from .source import Recipe, generate

    default = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m cm3t.data.rooms source", description=generate.__doc__.splitlines()[0]
    )
    parser.add_argument("--classes", type=int, default=None, help="only so many classes, spread over the table")
    parser.add_argument("--clips", type=int, default=default.clips, help="clips a class (default %(default)s)")
    parser.add_argument("--views", type=int, default=default.views, help="cameras a rollout (default %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="default: data/source of the project")
    given = parser.parse_args(arguments)
    out = given.out or data_dir() / "source"
    recipe = Recipe(clips=given.clips, views=given.views, seed=given.seed)
    generate(out, recipe, limit=given.classes, workers=given.workers, log=lambda line: print(line, flush=True))
    return 0


def _module(name: str):
    return lambda rest: importlib.import_module(f"{__package__}.{name}").main(rest)


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a set's generator; its packages are imported only then."""
    arguments = sys.argv[1:] if arguments is None else arguments
    known = {"source": source} | {name: _module(name.replace("-", "_")) for name in MODULES}
    if not arguments or arguments[0] not in known:
        print(f"usage: python -m cm3t.data.rooms {{{','.join(known)}}} [options]", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    return known[arguments[0]](arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())

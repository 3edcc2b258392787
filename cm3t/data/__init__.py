"""Data sets: each is a list of `Clip`, and `collate` puts clips into a `Batch`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from cm3t.config import data_dir
from cm3t.data.clip import Batch, Clip, augment, collate, normalise, subsample, unanchor

__all__ = ["Batch", "Clip", "augment", "collate", "normalise", "open_data", "subsample", "unanchor"]
NAMES = ("rooms-kitchen", "epic")


def open_data(name: str, root: str | Path | None = None, split: str = "train", **options):
    """A split of a data set, by the set's name.

    name: "rooms-kitchen" (the embedded benchmark; root is data/rooms-kitchen unless given) or "epic"
    (EPIC-KITCHENS-100; root is the folder of PXX/videos). options: those of `epic.EpicKitchens`.
    Shapes: a list of `Clip`, video uint8 (3, T, H, W), targets verb and noun.
    Errors: ValueError for an unknown name; FileNotFoundError, with the remedy, where the data are not there.
    """
    if name not in NAMES:
        near = get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}{hint} Known are {', '.join(NAMES)}")
    from cm3t.data.epic import EpicKitchens

    if name == "epic":
        return EpicKitchens(root, split=split, **options)
    root = Path(root or data_dir() / name)
    try:
        return EpicKitchens(root, split=split, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the embedded kitchen is not, or not whole, at {root}: it ships with the repository, in data/{name}. "
            "Run in the repository or set CM3T_HOME to it, and restore what is missing with git; "
            "`python -m cm3t.data.rooms --help` tells how to make it anew.\n" + str(error).splitlines()[0]
        ) from None

"""Data sets: each is a list of `Clip`, and `collate` puts clips into a `Batch`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from cm3t.config import data_dir
from cm3t.data.clip import Batch, Clip, augment, collate, normalise, subsample, unanchor
from cm3t.data.features import MissingFeatures
from cm3t.sides import SOUNDS

__all__ = ["Batch", "Clip", "augment", "collate", "normalise", "open_data", "subsample", "unanchor"]
# Each reader serves a real data set and the embedded benchmark in its layout.
READERS = {
    "rooms-kitchen": "epic:EpicKitchens",
    "epic": "epic:EpicKitchens",
    "rooms-group": "mpiigi:MpiiGroupInteraction",
    "mpiigi": "mpiigi:MpiiGroupInteraction",
    "rooms-dyad": "udiva:Udiva",
    "udiva": "udiva:Udiva",
    "folder": "folder:VideoFolder",
}
NAMES = tuple(READERS)


def open_data(name: str, root: str | Path | None = None, split: str = "train", **options):
    """A split of a data set, by the set's name.

    name: "epic", "mpiigi", "udiva" (root is the folder of the recordings), or the embedded benchmark in the layout of
    each: "rooms-kitchen", "rooms-group", "rooms-dyad" (root is data/<name> unless given); "folder" is anybody's own,
    videos and a CSV file of labels. options: those of `epic.EpicKitchens`, `mpiigi.MpiiGroupInteraction`,
    `udiva.Udiva`, `folder.VideoFolder`.
    Shapes: a list of `Clip`, video uint8 (3, T, H, W); targets verb and noun, behaviour (14,), traits (5,), or label.
    Errors: ValueError for an unknown name; FileNotFoundError, with the remedy, where the data are not there.
    """
    if name not in READERS:
        near = get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown data set {name!r}{hint} Known are {', '.join(NAMES)}")
    module, _, reader = READERS[name].partition(":")
    opened = getattr(import_module(f"{__name__}.{module}"), reader)
    if not name.startswith("rooms-"):
        return opened(root, split=split, **options)
    root = Path(root or data_dir() / name)
    if name in SOUNDS:
        options.setdefault("sound", SOUNDS[name])
    try:
        return opened(root, split=split, **options)
    except MissingFeatures:  # a user's own, of which the room's folder knows nothing
        raise
    except FileNotFoundError as error:
        what = name.removeprefix("rooms-")
        raise FileNotFoundError(
            f"the embedded {what} is not, or not whole, at {root}: it ships with the repository, in data/{name}. "
            "Run in the repository or set CM3T_HOME to it, and restore what is missing with git; "
            "`python -m cm3t.data.rooms --help` tells how to make it anew.\n" + str(error).splitlines()[0]
        ) from None

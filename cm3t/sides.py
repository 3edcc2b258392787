"""Which modalities each data set has beside its pictures."""

from pathlib import Path

SIDES = {
    "rooms-kitchen": ("audio", "flow"),
    "epic": ("audio", "flow"),
    "rooms-group": ("audio",),
    "mpiigi": ("audio",),
    "rooms-dyad": ("audio", "transcript"),
    "udiva": ("audio", "landmarks", "transcript"),
    "folder": ("audio", "flow", "transcript"),  # and features of any name: `sides_of`
}
# How sound is read where `side.sound_options` shall not take EPIC-KITCHENS-100's own settings: the rooms' holds nothing
# above 8 kHz, and adapters of one can only be reused in the other where both are read alike.
# Choice: rooms-dyad is not among them. Its reader has settings of its own (`udiva.SOUND`: 16 kHz, 400 x 128 a window),
# with which the dyad's voices were settled, and the ceilings of its card measured.
SOUNDS = {"rooms-kitchen": "small", "rooms-group": "small"}
FEATURES = "features"  # the folder of a user's own modalities: ROOT/features/<name>, or <name>.h5
ARCHIVES = (".h5", ".hdf5")


def sides_of(data: str, root: str | Path | None = None) -> tuple[str, ...]:
    """The modalities of a data set; those of a folder (or of its labels' file) include what lies in ROOT/features."""
    if data != "folder" or root is None:
        return SIDES[data]
    root = Path(root).expanduser()
    found = list(((root if root.is_dir() else root.parent) / FEATURES).glob("*"))
    own = {path.name for path in found if path.is_dir()} | {path.stem for path in found if path.suffix in ARCHIVES}
    return (*SIDES[data], *sorted(name for name in own - set(SIDES[data]) if name.isidentifier()))

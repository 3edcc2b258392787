"""Difficulty probes of rooms-group: how far frames, sound, and both together get, with controls.

``python -m cm3t.data.rooms group-probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed,
which the data card shows. Small networks of our own, trained from scratch by one recipe: they show
what at least is to be had of a cue.
The joint network is scored again with the sound left out, silenced, and of another clip; "shuffled" is trained on
other clips' sound too, so that only chance remains of what it could add.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from cm3t.data.rooms import probing
from cm3t.data.rooms.probe_nets import Frame, Stack
from cm3t.data.rooms.probing import Design, Recipe, Room
from cm3t.training.sets import ClipSet


def chance(train: ClipSet, clips: ClipSet, seed: int) -> dict[str, np.ndarray]:
    """Random scores {"behaviour": (n, 14)}."""
    return {head: np.random.default_rng(seed).random(target.shape) for head, target in clips.target.items()}


ROOM = Room(
    name="group",
    recipe=Recipe(epochs=25, kept=8),
    designs={
        "sound": Design(side=("audio",)),
        "frame": Design(Frame),
        "frames": Design(Stack),
        "joint": Design(Stack, ("audio",)),
        "shuffled": Design(Stack, ("audio",), exchanged=True),
    },
    trivial={"chance": chance},
    seeded=("chance", "sound", "frame", "frames", "joint", "shuffled"),
    size=96,
)
PROBES = ("chance", *ROOM.designs)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    measure = partial(probing.measure, ROOM)
    return probing.command("group", argv, known=PROBES, measure=measure, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())

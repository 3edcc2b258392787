"""Difficulty probes of rooms-kitchen: how far one frame, sound, motion, and all of them together get, with controls.

``python -m cm3t.data.rooms probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed, which
the data card shows beside the linear probe, training from scratch and full fine-tuning. Small networks of our own, the
same recipe for each: they show what at least is to be had of a cue, they are not tuned against each other.
"joint" is scored again without a modality, with another clip's and with silence or no motion; "shuffled" is trained on
other clips' sound and motion too, so that only chance remains of what they could add.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from cm3t.data.rooms import probing
from cm3t.data.rooms.kitchen_world import PAIRS
from cm3t.data.rooms.probe_nets import Frame, Stack
from cm3t.data.rooms.probing import Design, Recipe, Room
from cm3t.training.sets import ClipSet

BOTH = ("audio", "flow")


def majority(train: ClipSet, clips: ClipSet, seed: int) -> dict[str, np.ndarray]:
    """Scores {head: (n, classes)} that always name the most frequent verb and noun of train."""
    best = {head: int(values.mode().values) for head, values in train.target.items()}
    most = {h: 1 + max(best[h], int(clips.target[h].max()), int(train.target[h].max())) for h in best}
    return {head: np.eye(most[head])[[best[head]] * len(clips)] for head in best}


def pair_scores(clips: ClipSet, outputs: Mapping[str, np.ndarray]) -> dict:
    """{"pairs": {pair: {"accuracy": percent, "n": clips}}}: the better of the two verbs, on the clips of a pair.

    Shapes: outputs {"verb": (n, V), ..}. The noun is the same for both, so its scores cannot decide.
    """
    verb, noun = (clips.target[head].numpy() for head in ("verb", "noun"))
    found = {}
    for name, (two, thing) in PAIRS.items():
        own = np.isin(verb, two) & (noun == thing)
        if own.any():
            better = np.array(two)[outputs["verb"][own][:, two].argmax(1)]
            found[name] = {"accuracy": 100 * float((better == verb[own]).mean()), "n": int(own.sum())}
    return {"pairs": found}


ROOM = Room(
    name="kitchen",
    recipe=Recipe(epochs=12, weight_decay=0.02, smoothing=0.05, dropped=0.25),
    designs={
        "frame": Design(Frame),
        "frames": Design(Stack),
        "sound": Design(side=("audio",)),
        "flow": Design(side=("flow",)),
        "joint": Design(Stack, BOTH),
        "shuffled": Design(Stack, BOTH, exchanged=True),
    },
    trivial={"majority": majority},
    seeded=("frame", "frames", "sound", "flow", "joint", "shuffled"),
    extra=pair_scores,
)
PROBES = ("majority", *ROOM.designs)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    measure = partial(probing.measure, ROOM)
    return probing.command("kitchen", argv, known=PROBES, measure=measure, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())

"""Which runs answer a notebook's question: variants in groups, and which groups run at which profile.

A group is a row of comparisons that share what they are compared with. Tables and figures go through the same
`Variant`s as the runs, so that a run and its row cannot drift apart. Data, not code: `study.py` turns it into runs.
"""

from dataclasses import dataclass, field

from cm3t.settings import CLIPS
from cm3t.sides import SIDES


@dataclass(frozen=True)
class Variant:
    """One row of a table: how it is called there, and the settings that make it differ from the defaults."""

    label: str
    settings: dict = field(hash=False)


# Choice: controlled comparisons are made at MHVA's own bottleneck, r = C / 4; the main table at each method's preset.
R = {"reduction": 4}
# One shared adapter with MHVA's two other factors (learned scale, normed input): cells are all that differs.
SHARED = {"method": "adaptformer+scale+norm"}
WIDE = SHARED | R | {"match_cells": 2}

ADAPTFORMER = Variant("AdaptFormer, r = C/4", {"method": "adaptformer"} | R)
EQUAL = Variant("shared, equal parameters", WIDE)
MHVA = Variant("MHVA", {"method": "mhva"})
MAIN = (
    Variant("linear probe", {"method": "linear"}),
    Variant("AdaptFormer", {"method": "adaptformer"}),
    Variant("PT", {"method": "pt"}),
    Variant("AdaptFormer + PT", {"method": "adaptformer+pt"}),
    MHVA,
    Variant("MHVA + PT", {"method": "mhva+pt"}),
    Variant("full fine-tuning", {"method": "full"}),
)
LADDER = (
    ADAPTFORMER,
    Variant("+ cells", {"method": "adaptformer+cells"} | R),
    Variant("+ learned scale", {"method": "adaptformer+scale"} | R),
    Variant("+ normed input", {"method": "adaptformer+norm"} | R),
    Variant("all three (MHVA)", MHVA.settings),
)
REDUCTIONS = (16, 8, 4, 2)
BOTTLENECK = tuple(Variant(f"shared, r = C/{k}", SHARED | {"reduction": k}) for k in REDUCTIONS) + tuple(
    Variant(f"MHVA, r = C/{k}", MHVA.settings | ({} if k == 4 else {"reduction": k})) for k in REDUCTIONS
)
CELLS = (
    Variant("1 cell (shared)", SHARED | R),
    Variant("2 x 2 cells (MHVA)", MHVA.settings),
    Variant("3 x 3 cells", {"method": "mhva", "cells": 3}),
)
ANCHORING = (
    EQUAL,
    MHVA,
    Variant("shared, equal parameters, not anchored", WIDE | {"anchored": False}),
    Variant("MHVA, not anchored", MHVA.settings | {"anchored": False}),
)
# What the others are to be read against; not tuned themselves.
REFERENCES = (
    Variant("linear probe, untrained backbone", {"method": "linear", "weights": None}),
    Variant("all from random weights", {"method": "scratch"}),
)
# Two rates of AdaptFormer + PT are equally good on `tune`: its row takes the lower one, this is the other.
TIED = Variant("AdaptFormer + PT, the other of its two best rates", MAIN[3].settings | {"lr": 3e-2})
# The best of PT's first six rates, run before the sweep went on beyond it; `tune` prefers the next one, 0.3.
SECOND = Variant("PT, its second best rate", MAIN[2].settings | {"lr": 1e-1})
OTHER_RATES = (MAIN[5], MAIN[3], TIED, MAIN[2], SECOND)
# What gets the learning-rate sweep: every method that the tables compare, each with the same rates.
TUNED = (*MAIN, *LADDER[1:4], CELLS[0], EQUAL)
# Choice: half a decade apart.
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

# Notebook 03: what prefix tuning adds, and the two small changes of Sec. 3.2.2.
PT, MHVA_PT, FULL = MAIN[2], MAIN[5], MAIN[6]
PREFIXES = (PT, MHVA, MHVA_PT)
ACTIVATION = (
    MHVA_PT,
    Variant("MHVA + PT, tanh", MHVA_PT.settings | {"activation": "tanh"}),
    PT,
    Variant("PT, tanh", PT.settings | {"activation": "tanh"}),
)
SCALE = (MHVA_PT, Variant("MHVA + PT, fixed scale", MHVA_PT.settings | {"learnable_scale": False}))
LENGTHS = (1, 4, 16, 36)  # 4 is the mini backbone's own; 36 prefix tokens are as many as a window has tokens


def longer(variant: Variant, length: int) -> Variant:
    """The variant with another prefix length; the backbone's own keeps the run that is there already."""
    return Variant(
        f"{variant.label}, l = {length}", variant.settings | ({} if length == 4 else {"prefix_length": length})
    )


LENGTH = tuple(longer(v, length) for v in (PT, MHVA_PT) for length in LENGTHS)

# Notebooks 04, 05, 07 and 09: modalities. A side is the method's own setting, not a data set's.
ROOMS = ("rooms-kitchen", "rooms-group", "rooms-dyad")
BOTH = SIDES["rooms-kitchen"]
CM3T = Variant("CM3T", {"method": "mhva+pt+caa", "side": BOTH})
LONGER = Variant("MHVA + PT, twice as long", MHVA_PT.settings | {"stretch": 2})  # as long as CM3T's two steps
EXCHANGED = Variant("CM3T, always another clip's", CM3T.settings | {"exchanged": True})
MODALITIES = (
    MHVA_PT,
    LONGER,
    Variant("CM3T with audio", CM3T.settings | {"side": ("audio",)}),
    Variant("CM3T with flow", CM3T.settings | {"side": ("flow",)}),
    CM3T,
    EXCHANGED,
)
JOIN = (CM3T, Variant("joined by plain addition", CM3T.settings | {"caa_join": "add"}))
SOURCE = (CM3T, Variant("generic features, not MHVA's bottleneck", CM3T.settings | {"caa_source": "generic"}))
# Paper: Sec. 3.1 places modalities at spatial resolutions, "depending on the side input": each alone, in each stage.
STAGES = tuple(
    variant
    for alone in MODALITIES[2:4]
    for variant in (
        alone,
        *(Variant(f"{alone.label}, stage {i} only", alone.settings | {"caa_stages": (i,)}) for i in (1, 2, 3)),
    )
)
REGIME = (
    CM3T,
    Variant("each modality apart, then the fusion", CM3T.settings | {"regime": "apart"}),
    Variant("end to end, as long", CM3T.settings | {"regime": "joint", "stretch": 2}),
)
READINGS = (
    CM3T,
    Variant("standard attention", CM3T.settings | {"caa_form": "standard"}),
    Variant("token gate", CM3T.settings | {"caa_form": "token_gate"}),
)
MMCA = Variant("MMCA", {"method": "mhva+pt+mmca", "side": BOTH})
LATE = Variant("late fusion", {"method": "mhva+pt+late", "side": BOTH})
RIVALS = (MHVA_PT, CM3T, MMCA, LATE)
# Choice: end to end; with nothing frozen there is nothing to protect by steps. As many epochs as CM3T's two steps.
FULL_CAA = Variant("full fine-tuning + CAA", {"method": "full+caa", "side": BOTH, "regime": "joint", "stretch": 2})

# The measure by which runs are compared, for each room and the real set in whose place it stands.
HEADLINES = dict.fromkeys(("rooms-kitchen", "epic"), "action_top1") | dict.fromkeys(("rooms-group", "mpiigi"), "map")
HEADLINES |= dict.fromkeys(("rooms-dyad", "udiva"), "mse") | {"folder": "top1"}
LOWER = ("mse",)  # headlines of which less is better
# Where a constant answer has a score: of a rate that is no better, one learns that it was too high.
CONSTANT = {"mse": 0.99}  # Choice: 1 of standardised traits, less a margin, since a finite split differs from it


# The licensed set in whose place each room stands: what runs where the folders of real sets are given.
STAND_INS = {"rooms-kitchen": "epic", "rooms-group": "mpiigi", "rooms-dyad": "udiva"}


def on(variant: Variant, data: str) -> Variant:
    """The variant on another room, with that room's modalities if it has a side."""
    if data == "rooms-kitchen":
        return variant
    side = {"side": SIDES[data]} if "side" in variant.settings else {}
    return Variant(f"{variant.label}, {data}", variant.settings | {"data": data} | side)


TABLE_4 = (FULL, MHVA_PT, FULL_CAA, CM3T)
TASKS = {f"table 4, {data}": tuple(on(v, data) for v in TABLE_4) for data in ROOMS}
# What CM3T is held against beside its vision: vision trained as long, and the same training with another clip's
# modalities, which are as many parameters and may also mislead.
OTHERS = {data: (on(LONGER, data), on(EXCHANGED, data)) for data in ROOMS}
KITCHEN_CLIPS = CLIPS["rooms-kitchen"]  # for training
SIZES = (150, 300, 600)  # of them


def sized(clips: int, of: int = KITCHEN_CLIPS) -> dict:
    """Settings of a run on fewer clips, with so many more epochs that it takes as many steps."""
    return {"train_clips": clips, "stretch": round(of / clips)}


def fewer(variant: Variant, clips: int) -> Variant:
    """The variant with so many clips of rooms-kitchen."""
    return Variant(f"{variant.label}, {clips} clips", variant.settings | sized(clips))


SMALLER = tuple(fewer(v, n) for v in (MAIN[0], MHVA_PT, CM3T, FULL) for n in SIZES)
HARDENED = Variant("CM3T, modality dropout", CM3T.settings | {"modality_dropout": 0.3})
MISSING = (CM3T, HARDENED, MMCA, LATE)
# Reuse: the audio adapters of the kitchen, in the group, whose sound is read alike; with few clips and with all.
DONOR = MODALITIES[2]
FEW = 100  # clips
SCARCE = tuple(
    Variant(
        f"CM3T with audio, rooms-group, {n or 'all'} clips",
        DONOR.settings | {"data": "rooms-group"} | (sized(n, CLIPS["rooms-group"]) if n else {}),
    )
    for n in (FEW, None)
)
REUSED = tuple(Variant(f"{v.label}, reused audio adapters", v.settings | {"init": DONOR.settings}) for v in SCARCE)

# Notebook 06: other frozen networks, and the weights of each by name.
NETWORKS = {
    "swin": ("video_swin_mini", "default"),
    "vivit": ("vivit_mini", "default"),
    "clip": ("clip_mini", "contrastive"),
    "vivit_b": ("vivit_b", "kinetics400"),
    "clip_b": ("clip_b", "openai"),
}


def frozen(variant: Variant, network: str) -> Variant:
    """The variant on another frozen network, a name of NETWORKS."""
    backbone, weights = NETWORKS[network]
    return Variant(f"{variant.label}, {network}", variant.settings | {"backbone": backbone, "weights": weights})


UNTUNED = {"stretch", "exchanged"}  # settings of rows that others are read against, at the others' rates
TABLE_6 = {
    name: tuple(frozen(v, name) for v in (MAIN[0], FULL, MAIN[3], MHVA_PT, CM3T, LONGER, EXCHANGED))
    for name in ("swin", "vivit", "clip")
}
AGNOSTIC = (frozen(MHVA_PT, "swin"), *(TABLE_6["vivit"][i] for i in (1, 3)), frozen(MHVA_PT, "clip"))
REAL = (*(frozen(v, "vivit_b") for v in (FULL, MHVA_PT, CM3T)), *(frozen(v, "clip_b") for v in (MHVA_PT, CM3T)))

STUDIES = {
    "02": {
        "core": (ADAPTFORMER, EQUAL, MHVA),
        "essential": (MAIN[0], MAIN[3], MAIN[5], MAIN[6]),
        "main": MAIN,
        "ladder": LADDER,
        "bottleneck": BOTTLENECK,
        "cells": CELLS,
        "anchoring": ANCHORING,
        "references": REFERENCES,
        "rates": OTHER_RATES,
        "tuning": TUNED,
    },
    "03": {"prefixes": PREFIXES, "activation": ACTIVATION, "scale": SCALE, "length": LENGTH},
    "04": {
        "core": (MHVA_PT, CM3T),
        "control": (MHVA_PT, LONGER, CM3T),
        "modalities": MODALITIES,
        "join": JOIN,
        "source": SOURCE,
        "stages": STAGES,
        "regime": REGIME,
        "tuning": (CM3T, FULL_CAA, MMCA, LATE, *READINGS[1:], REGIME[2]),
    },
    "05": {"core": RIVALS[:3], "rivals": RIVALS, "readings": READINGS},
    "06": {
        "pictures": AGNOSTIC[2:],
        "core": AGNOSTIC,
        **TABLE_6,
        "published": REAL,
        "tuning": tuple(v for name in ("vivit", "clip") for v in TABLE_6[name] if not UNTUNED & v.settings.keys()),
    },
    "07": {
        "pictures": (FULL, MHVA_PT),
        "core": (FULL, MHVA_PT, *(on(v, data) for data in ROOMS[1:] for v in (MHVA_PT, CM3T))),
        **TASKS,
        "others": tuple(v for pair in OTHERS.values() for v in pair),
        "size": SMALLER,
        "tuning": tuple(on(v, data) for data in ROOMS[1:] for v in TABLE_4),
    },
    "09": {"core": (CM3T,), "missing": MISSING, "reuse": (DONOR, *SCARCE, *REUSED)},
}
# Which groups run at which profile. The sweep of learning rates is asked for by name and runs apart.
EVERYTHING = tuple(group for group in STUDIES["02"] if group != "tuning")
PLAN = {
    "02": {"smoke": ("core",), "quick": ("core", "essential"), "full": EVERYTHING, "paper": ("core", "main")},
    "03": {
        "smoke": ("prefixes",),
        "quick": ("prefixes", "scale"),
        "full": ("prefixes", "activation", "scale", "length"),
        "paper": ("prefixes", "activation", "scale"),
    },
    "04": {
        "smoke": ("core",),
        "quick": ("control",),
        "full": ("core", "modalities", "join", "source", "stages", "regime"),
        "paper": ("core", "modalities"),
    },
    "05": {"smoke": ("core",), "quick": ("core",), "full": ("core", "rivals", "readings"), "paper": ("core",)},
    "06": {"smoke": ("pictures",), "quick": ("core",), "full": tuple(TABLE_6), "paper": ("published",)},
    "07": {
        "smoke": ("core",),
        "quick": ("core",),
        "full": ("core", *TASKS, "others", "size"),
        "paper": tuple(TASKS),
    },
    "09": {
        "smoke": ("core",),
        "quick": ("core",),
        "full": ("core", "missing", "reuse"),
        "paper": ("core", "reuse"),
    },
}

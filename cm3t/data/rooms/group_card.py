"""The data card of rooms-group, rendered: ``python -m cm3t.data.rooms group-card [--root DIR]`` writes its README.md.

Every number is read from ``rooms.json``, the dials or the difficulty records (``results/records/card-group``).
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from pathlib import Path

from cm3t.data.mpiigi_samples import BEHAVIOURS
from cm3t.data.rooms import cards, files, group_files, kitchen_world
from cm3t.data.rooms.cards import read_probes, spread, table
from cm3t.data.rooms.group_card_text import TEXT
from cm3t.data.rooms.group_world import KINDS, PAUSES, SECONDS, SPEAKS, VOICES

SPLITS = ("train", "tune", "val")
# What a behaviour can be told by: picture, sound.
CUES = {
    "Settle": ("trunk rises and shifts, hands on the seat", ""),
    "Legs crossed": ("one shin over the other knee", ""),
    "Groom": ("a hand strokes over the hair, slowly", ""),
    "Hand-mouth": ("a hand rests on the mouth", "another speaks"),
    "Fold arms": ("forearms crossed before the chest", "mostly another speaks"),
    "Leg movement": ("knees bounce or sway, the crossed foot bobs", ""),
    "Scratch": ("quick rubs at the neck or a forearm", ""),
    "Gesture": ("both hands move before the body", "the target speaks"),
    "Hand-face": ("the cheek rests on a hand", "nobody speaks"),
    "Adjusting clothing": ("both hands tug at the shirt", ""),
    "Fumble": ("both hands move before the body, a little lower and closer", "another speaks"),
    "Shrug": ("shoulders rise, forearms turn out, briefly", "the target stops, another begins"),
    "Stretching": ("both arms go up and out", ""),
    "Smearing hands": ("palms rub over the thighs", ""),
}
# Rows of the difficulty table: method and subset or control of its records, and what it is.
ROWS = {
    ("chance", "all"): "random scores",
    ("sound", "all"): "sound alone (log-mel, small 1-D network)",
    ("frame", "all"): "one frame (small 2-D network, the middle frame)",
    ("frames", "all"): "eight frames (small 2-D network on what stays and what moves)",
    ("joint", "all"): "eight frames and sound",
    ("joint", "no_audio"): "- no sound",
    ("joint", "shuffled_audio"): "- another clip's sound",
    ("joint", "muted_audio"): "- silence",
    ("shuffled", "all"): "eight frames and sound, trained on others' sound",
}
SHOWN = ("Gesture", "Fumble", "Hand-mouth", "Hand-face")  # whose average precisions are shown: the sound tells


def percent(share: float) -> str:
    """A share as text: 0.25 -> "25 %"."""
    return f"{100 * share:.0f} %"


def difficulty(folder: Path | None) -> dict[tuple[str, str], dict[str, list[float]]]:
    """{(method, subset or control): {measure: values over seeds}} of the records in ``folder``.

    Measures: map, map_micro, the average precisions of `SHOWN` (validation), and tune (map).
    """
    found: dict = defaultdict(lambda: defaultdict(list))
    for record in read_probes(folder):
        method, metrics = record["run_info"]["config"]["method"], record["train_info"]["metrics"]
        for subset, scores in metrics["validation"].items():
            cell = found[method, subset]
            for name in ("map", "map_micro"):
                cell[name].append(scores[name])
            for name in SHOWN:
                cell[name].append(scores[f"ap_{BEHAVIOURS.index(name)}"])
            if subset in metrics.get("tune", {}):
                cell["tune"].append(metrics["tune"][subset]["map"])
    return found


def standing(found: dict, runs: Path | None) -> str:
    """In words: what small networks make of each cue, beside the study's own runs; "" before either ran."""
    told = {"frames": "eight frames", "sound": "sound alone", "joint": "both"}
    small = {words: statistics.mean(found[m, "all"]["map"]) for m, words in told.items() if (m, "all") in found}
    return cards.standing("macro mAP", small, cards.of_study(runs, "rooms-group", "map"))


def difficulty_table(found: dict) -> str:
    """The probes and their controls, in the order of `ROWS`."""
    if not found:
        return "_No difficulty records yet: `python -m cm3t.data.rooms group-probes` writes them._"
    measures = ("tune", "map", "map_micro", *SHOWN)
    body = [
        [name, len(found[key]["map"]), *(spread(found[key][measure]) for measure in measures)]
        for key, name in ROWS.items()
        if key in found
    ]
    return table(["method", "seeds", "tune: mAP", "mAP", "micro", *SHOWN], body)


def splits_table(facts: dict) -> str:
    """Sessions, people, recordings and snippets a split."""
    body = []
    for split in SPLITS:
        sessions, recordings = facts["sessions"][split], facts["recordings"][split]
        name = "validation" if split == "val" else split
        body.append([name, len(sessions), 4 * len(sessions), len(recordings), facts["snippets"][split]])
    return table(["split", "sessions", "people", "recordings (targets)", "snippets"], body)


def behaviours_table(facts: dict) -> str:
    """Every behaviour: its positives per split, and what it can be told by."""
    positives = facts["positives"]
    body = [
        [name, *(positives[split][name] for split in SPLITS), *CUES[name]]
        for name in sorted(BEHAVIOURS, key=lambda name: -positives["train"][name])
    ]
    return table(["behaviour", "train", "tune", "validation", "picture", "sound"], body)


def separable(dials: dict) -> float:
    """How often the best rule on the hands' three numbers tells Gesture from Fumble: Phi(d'/2) of three Gaussians."""
    squared = sum((more / spread) ** 2 for _, more, spread in (dials["height"], dials["apart"], dials["swing"]))
    return 0.5 * (1 + math.erf(math.sqrt(squared) / 2 / math.sqrt(2)))


def render(root: Path, records: Path | None = None, runs: Path | None = None) -> str:
    """The card, Markdown. Raises FileNotFoundError when ``root`` holds no finished generation (no ``rooms.json``)."""
    facts = cards.facts_of(root, "group")
    dials, sizes, found = facts["dials"], facts["bytes"], difficulty(records)
    silent = sum(1 for split in group_files.SPLITS for row in _rows(root, split) if int(row[1]) in facts["silent"])
    voices = [f"{KINDS[seat]}, about {voice.pitch:.0f} Hz, on seat {seat}" for seat, voice in VOICES.items()]
    values = dict(
        people=facts["people"], splits=splits_table(facts), behaviours=behaviours_table(facts),
        frames=round(SECONDS * dials["fps"]), total=f"{sizes['total'] / 1e6:.1f}", clips=f"{sizes['clips'] / 1e6:.1f}",
        sound=f"{sizes['sound'] / 1e6:.1f}", second=percent(dials["second"]), voices="; ".join(voices),
        far=percent(dials["far"]), ambiguous=percent(separable(dials)), gesture=percent(SPEAKS["Gesture"]),
        fumble=percent(1 - SPEAKS["Fumble"]), mouth=percent(1 - SPEAKS["Hand-mouth"]),
        face=percent(PAUSES["Hand-face"]), own=percent(dials["own_speech"]), quiet=percent(dials["quiet"]),
        seats=", ".join(percent(share) for share in dials["seat_shares"]), silent=", ".join(map(str, facts["silent"])),
        silent_share=percent(silent / sum(facts["snippets"].values())), trained=facts["snippets"]["train"],
        rarest=min(facts["positives"]["val"].values()), difficulty=difficulty_table(found),
        unmeasured=cards.unmeasured(ROWS, found), standing=standing(found, runs),
        formats=cards.formats(), kitchen=kitchen_world.Dials(),
    )  # fmt: skip
    return TEXT.format(**cards.shared(facts), **values)


def _rows(root: Path, split: str) -> list[list[str]]:
    lines = (root / "bbr" / f"{split}_samples.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split(",") for line in lines]


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms group-card``."""
    return cards.command("group", argv, render=render, digest=files.digest, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())

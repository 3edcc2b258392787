"""The data card of rooms-dyad, rendered: ``python -m cm3t.data.rooms dyad-card [--root DIR]`` writes its README.md.

Every number is read from ``rooms.json``, the tables or the difficulty records (``results/records/card-dyad``).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np

from cm3t.data.media import has_sound
from cm3t.data.rooms import cards
from cm3t.data.rooms.cards import read_probes, spread, table
from cm3t.data.rooms.dyad_card_text import TEXT
from cm3t.data.rooms.dyad_world import CORRELATIONS, TRAITS
from cm3t.data.udiva import Udiva
from cm3t.data.udiva_layout import transcript_path
from cm3t.metrics import TRAITS as NAMES

METHODS = {  # the record's method, and what it is
    "mean": "mean of train (chance)",
    "words_shuffled": "words of another person",
    "words": "words alone (mean of the hashed sentences)",
    "sound": "sound alone (levels of 32 bands)",
    "motion": "pictures alone (what changes, on 14 x 14 cells)",
    "words+sound": "words and sound",
    "words+motion": "words and pictures",
    "sound+motion": "sound and pictures",
    "joint": "words, sound and pictures",
    "joint_shuffled": "sound and pictures, and words of another person",
    "oracle": "the generator's own cues",
    "sound_network": "sound, small 1-D network from scratch",
    "frame_network": "one frame, small 2-D network from scratch",
    "frames_network": "mean and deviation of eight frames, small 2-D network from scratch",
}
SPLITS = ("train", "tune", "validation", "test")
COLUMNS = [*(f"mse_{name}" for name in NAMES), "mse"]


def difficulty(folder: Path | None, digest: str | None = None) -> dict:
    """{method: {split: {subset or control: {measure: values over seeds}}}} of the records (of these data, if given)."""
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list))))
    for record in read_probes(folder):
        known = record["meta_info"].get("digests", {}).get("data")
        if digest and known and known != digest:
            continue
        for split, subsets in record["train_info"]["metrics"].items():
            for subset, scores in subsets.items():
                for name in COLUMNS:
                    found[record["run_info"]["config"]["method"]][split][subset][name].append(scores[name])
    return found


def difficulty_table(found: dict) -> str:
    """Squared errors per trait and their mean on validation, the mean on test and tune; a row a method."""
    if not found:
        return "_No difficulty records yet: `python -m cm3t.data.rooms dyad-probes` writes them._"
    rows = []
    for method in (m for m in METHODS if m in found):
        own = found[method]["validation"]["all"]
        others = [spread(found[method][split]["all"]["mse"], 2) for split in ("test", "tune")]
        rows.append([METHODS[method], len(own["mse"]), *(spread(own[c], 2) for c in COLUMNS), *others])
    return table(["method", "seeds", *TRAITS, "mean", "test: mean", "tune: mean"], rows)


def controls_table(found: dict) -> str:
    """The joint probe with one input exchanged between clips or held at its mean, on validation and test."""
    joint = found.get("joint")
    if not joint:
        return "_Not measured yet._"
    names = sorted(k for k in joint["validation"] if k.startswith(("shuffled_", "muted_")))
    rows = []
    for name in ["all", *names]:
        cells = joint["validation"][name]
        label = "as it is" if name == "all" else name.replace("_", " ")
        rows.append([label, *(spread(cells[c], 2) for c in COLUMNS), spread(joint["test"][name]["mse"], 2)])
    return table(["joint probe, input", *TRAITS, "mean", "test: mean"], rows)


def standing(found: dict, runs: Path | None) -> str:
    """In words: what simple regressions make of each cue, beside the study's own runs; "" before either ran."""
    told = {"motion": "pictures", "sound": "sound", "words": "words", "joint": "all three"}
    small = {words: fmean(found[m]["validation"]["all"]["mse"]) for m, words in told.items() if m in found}
    study = cards.of_study(runs, "rooms-dyad", "mse")
    return cards.standing("mean squared error", small, study, models="regressions", lower=True)


def worth_of_words(found: dict) -> str:
    """In words: the error on openness and conscientiousness with sound and pictures, and what words take off it."""
    methods = {"sound+motion": "with sound and pictures", "joint": "with words too", "joint_shuffled": "with another's"}
    if not methods.keys() <= found.keys():
        return ""
    parts = []
    for split in ("validation", "test"):
        means = {m: [fmean(found[m][split]["all"][c]) for c in COLUMNS[:2]] for m in methods}
        parts.append(f"on {split} " + ", ".join(f"{fmean(means[m]):.2f} {words}" for m, words in methods.items()))
    return f"What words add, to O and C together: {'; '.join(parts)}.\n\n"


def splits_table(root: Path) -> str:
    """People, sessions, recordings, clips and what is missing, per split."""
    rows = []
    for split in SPLITS:
        data = Udiva(root, split=split)
        clips = data.annotations
        heard = {path: has_sound(path) for path in clips.path.unique()}
        written = [transcript_path(data.folder, c.session, c.task) is not None for c in clips.itertuples()]
        rows.append([
            split, len(data.participants), clips.session.nunique(), len(heard), len(clips),
            sum(not heard[path] for path in clips.path), written.count(False),
        ])  # fmt: skip
    head = ["split", "participants", "sessions", "recordings", "clips", "without sound", "without transcript"]
    return table(head, rows)


def render(root: Path, records: Path | None = None, runs: Path | None = None) -> str:
    """The card, Markdown. Raises FileNotFoundError when ``root`` holds no finished generation (no ``rooms.json``)."""
    facts = cards.facts_of(root, "dyad")
    dials, found = facts["dials"], difficulty(records, facts["digest"])
    pairs = ((i, j) for i in range(5) for j in range(i + 1, 5))
    values = dict(
        people=len(facts["participants"]), sessions=sum(facts["sessions"].values()), recordings=facts["recordings"],
        minutes=f"{facts['seconds'] / 60:.0f}", megabytes=f"{facts['bytes'] / 1e6:.1f}",
        gop=dials["gop"], utterances=facts["utterances"],
        length=f"{facts['words'] / facts['utterances']:.1f}", splits=splits_table(root),
        correlations=", ".join(f"{TRAITS[i]}{TRAITS[j]} {CORRELATIONS[i, j]:+.2f}" for i, j in pairs),
        seconds=f"{np.mean(dials['lengths']):.0f}", partner=dials["partner_level"],
        strengths=f"{dials['words']:g} (words), {dials['body']:g} (body), {dials['voice']:g} (voice)",
        difficulty=difficulty_table(found), controls=controls_table(found), worth=worth_of_words(found),
        standing=standing(found, runs),
        unmeasured=cards.unmeasured(METHODS, found), formats=cards.formats(),
    )  # fmt: skip
    return TEXT.format(**cards.shared(facts), **values)


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms dyad-card``."""
    return cards.command(
        "dyad", argv, render=render, digest=lambda root: Udiva(root).digest, about=__doc__.splitlines()[0]
    )


if __name__ == "__main__":
    raise SystemExit(main())

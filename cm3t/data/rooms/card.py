"""The data card of rooms-kitchen, rendered: ``python -m cm3t.data.rooms card [--root DIR]`` writes its README.md.

Every number is read from ``rooms.json``, the annotation files, the probes' records (``results/records/card``) or the
study's (``results/records/full``); nothing is typed in, so the card cannot say what the files do not.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from cm3t.data.rooms import card_pairs, cards, files
from cm3t.data.rooms.card_text import TEXT
from cm3t.data.rooms.cards import read_probes, spread, table
from cm3t.data.rooms.kitchen_world import ACTIONS, FIXTURES

# What an action can be told by, per kind of fixture: place, motion, sound.
CUES = {
    "door": ("which door", "direction of the swing", "latch when opening, knock when it shuts"),
    "drawer": ("low, in the middle", "direction of the slide", "latch when opening, knock when it shuts"),
    "knob": ("which of four equal knobs", "turn of the wrist, the pointer", "igniter, hum or hiss begins or ends"),
    "switch": ("left of the knobs", "direction of the flick; the lamp", "one click for both"),
    "lever": ("over the sink", "lever up or down; the water", "water begins or ends"),
    "button": ("beside the microwave's door", "one press for both; its window lights faintly", "hum begins or ends"),
    "object": ("where it stands", "towards the body or away; along the worktop", "scrape or set-down"),
}
# Rows of the difficulty table: the record's method, and what it is.
METHODS = {
    "majority": "most frequent verb and noun",
    "sound": "sound alone (log-mel, small 1-D network)",
    "flow": "motion alone (flow on 8 x 8 cells, small 1-D network)",
    "frame": "one frame (small 2-D network, the middle frame)",
    "frames": "eight frames (small 2-D network on what stays and what moves)",
    "joint": "eight frames, sound and motion (small networks, their scores added)",
    "joint, no_audio": "- no sound",
    "joint, shuffled_audio": "- another clip's sound",
    "joint, muted_audio": "- silence",
    "joint, no_flow": "- no motion",
    "joint, shuffled_flow": "- another clip's motion",
    "joint, muted_flow": "- motion of zero",
    "joint, no_side": "- neither",
    "shuffled": "eight frames, sound and motion, trained on other clips' sound and motion",
    "linear, untrained": "linear probe on the backbone before its pretraining",
    "linear": "linear probe on the frozen backbone",
    "scratch": "the backbone, all of it trained from random weights",
    "full": "full fine-tuning of the pretrained backbone",
}
CONTROLS = {name.removeprefix("joint, ") for name in METHODS if name.startswith("joint, ")}
STUDIED = ("linear", "scratch", "full")  # those that are runs of the study, not probes
SPLITS = ("train", "tune", "validation")


def read_rows(path: Path) -> list[dict]:
    """Rows of a CSV file, as dictionaries of text."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def split_rows(root: Path) -> dict[str, list[dict]]:
    """Annotation rows of train (without the tune participants), tune and validation."""
    folder = root / "annotations"
    tune = {r["participant_id"] for r in read_rows(folder / "tune_participant_ids.csv")}
    train = read_rows(folder / "EPIC_100_train.csv")
    return {
        "train": [r for r in train if r["participant_id"] not in tune],
        "tune": [r for r in train if r["participant_id"] in tune],
        "validation": read_rows(folder / "EPIC_100_validation.csv"),
    }


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def splits_table(root: Path, rows: dict[str, list[dict]]) -> str:
    """Participants, recordings, minutes, segments and their length, per split."""
    duration = {
        r["video_id"]: float(r["duration"]) for r in read_rows(root / "annotations" / "EPIC_100_video_info.csv")
    }
    body = []
    for split, table_rows in rows.items():
        videos = {r["video_id"] for r in table_rows}
        lengths = [_seconds(r["stop_timestamp"]) - _seconds(r["start_timestamp"]) for r in table_rows]
        body.append([
            split, len({r["participant_id"] for r in table_rows}), len(videos),
            f"{sum(duration[v] for v in videos) / 60:.0f}", len(table_rows), f"{statistics.mean(lengths):.2f}",
            len({(r["verb_class"], r["noun_class"]) for r in table_rows}),
        ])  # fmt: skip
    return table(["split", "participants", "recordings", "minutes", "segments", "mean seconds", "actions"], body)


def _counts(rows: list[dict]) -> Counter:
    return Counter((int(row["verb_class"]), int(row["noun_class"])) for row in rows)


def actions_table(rows: dict[str, list[dict]]) -> str:
    """Every action with its official class ids, its count per split, and what it can be told by."""
    counts = {s: _counts(rows[s]) for s in SPLITS}
    body = []
    for action in sorted(ACTIONS, key=lambda a: -counts["train"][a.verb, a.noun]):
        kinds = {FIXTURES[name].kind for name in action.fixtures}
        cues = CUES[kinds.pop()]
        body.append(
            [action.key, action.verb, action.noun, *(counts[s][action.verb, action.noun] for s in SPLITS), *cues]
        )
    return table(["action", "verb", "noun", *SPLITS, "place", "motion", "sound"], body)


def difficulty(probes: Path | None, runs: Path | None = None) -> dict[str, dict[str, dict[str, dict]]]:
    """{method: {split: {measure: {seed: value}}}} of the probes' records and the study's in two folders.

    Measures: verb, noun, action (top-1, percent), and action of the unseen and tail segments of validation. Raises
    ValueError for records of different data.
    """
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    own = ((record["run_info"]["config"]["method"], record) for record in read_probes(probes))
    records = [*own, *_with_untrained(runs)]
    if len(digests := {record["meta_info"].get("digests", {}).get("data") for _, record in records}) > 1:
        raise ValueError(f"{probes} and {runs} hold records of different data ({digests}): remove the stale ones")
    for method, record in records:
        seed = record["run_info"]["config"]["seed"]
        for split, subsets in _splits(record["train_info"]).items():
            cell = found[method][split]
            for task in ("verb", "noun", "action"):
                cell[task][seed] = subsets["all"][f"{task}_top1"]
                for control in subsets.keys() & CONTROLS if method == "joint" else ():
                    found[f"joint, {control}"][split][task][seed] = subsets[control][f"{task}_top1"]
            for subset in ("unseen", "tail"):
                if subsets.get(subset, {}).get("action_top1") is not None:
                    cell[subset][seed] = subsets[subset]["action_top1"]
    return found


def _with_untrained(runs: Path | None) -> Iterator[tuple[str, dict]]:
    """The study's runs of the methods that bound the others; those on an untrained backbone by a name of their own."""
    for method, record in cards.studied(runs, STUDIED, "rooms-kitchen", "02--*.json"):
        untrained = record["run_info"]["config"]["weights"] is None and method != "scratch"
        yield f"{method}, untrained" if untrained else method, record


def _splits(train_info: dict) -> dict[str, dict]:
    """Scores by split; a run of the study has validation's gaps as subsets, and scored tune after its epochs."""
    found = dict(train_info["metrics"])
    validation = found.get("validation", {})
    found |= {name: {"all": scores} for name, scores in validation.items() if name.startswith("gap")}
    epochs = train_info.get("epochs") or [{}]
    return found | ({"tune": {"all": epochs[-1]["tune"]}} if epochs[-1].get("tune") else {})


def separation(found: dict) -> str:
    """What full fine-tuning gains over the linear probe, paired by seed, in units of its spread; "" before it ran."""
    full, linear = (found[m]["validation"]["action"] if m in found else {} for m in ("full", "linear"))
    gains = [full[seed] - linear[seed] for seed in sorted(full.keys() & linear.keys())]
    if len(gains) < 2:
        return ""
    mean, deviation = statistics.mean(gains), statistics.stdev(gains)
    return (
        f"Room for methods: full fine-tuning is {mean:.1f} points above the linear probe on the same seeds, with a "
        f"standard deviation of {deviation:.1f} over {len(gains)} of them: {mean / deviation:.0f} times its spread.\n\n"
    )


def difficulty_table(found: dict) -> str:
    """Top-1 accuracy in percent, mean ± standard deviation over seeds, per method, in the order of `METHODS`."""
    if not found:
        return "_No difficulty records yet: `python -m cm3t.data.rooms probes` writes them._"
    body = []
    for method in sorted(found, key=lambda m: list(METHODS).index(m) if m in METHODS else len(METHODS)):
        splits = found[method]
        validation = splits.get("validation", {})
        gaps = [spread(splits[f"gap{k}"]["action"].values()) if f"gap{k}" in splits else "" for k in (1, 2, 3)]
        body.append([
            METHODS.get(method, method), len(validation.get("action", {})),
            spread(splits.get("tune", {}).get("action", {}).values()),
            *(spread(validation.get(k, {}).values()) for k in ("verb", "noun", "action", "unseen", "tail")), *gaps,
        ])  # fmt: skip
    head = ["method", "seeds", "tune: action", "verb", "noun", "action", "unseen", "tail", "gap 1", "gap 2", "gap 3"]
    return table(head, body)


def standing(found: dict, runs: Path | None) -> str:
    """In words: what small networks from scratch make of each cue, beside the study's own runs; "" before either."""
    told = {"frames": "eight frames", "flow": "motion alone (on 8 x 8 cells)", "sound": "sound alone"}
    told |= {"joint": "all together"}
    small = {told[m]: statistics.mean(found[m]["validation"]["action"].values()) for m in told if m in found}
    own = cards.of_study(runs, "rooms-kitchen", "action_top1", "0[247]--*.json")
    return cards.standing("top-1 accuracy", small, own)


def chances(rows: dict[str, list[dict]]) -> str:
    """Chance, in words: uniform, and by always saying the most frequent action."""
    train = Counter((r["verb_class"], r["noun_class"]) for r in rows["train"])
    best, _ = train.most_common(1)[0]
    right = sum((r["verb_class"], r["noun_class"]) == best for r in rows["validation"])
    return (
        f"Uniform chance over the {len(train)} actions is {100 / len(train):.1f} %; always saying the most frequent "
        f"action of train is right in {100 * right / len(rows['validation']):.1f} % of validation."
    )


def render(root: Path, records: Path | None = None, runs: Path | None = None) -> str:
    """The card, Markdown. Raises FileNotFoundError when ``root`` holds no finished generation (no ``rooms.json``)."""
    facts, rows = cards.facts_of(root, "kitchen"), split_rows(root)
    total, gap = facts["bytes"]["total"], facts["bytes"]["gap"]
    people = Counter(facts["participants"].values())
    names = {role: ", ".join(p for p, r in facts["participants"].items() if r == role) for role in people}
    found, pairs = difficulty(records, runs), card_pairs.accuracies(records)
    values = dict(
        recordings=facts["recordings"], minutes=f"{facts['seconds'] / 60:.0f}",
        megabytes=f"{total / 1e6:.1f}", gap_megabytes=f"{gap / 1e6:.1f}", gop=facts["dials"]["gop"],
        people=sum(people.values()), unseen=names["unseen"],
        tune=names["tune"], splits=splits_table(root, rows), actions=actions_table(rows), chance=chances(rows),
        difficulty=difficulty_table(found), separation=separation(found), standing=standing(found, runs),
        unmeasured=cards.unmeasured(METHODS, found),
        pairs=card_pairs.pairs_table(pairs, _counts(rows["train"]), _counts(rows["validation"])),
        told_by=card_pairs.told_by(pairs),
        gap_rows=len(read_rows(root / "annotations" / "EPIC_100_validation_gap1.csv")),
        levels=facts["dials"]["gap_levels"], pilot=_pilot(facts),
    )  # fmt: skip
    return TEXT.format(**cards.shared(facts), **values)


def _pilot(facts: dict) -> str:
    return (
        ""
        if facts["share"] == 1
        else f"**A pilot: {100 * facts['share']:.0f} % of the segments, not the benchmark.**\n\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms card``."""
    return cards.command("kitchen", argv, render=render, digest=files.digest, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())

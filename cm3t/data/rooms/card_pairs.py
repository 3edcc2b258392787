"""Pairs of opposite actions on rooms-kitchen's data card: how often each probe tells the two apart."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from pathlib import Path

from cm3t.data.rooms.cards import read_probes, table, unmeasured
from cm3t.data.rooms.kitchen_world import PAIRS, VERBS

# Columns: a probe, or the joint one with a control, and what it has.
COLUMNS = {
    "frame": "one frame", "frames": "eight frames", "sound": "sound", "flow": "motion", "joint": "all",
    "joint, no_audio": "all but sound", "joint, no_flow": "all but motion",
}  # fmt: skip


def accuracies(folder: Path | None) -> dict[str, dict[str, float]]:
    """{column: {pair: percent, mean over seeds}} on validation, of the probes' records that tell it."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for record in read_probes(folder):
        method = record["run_info"]["config"]["method"]
        for subset, scores in record["train_info"]["metrics"]["validation"].items():
            column = method if subset == "all" else f"{method}, {subset}"
            for name, pair in scores.get("pairs", {}).items() if column in COLUMNS else ():
                found[column][name].append(pair["accuracy"])
    return {column: {name: statistics.mean(v) for name, v in pairs.items()} for column, pairs in found.items()}


def pairs_table(found: dict[str, dict[str, float]], train: Counter, validation: Counter) -> str:
    """A row a pair and, in bold, a kind of pairs; train and validation count clips by (verb, noun) class."""
    if not found:
        return "_Not measured yet: `python -m cm3t.data.rooms probes` writes the records._"
    columns, body = [column for column in COLUMNS if column in found], []
    for two in dict.fromkeys(verbs for verbs, _ in PAIRS.values()):
        names = [name for name in PAIRS if PAIRS[name][0] == two]
        actions = {name: [(verb, PAIRS[name][1]) for verb in two] for name in names}
        clips = {name: sum(validation[a] for a in own) for name, own in actions.items()}
        usual = {name: validation[max(own, key=lambda a: train[a])] for name, own in actions.items()}
        total = max(1, sum(clips.values()))
        for name in names:
            share = 100 * usual[name] / max(1, clips[name])
            body.append([name, clips[name], *_cells(share, *(found[c].get(name) for c in columns))])
        means = [sum(clips[name] * found[c].get(name, 0.0) for name in names) / total for c in columns]
        pooled = _cells(100 * sum(usual.values()) / total, *means)
        body.append([f"**{x}**" for x in (f"all {' / '.join(VERBS[v] for v in two)}", sum(clips.values()), *pooled)])
    head = ["pair", "clips", "more frequent", *(COLUMNS[column] for column in columns)]
    return table(head, body) + f"\n\n{unmeasured(COLUMNS, found)}".rstrip()


def _cells(*percent: float | None) -> list[str]:
    return ["" if value is None else f"{value:.0f}" for value in percent]


def told_by(found: dict[str, dict[str, float]]) -> str:
    """In words: which of sound and motion tells each pair better by itself; "" before both were measured."""
    if not {"sound", "flow"} <= found.keys():
        return ""
    sound, motion = found["sound"], found["flow"]
    words = []
    for what, better, other in (("Sound", sound, motion), ("Motion", motion, sound)):
        own = [name for name in PAIRS if better.get(name, 0) > other.get(name, 0)]
        listed = ", ".join(f"{name} ({better[name]:.0f} against {other.get(name, 0):.0f})" for name in own)
        words += [f"{what} by itself tells better than the other: {listed}."] if own else []
    return "\n".join(words)

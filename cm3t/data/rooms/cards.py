"""What the data cards of all rooms share: the facts of a generation, records of difficulty, tables, the command line.

A card is rendered: every number is read from files that the generator or a run wrote.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Container, Iterator
from dataclasses import fields
from pathlib import Path

from cm3t import config
from cm3t.data.rooms import dyad_world, group_world, kitchen_world
from cm3t.sides import SIDES, SOUNDS
from cm3t.stats import rounded

FULL = "full fine-tuning of the pretrained backbone on pictures"
# The study's rows that a card quotes, and what of their settings is not as usual.
OF_STUDY = {"full": FULL, "mhva+pt": "MHVA + PT", "full+caa": "full fine-tuning + CAA", "mhva+pt+caa": "CM3T"}
UNUSUAL = {"full+caa": {"regime": "joint", "stretch": 2}}
HEARING = ("sound", "joint", "shuffled")  # probes that take sound, where `SOUNDS` says how it is read
EXCHANGING = ("words_shuffled", "joint", "joint_shuffled")  # probes of the dyad that exchange clips


def facts_of(root: Path, command: str) -> dict:
    """What a finished generation wrote into ``rooms.json``; FileNotFoundError where there is none."""
    path = root / "rooms.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: `python -m cm3t.data.rooms {command}` writes it when it is complete"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def shared(facts: dict) -> dict[str, object]:
    """The values that every card shows: the recordings' format, the generator, its dials and the digest."""
    dials = facts["dials"]
    return dict(
        size=dials["size"], fps=f"{dials['fps']:g}", crf=dials["crf"], rate=dials["sound_rate"],
        bitrate=dials["sound_bitrate"], generator=facts["generator"], digest=facts["digest"],
        versions=", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        dials="\n".join(f"    {name} = {value}" for name, value in dials.items()),
    )  # fmt: skip


def read_records(folder: Path | None, pattern: str = "*.json") -> Iterator[dict]:
    """The records of finished runs in a folder, in the order of their names; none where there is no folder."""
    for path in sorted(folder.glob(pattern)) if folder else ():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["train_info"]["status"] == "ok":
            yield record


def settings_of(room: str | None, probe: str) -> dict[str, str]:
    """What a record says of how its probe was made, beside room, probe, seed and frames: the settings in force now."""
    if room in SOUNDS and probe in HEARING:
        return {"sound": SOUNDS[room]}
    return {"exchanged": "people"} if room == "rooms-dyad" and probe in EXCHANGING else {}


def is_current(record: dict) -> bool:
    """Was a probe's record made by the settings in force now?"""
    given = record["run_info"]["config"]
    return given.items() >= settings_of(given.get("data"), given["method"]).items()


def read_probes(folder: Path | None) -> Iterator[dict]:
    """`read_records` of the probes in a folder, without those made by settings that are no longer in force."""
    return filter(is_current, read_records(folder))


def studied(folder: Path | None, methods: Container, room: str, pattern: str) -> Iterator[tuple[str, dict]]:
    """(method, record) of the study's runs on a room, of some methods, under the study's own conditions."""
    usual = {f.name: f.default for f in fields(config.RunConfig)} | {"score_split": "validation", "data": room}
    free = ("study", "method", "weights", "side", "sound", "seed", "claims", "profile", "epochs", "batch_size", "lr")
    for record in read_records(folder, pattern):
        given = record["run_info"]["config"]
        wanted = usual | UNUSUAL.get(given["method"], {})
        if given["method"] in methods and all(_same(given[k], wanted[k]) for k in wanted.keys() & given.keys() - free):
            yield given["method"], record


def _same(found, wanted) -> bool:
    return tuple(found) == wanted if isinstance(wanted, tuple) else found == wanted


def of_study(folder: Path | None, room: str, metric: str, pattern: str = "07--*.json") -> dict[str, float]:
    """{method in words: mean score on validation} of the study's runs on a room, with all its modalities or none."""
    found: dict = {}
    for method, record in studied(folder, OF_STUDY, room, pattern):
        if tuple(record["run_info"]["config"]["side"]) not in ((), SIDES[room]):
            continue
        found.setdefault(OF_STUDY[method], []).append(record["train_info"]["metrics"]["validation"]["all"][metric])
    return {words: statistics.mean(found[words]) for words in OF_STUDY.values() if words in found}


def standing(
    metric: str, small: dict[str, float], study: dict[str, float], *, models: str = "networks", lower: bool = False
) -> str:
    """In words: what small models make of each cue, {cue: score}, beside the study's own, {method: score}; "" before.

    Scores are percent, or errors where `lower` is better.
    """
    if not small or not study:
        return ""
    said = {True: lambda value: rounded(value, 2), False: lambda value: f"{rounded(value, 1)} %"}[lower]
    each = ", ".join(f"{said(value)} from {cue}" for cue, value in small.items())
    own = ", ".join(f"{words} {said(value)}" for words, value in study.items())
    text = f"Small {models} trained on these clips alone reach a {metric} of {each}. Of the study: {own}. "
    best = (min if lower else max)(study.values())
    if above := [cue for cue, value in small.items() if (value < best if lower else value > best)]:
        text += f"Better than {'that' if len(study) == 1 else 'all of these'}: {', '.join(above)}. "
        if models == "networks":
            text += "Few things move here, at places that seldom change, and a network this small finds them. "
        text += (
            "So the study compares ways of adapting one frozen backbone; it is not about the best model for this room."
        )
    return text.rstrip() + "\n\n"


def table(head: list[str], rows: list[list]) -> str:
    """A Markdown table; every column but the first is right-aligned."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(x) for x in row) + " |" for row in rows])


def unmeasured(rows: dict, found: Container) -> str:
    """A line that names the rows {key: name} of a table without records, controls left out; "" where all have some."""
    names = [name for key, name in rows.items() if key not in found and not name.startswith("- ")]
    return f"_Not measured yet: {'; '.join(names)}._\n\n" if names and found else ""


def formats() -> str:
    """Picture size and frame rate of every room, in words, from their dials."""
    rooms = {"kitchen": kitchen_world.Dials(), "group": group_world.Dials(), "dyad": dyad_world.Dials()}
    return ", ".join(f"rooms-{name} {d.size} x {d.size} at {d.fps:g} a second" for name, d in rooms.items())


def spread(values, digits: int = 1) -> str:
    """Mean ± standard deviation of those that are known, as text; of a single one, itself."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = rounded(statistics.mean(known), digits)
    return mean if len(known) < 2 else f"{mean} ± {rounded(statistics.stdev(known), digits)}"


def command(name: str, argv: list[str] | None, *, render: Callable, digest: Callable[[Path], str], about: str) -> int:
    """The command line of a card: render it beside the data of ``rooms-<name>``, or check those first.

    ``render(root, records, runs)`` gives the text, from the probes' records and the study's; ``digest(root)`` is
    over the files.
    """
    suffix = "" if name == "kitchen" else f"{name}-"
    folder = "card" if name == "kitchen" else f"card-{name}"
    parser = argparse.ArgumentParser(prog=f"python -m cm3t.data.rooms {suffix}card", description=about)
    parser.add_argument("--root", type=Path, default=config.data_dir() / f"rooms-{name}")
    parser.add_argument("--records", type=Path, default=config.results_dir() / "records" / folder, help="of the probes")
    parser.add_argument("--runs", type=Path, default=config.records_dir("full"), help="of the study")
    parser.add_argument("--check", action="store_true", help="also compare the files with the digest in rooms.json")
    given = parser.parse_args(argv)
    text = render(given.root, given.records, given.runs)
    if given.check:
        known = facts_of(given.root, name)["digest"]
        if digest(given.root) != known:
            raise SystemExit(f"{given.root}: the files are not the ones rooms.json was written for ({known[:12]})")
    (given.root / "README.md").write_text(text, encoding="utf-8")
    print(f"wrote {given.root / 'README.md'}")
    return 0

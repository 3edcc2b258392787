"""A report on a model adapted to a folder of videos, written from the records of its runs and from its answers.

python -m cm3t.folder_report RECORD.json --root DIR      writes DIR/report.md and its figures
"""

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from cm3t import train
from cm3t.coerce import ConfigError
from cm3t.config import ROOT, RunConfig, resolve
from cm3t.data import collate, normalise
from cm3t.data.folder import VideoFolder
from cm3t.data.folder_labels import WHO
from cm3t.metrics import label_scores
from cm3t.model import CM3T
from cm3t.pages import figures, show_folder
from cm3t.records import Record, load_run
from cm3t.report import markdown
from cm3t.training import sets
from cm3t.training.tasks import TASKS
from cm3t.words import counted

CONTROLS = ("as it is", "without", "another clip's")
SETTINGS = ("backbone", "weights", "method", "side", "profile", "seed", "epochs", "batch_size", "lr", "frames", "size")


def predictions(config: RunConfig, out: Path | str | None = None) -> pd.DataFrame:
    """What the model of a finished run says of each clip that it was scored on, one row a clip, in their order.

    Columns: id, group, label, predicted and probability (0..1); of clips with several labels, what is likelier than
    not, as "a;b", and no probability. Errors: ConfigError for a run that is not finished or kept no plugins.
    """
    data = _scored(config)
    model = train.restore(config, out).to("cuda" if torch.cuda.is_available() else "cpu")
    clips = sets.decode(data, config.side, config.workers)
    (logits,) = train.predict(model, clips, anchored=config.anchored).values()
    rows = data.annotations
    table = pd.DataFrame({"id": rows["id"], "group": rows["group"], "label": rows["labels"].str.join(";")})
    names = np.array(data.names, object)
    if data.task != "labels":
        return table.assign(predicted=[";".join(names[row > 0]) for row in logits])
    odds = torch.from_numpy(logits).softmax(1).numpy()
    return table.assign(predicted=names[odds.argmax(1)], probability=odds.max(1))


@torch.no_grad()
def answers(model: CM3T, folder: VideoFolder, videos: Iterable[str | Path | tuple]) -> pd.DataFrame:
    """What a trained model says of videos that nobody labelled: paths, or (path, start, stop) in seconds.

    folder: any split of what it was trained on, opened at the frames and size of the run: it knows the classes, and
    how videos and sound are read. One row a clip: video, predicted, and the probability of each class by its name
    (0..1); of classes that exclude each other the likeliest, of others all that are likelier than not, as "a;b".
    Errors: ValueError as `VideoFolder.unlabelled`; MediaError.
    """
    model.eval()
    widths = {name: part.spec.width for name, part in model.side.items()}
    one, names, device = folder.task == "labels", folder.names, next(model.parameters()).device
    rows = []
    for clip in folder.unlabelled(videos, widths):
        batch = collate([clip], widths).to(device)
        (logits,) = model(normalise(batch.video, *model.backbone.pixels), batch.side, batch.present).values()
        odds = (logits.softmax(1) if one else logits.sigmoid())[0].tolist()
        likely = [names[int(np.argmax(odds))]] if one else [n for n, odd in zip(names, odds, strict=True) if odd > 0.5]
        rows.append({"video": clip.group, "predicted": ";".join(likely)} | dict(zip(names, odds, strict=True)))
    return pd.DataFrame(rows)


def told(path: Path | str) -> str:
    """A path that is the same on every machine: from the repository's root, or from where CM3T_LOCAL moves records."""
    path, moved = Path(path).resolve(), os.environ.get("CM3T_LOCAL")
    for root, name in ((ROOT, ""), *([(Path(moved), "$CM3T_LOCAL")] if moved else [])):
        if path.is_relative_to(root.resolve()):
            return str(Path(name) / path.relative_to(root.resolve()))
    return str(path)


def agrees(table: pd.DataFrame, record: Record) -> bool:
    """Are the answers of `predictions` those of the record: as many, and right as often (one label a clip)?"""
    found = _scores(record)
    right = 100 * float((table["predicted"] == table["label"]).mean())
    return len(table) == found["n"] and abs(right - found.get("top1", right)) < 1e-6


def write_report(
    configs: Sequence[RunConfig], path: Path | str, out: Path | str | None = None, table: pd.DataFrame | None = None
) -> Path:
    """Write `path` (Markdown) and figures beside it: the last of the runs in detail, the others to compare with.

    All must be finished (`train.run(config, keep=True)`) on one folder. table: the `predictions` of the last, if they
    are there already. Errors: ConfigError.
    """
    path = Path(path)
    records = [train.finished(config, out) for config in configs]
    if None in records:
        raise ConfigError("a report needs finished runs: train.run(config, keep=True) makes them")
    config, record = configs[-1], records[-1]
    data, table = _scored(config), predictions(config, out) if table is None else table
    if not agrees(table, record):
        raise ConfigError(f"the model restored from {record.run_id} scores otherwise than its record: run it again")
    trained = Counter(name for labels in train.open_sets(config)["train"].annotations["labels"] for name in labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    curves = show_folder.learning_curves(dict(zip(map(_name, configs), records, strict=True)), data.whose)
    parts = [
        f"# {data.file.parent.name or 'Videos'}: {_name(config)}",
        _opening(record, data, table, trained),
        "## Scores\n\n" + markdown(scores_table(configs, records)),
        "One seed each; clips of one participant resemble each other, so small differences decide nothing.",
        _picture(curves, path, "learning_curves", "Loss and score by epoch"),
        *(_confusions(table, data, path, trained) if data.task == "labels" else _behaviours(record, data, trained)),
        *_controls(record, config),
        "## Settings\n\n" + markdown(_settings(config, record)),
        f"The same again, with the folder of videos as DIR: `{_command(record)}`",
    ]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def scores_table(configs: Sequence[RunConfig], records: Sequence[Record]) -> pd.DataFrame:
    """One row a run: what it saw and heard, what was trained, its scores and its time, from its record."""
    rows = []
    for config, record in zip(configs, records, strict=True):
        info, found = record.train_info, _scores(record)
        row = {"run": _name(config), "trained parameters": f"{info['trainable']:,}"}
        row["share of the backbone (%)"] = f"{100 * info['share']:.1f}"
        shown = TASKS["labels" if "top1" in found else "behaviours"].shown
        row |= {f"{name.replace('_', ' ').replace('top1', 'top-1')} (%)": f"{found[name]:.1f}" for name in shown}
        rows.append(row | {"clips": found["n"], "minutes": f"{info['seconds'] / 60:.1f}"})
    return pd.DataFrame(rows)


def _scored(config: RunConfig):
    """The split that a run is scored on. Errors: ConfigError for another data set than a folder."""
    if config.data != "folder":
        raise ConfigError(f"data={config.data!r}: this report is on a folder of videos, data='folder'")
    return train.open_sets(config)[config.score_split]


def _scores(record: Record) -> dict:
    (subsets,) = record.train_info["metrics"].values()
    return subsets["all"]


def _headline(record: Record) -> str:
    return "top1" if "top1" in _scores(record) else "map"


def _name(config: RunConfig) -> str:
    return " + ".join([figures.label(config.method).replace("caa", "CAA"), *config.side])


def _opening(record: Record, data, table: pd.DataFrame, trained: Counter) -> str:
    """What was reached, on what, and what a constant answer would reach."""
    found, people = _scores(record), table["group"].nunique()
    clips = counted(found["n"], f"{data.split} clip")
    words = f"{clips} of {counted(people, *WHO)} that training did not see"
    if data.task != "labels":
        return f"Mean average precision **{found['map']:.1f} %** on {words}."
    places = {name: place for place, name in enumerate(data.names)}
    usual, most = trained.most_common(1)[0]
    tied = sum(count == most for count in trained.values())
    rank = "the most frequent class in training" if tied == 1 else f"one of {tied} classes most frequent in training"
    constant = label_scores(
        np.eye(len(places))[[places[usual]] * len(table)], np.array([places[name] for name in table["label"]])
    )
    return (
        f"Top-1 **{found['top1']:.1f} %**, mean class accuracy {found['mean_class_accuracy']:.1f} %, on {words}. "
        f"Always answering {usual!r}, {rank}, scores {constant['top1']:.1f} %."
    )


def _confusions(table: pd.DataFrame, data, path: Path, trained: Counter) -> list[str]:
    counts = show_folder.confusion(table, data.names)
    wrong = table[table["label"] != table["predicted"]].groupby(["label", "predicted"]).size().sort_values()[::-1][:5]
    said = "; ".join(f"{label} taken for {other}: {n}" for (label, other), n in wrong.items())
    picture = show_folder.confusion_matrix(counts, f"{data.split}, {counted(len(table), 'clip')}")
    return [
        "## What is taken for what",
        _picture(picture, path, "confusion", "Confusion matrix"),
        f"Most frequent: {said}." if said else "No clip was taken for another class.",
        "## Classes\n\n" + markdown(show_folder.per_class(table, data.names, trained)),
    ]


def _behaviours(record: Record, data, trained: Counter) -> list[str]:
    found, positives = _scores(record), data.targets["behaviour"].sum(0).int().tolist()
    rows = [
        {"class": i, "name": name, "trained on": trained[name], "scored": positives[i], "average precision (%)": ap}
        for i, name in enumerate(data.names)
        for ap in ["" if found[f"ap_{i}"] is None else f"{found[f'ap_{i}']:.1f}"]
    ]
    return ["## Classes\n\n" + markdown(pd.DataFrame(rows))]


def _controls(record: Record, config: RunConfig) -> list[str]:
    """What the modalities are worth: the same model on clips that lack one, or have another clip's."""
    (subsets,) = record.train_info["metrics"].values()
    headline, alone = _headline(record), subsets["all"]["n"] < 2  # of one clip there is no other
    scores = {
        name: [subsets[key][headline] for key in ("all", f"no_{name}", f"shuffled_{name}")[: 2 if alone else 3]]
        for name in config.side
    }
    rows = [
        {"modality": name} | {words: f"{score:.1f}" for words, score in zip(CONTROLS, found, strict=False)}
        for name, found in scores.items()
    ]
    said = _worth(scores)
    return [f"## What the modalities are worth\n\n{markdown(pd.DataFrame(rows))}", said] if rows else []


def _worth(scores: Mapping[str, Sequence[float]]) -> str:
    """What the scores of each modality as it is, without it and, of several clips, with another clip's say of it."""
    if any(len(found) < 3 for found in scores.values()):
        return "One clip is scored, so there is no other clip's to give it, and one answer decides each number."
    heard = [name for name, found in scores.items() if found[0] > found[1] > found[2]]
    others = [name for name in scores if name not in heard]
    parts = [f"so it is with {' and '.join(heard)}"] if heard else []
    parts += [f"not so with {' and '.join(others)}, or not on these clips"] if others else []
    rule = "A modality that is listened to costs accuracy when it is taken away, and more when it is another clip's"
    return f"{rule}: {'; '.join(parts)}."


def _settings(config: RunConfig, record: Record) -> pd.DataFrame:
    meta = record.meta_info
    shown = {name: getattr(config, name) for name in SETTINGS}
    clip = sets.clip_of(config)
    shown |= {"frames": clip[0], "size": clip[1], "side": ", ".join(config.side), "lr": f"{config.lr:g}"}
    shown |= {f"digest of the {name}": value[:12] for name, value in meta["digests"].items()}
    shown |= {
        "versions": ", ".join(f"{k} {v}" for k, v in meta["versions"].items() if k in ("cm3t", "torch", "python"))
    }
    shown |= {"run": record.run_id, "at": record.run_info["created_at"], "on": meta["hardware"]["device"]}
    return pd.DataFrame([{"setting": name, "value": value} for name, value in shown.items() if value not in ("", None)])


def _command(record: Record) -> str:
    """The command that repeats a run, its folder written as DIR: a report may be read on another machine."""
    given = record.run_info["config"]
    return record.run_info["command"].replace(f"--root {shlex.quote(given['root'])}", "--root DIR")


def _picture(figure: plt.Figure, path: Path, name: str, words: str) -> str:
    made = path.with_name(f"{path.stem}_{name}.png")
    with figures.house():
        figure.savefig(made, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return f"![{words}]({made.name})"


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 2 a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.folder_report", description=__doc__.splitlines()[0])
    parser.add_argument("record", type=Path, help="of a finished run, results/local/<profile>/<run id>.json")
    parser.add_argument("--root", help="the folder of videos, if it is not where it was")
    parser.add_argument("--to", type=Path, help="the file to write (ROOT/report.md)")
    given = parser.parse_args(arguments)
    try:
        settings = load_run(given.record).run_info["config"]
        config = resolve(**settings | ({"root": given.root} if given.root else {}))
        print(write_report([config], given.to or _scored(config).root / "report.md", given.record.parent))
    except (ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

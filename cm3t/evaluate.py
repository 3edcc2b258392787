"""Official metrics of a file of scores, and challenge files: ``python -m cm3t.evaluate epic --scores FILE --root DIR``.

epic     scores as `challenge.read_scores` reads them (.npz, .safetensors, .pt); --submission writes the challenge's zip
mpiigi   the challenge's prediction CSV: sample_id and one column a behaviour
udiva    the official predictions.csv: Participant ID and the five traits

Only annotation files are read: no recording need be on disk.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cm3t import metrics
from cm3t.challenge import (
    ScoreError,
    action_head_subset_scores,
    in_order,
    marginal_scores,
    read_scores,
    write_submission,
)

Scores = dict[str, dict[str, float | None]]


def epic(args: argparse.Namespace) -> Scores:
    """EPIC-KITCHENS-100: accuracies of all, unseen and tail segments; for the test split only the submission."""
    from cm3t.data.epic_labels import action_pairs, read_labels

    labels = read_labels(args.root, args.split or "validation")
    given, ids = read_scores(args.scores)
    outputs = in_order(given, ids, labels.rows.narration_id.tolist(), str(args.scores))
    pairs = None
    if "action" in outputs and "verb" not in outputs:
        pairs = action_pairs(labels.folder)
        if outputs["action"].shape[1] != len(pairs):
            raise ScoreError(
                f"{args.scores}: {outputs['action'].shape[1]} action classes; {labels.folder} has {len(pairs)} pairs "
                "of verb and noun in its training and validation files"
            )
        outputs |= marginal_scores(outputs["action"], pairs)
    if args.submission:
        if args.supervision is None:
            raise ScoreError("a submission needs --supervision PT,TL,TD, the challenge's three levels, 0..5 each")
        write_submission(args.submission, outputs, labels.rows.narration_id.tolist(), args.supervision)
        print(f"wrote {args.submission}", file=sys.stderr)
    if not labels.labelled:
        return {}
    target = {head: values.numpy() for head, values in labels.targets.items()}
    subsets = {name: members.numpy() for name, members in labels.subsets.items()}
    if pairs is not None:
        classes = np.stack([target["verb"], target["noun"]], axis=1)
        return action_head_subset_scores(outputs["action"], classes, subsets, pairs)
    return metrics.subset_scores({h: outputs[h] for h in ("verb", "noun")}, target, subsets)


def mpiigi(args: argparse.Namespace) -> Scores:
    """MPIIGroupInteraction: macro mean average precision over the classes with positives; micro, weighted beside it."""
    from cm3t.data.mpiigi_samples import BEHAVIOURS, read_samples

    table = f"{(args.split or 'validation').replace('validation', 'val')}_samples.csv"
    path = next((p for p in (args.root / "bbr" / table, args.root / table) if p.is_file()), args.root / "bbr" / table)
    rows = read_samples(path)
    scores = _predictions(args.scores, BEHAVIOURS)
    wanted = [str(i) for i in rows.sample_id]
    ordered = in_order({"behaviour": np.array(list(scores.values()))}, list(scores), wanted, str(args.scores))
    found = metrics.behaviour_scores(ordered["behaviour"], rows[list(BEHAVIOURS)].to_numpy(np.float64))
    named = {f"ap_{i}": f"ap {name}" for i, name in enumerate(BEHAVIOURS)}
    return {"all": {named.get(key, key): value for key, value in found.items()}}


def udiva(args: argparse.Namespace) -> Scores:
    """UDIVA v0.5: mean squared error of each trait over participants, and its mean over the five."""
    from cm3t.data.udiva_metadata import read_parts, read_predictions

    split = (args.split or "validation").replace("validation", "val")
    meta = args.root / split / "metadata"
    whole = meta / f"parts_{split}_unmasked.csv"
    truth = read_parts(whole if whole.is_file() else meta / f"parts_{split}.csv")
    given = read_predictions(args.scores)
    wanted = [person for person, traits in truth.items() if traits is not None]
    ordered = in_order({"traits": np.array(list(given.values()))}, list(given), wanted, str(args.scores))
    return {"all": metrics.trait_scores(ordered["traits"], np.stack([truth[p] for p in wanted]), wanted)}


EVALUATORS: dict[str, Callable[[argparse.Namespace], Scores]] = {"epic": epic, "mpiigi": mpiigi, "udiva": udiva}


def _predictions(path: Path, columns: Sequence[str]) -> dict[str, list[float]]:
    """Rows of a prediction CSV by sample_id. Errors: FileNotFoundError; ScoreError with file and line."""
    if not path.is_file():
        raise FileNotFoundError(f"no scores at {path}")
    found: dict[str, list[float]] = {}
    try:
        content = path.read_bytes()
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        absent = [name for name in ("sample_id", *columns) if name not in (reader.fieldnames or ())]
        if absent:
            raise ScoreError(f"{path}: line 1: the columns {absent} are missing")
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            try:
                name, values = str(int(row["sample_id"])), [float(row[column]) for column in columns]
            except (ValueError, TypeError):
                raise ScoreError(f"{where}: a whole sample_id and {len(columns)} numbers are expected") from None
            if name in found or not np.isfinite(values).all():
                raise ScoreError(f"{where}: sample {name} " + ("is there twice" if name in found else "is not finite"))
            found[name] = values
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ScoreError(f"{path}: line {line}: byte {error.start} is not UTF-8") from None
    except csv.Error as error:
        raise ScoreError(f"{path}: line {reader.line_num}: {error}") from None
    if not found:
        raise ScoreError(f"{path}: line 1: a header without rows")
    return found


def shown(scores: Scores) -> str:
    """A table: a row a metric, a column a subset."""
    names = list(dict.fromkeys(metric for subset in scores.values() for metric in subset))
    width = max(map(len, names), default=0)
    lines = [" " * width + "".join(f"{subset:>12}" for subset in scores)]
    for name in names:
        cells = [subset.get(name) for subset in scores.values()]
        texts = ["" if c is None else f"{c}" if isinstance(c, int) else f"{c:.3f}" for c in cells]
        lines.append(f"{name:<{width}}" + "".join(f"{text:>12}" for text in texts))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: print the metrics of a file of scores, as a table or as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m cm3t.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=sorted(EVALUATORS))
    parser.add_argument("--scores", type=Path, required=True, help="the file to score; its form is told above")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder; only its annotations are read")
    parser.add_argument("--split", choices=("train", "tune", "validation", "test"), help="validation unless given")
    parser.add_argument("--json", action="store_true", help="print JSON in the place of a table")
    parser.add_argument("--submission", type=Path, help="epic: write the challenge's zip archive here")
    parser.add_argument(
        "--supervision",
        type=lambda text: [int(level) for level in text.split(",")],
        metavar="PT,TL,TD",
        help="epic: the submission's three levels of supervision, as 2,3,3",
    )
    args = parser.parse_args(argv)
    if args.supervision is not None and len(args.supervision) != 3:
        parser.error("--supervision takes three whole numbers, as 2,3,3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            scores = EVALUATORS[args.data](args)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if scores:
        print(json.dumps(scores, indent=1) if args.json else shown(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())

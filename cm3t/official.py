"""The file of scores that each real data set's official evaluation takes, written beside the record of a run.

python -m cm3t.evaluate epic --scores results/local/paper/scores/RUN_ID.npz --root DIR
"""

from pathlib import Path

import numpy as np

from cm3t.challenge import write_scores
from cm3t.data import mpiigi_samples, udiva_metadata
from cm3t.metrics import participant_means

REAL = ("epic", "mpiigi", "udiva")


def write_official(name: str, data, outputs: dict[str, np.ndarray], folder: Path, stem: str) -> Path:
    """Write what a model says of all clips of a split as the official file of the data set, <folder>/scores/<stem>.*.

    epic: scores of verbs and nouns (or actions) by narration id, .npz; mpiigi: the challenge's prediction CSV, of
    probabilities; udiva: the official CSV of five traits, means over sessions and tasks of the means of their clips.
    Shapes: outputs {head: (n, c)} before the softmax. Errors: ValueError for scores that are not finite; OSError.
    """
    path = folder / "scores" / f"{stem}.csv"
    if name == "epic":
        return write_scores(folder / "scores" / f"{stem}.npz", outputs, data.annotations.narration_id.tolist())
    if name == "mpiigi":
        logits = np.asarray(outputs["behaviour"], np.float64)
        chance = 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, which overflows nowhere
        return mpiigi_samples.write_predictions(path, data.annotations.sample_id, chance, data.behaviours)
    return udiva_metadata.write_predictions(path, participant_means(outputs["traits"], data.units))

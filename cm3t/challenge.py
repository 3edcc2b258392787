"""EPIC-KITCHENS-100's exchange files: class scores of the segments of a split, and the challenge's submission.

A file of scores (.npz, .safetensors, or .pt as the official code writes them) holds `verb_output` (n, 97),
`noun_output` (n, 300) and `narration_id` (n), or `action_output` (n, A) in the place of the first two. A submission is
a zip archive of one `test.json`: raw scores of every class for every segment of the test split.
"""

from __future__ import annotations

import codecs
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cm3t.data.epic_annotations import NARRATION, NOUNS, VERBS
from cm3t.data.features import parse_json
from cm3t.metrics import action_scores, log_softmax, ranks, subset_scores

WIDTHS = {"verb": VERBS, "noun": NOUNS}
VERSION, CHALLENGE = "0.2", "action_recognition"
SUPERVISION = ("sls_pt", "sls_tl", "sls_td")  # levels of pretraining, labels and data, each 0..5
LARGEST = 2 * 10**9  # bytes of a test.json that is read; the official test split takes about 0.1 GB
TINY = 1e-300  # stands for the probability of a class that no action has

Outputs = dict[str, np.ndarray]


class ScoreError(ValueError):
    """A file of scores that cannot be used: the message names the file, the segment and what is wrong."""


def write_scores(path: str | Path, outputs: Mapping[str, np.ndarray], ids: Sequence[str]) -> Path:
    """Write scores {head: (n, classes)} and n narration ids as .npz or .safetensors, whole or not at all.

    Errors: ValueError for another ending or unequal lengths; OSError.
    """
    path, ids = Path(path), [str(i) for i in ids]
    arrays = {f"{head}_output": np.ascontiguousarray(values, np.float32) for head, values in outputs.items()}
    if any(len(values) != len(ids) for values in arrays.values()):
        raise ValueError(f"{ {k: len(v) for k, v in arrays.items()} } rows for {len(ids)} narration ids")
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path}: scores are written as .npz or .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        if path.suffix == ".npz":
            np.savez(partial, narration_id=np.array(ids), **arrays)
        else:
            partial.write_bytes(save(arrays, metadata={"narration_id": json.dumps(ids)}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_scores(path: str | Path) -> tuple[Outputs, list[str]]:
    """Scores {head: float32 (n, classes)} and narration ids of a file; nothing in it is run.

    Errors: FileNotFoundError; ScoreError for a file that is no such file, and for scores that do not fit together.
    """
    path = Path(path)
    readers = {".npz": _from_npz, ".safetensors": _from_safetensors, ".pt": _from_torch}
    if not path.is_file():
        raise FileNotFoundError(f"no scores at {path}")
    if path.suffix not in readers:
        raise ScoreError(
            f"{path}: scores are read from {', '.join(readers)}; a pickle can run code when it is opened: convert it "
            "where you trust it"
        )
    try:
        content = readers[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, SafetensorError) as error:
        raise ScoreError(f"{path}: cannot be read as {path.suffix} of plain arrays ({_short(error)})") from error
    except Exception as error:  # the readers of damaged pickles and zips raise whatever they stumble on
        raise ScoreError(f"{path}: is damaged ({type(error).__name__}: {_short(error)})") from error
    return _checked(content, path)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _from_npz(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _from_safetensors(path: Path) -> dict:
    with safe_open(path, framework="np") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}
        ids = json.loads((file.metadata() or {}).get("narration_id", "null"))
    return content | ({} if ids is None else {"narration_id": ids})


def _from_torch(path: Path) -> dict:
    """A dict of tensors, or the official list of such dicts, one a segment or batch."""
    allowed = [np.ndarray, np.dtype, codecs.encode, *(type(np.dtype(kind)) for kind in "f2 f4 f8 i4 i8 U1".split())]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # plain arrays of either numpy, nothing else
        allowed += [(getattr(np._core.multiarray, name), f"{module}.{name}") for name in ("_reconstruct", "scalar")]
    with torch.serialization.safe_globals(allowed):
        content = torch.load(path, map_location="cpu", weights_only=True)
    parts = content if isinstance(content, list) else [content]
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise ValueError("neither a dict nor a list of dicts")
    return {name: _joined([part[name] for part in parts], name) for name in parts[0]}


def _joined(values: list, name: str):
    if name == "narration_id":
        return [i for value in values for i in ([value] if isinstance(value, str) else list(value))]
    arrays = [np.asarray(value.float() if isinstance(value, torch.Tensor) else value) for value in values]
    return np.concatenate([a[None] if a.ndim == 1 else a for a in arrays])


def _checked(content: dict, path: Path) -> tuple[Outputs, list[str]]:
    heads = [head for head in ("verb", "noun", "action") if f"{head}_output" in content]
    if "narration_id" not in content or not (set(heads) >= {"verb", "noun"} or "action" in heads):
        raise ScoreError(
            f"{path}: holds {sorted(map(str, content))}; verb_output, noun_output (or action_output) and narration_id "
            "are expected"
        )
    ids = [str(i) for i in np.asarray(content["narration_id"]).ravel().tolist()]
    bad = next((i for i in ids if NARRATION.fullmatch(i) is None), None)
    if bad is not None:
        raise ScoreError(f"{path}: narration_id {bad[:40]!r} must look like P01_01_0")
    outputs = {}
    for head in heads:
        scores = np.asarray(content[f"{head}_output"])
        width = WIDTHS.get(head, scores.shape[-1] if scores.ndim else 0)
        if scores.dtype.kind not in "fiu" or scores.shape != (len(ids), width):
            raise ScoreError(
                f"{path}: {head}_output is {scores.dtype} {scores.shape}; numbers ({len(ids)}, {width}) are expected"
            )
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise ScoreError(f"{path}: {head} scores of {ids[row]} are not finite: the model has diverged")
        outputs[head] = scores.astype(np.float32)
    return outputs, ids


def in_order(outputs: Mapping[str, np.ndarray], ids: Sequence[str], wanted: Sequence[str], what: str) -> Outputs:
    """Scores in the order of the wanted narration ids, which must be exactly those that are given.

    Errors: ScoreError that counts the ids that are missing, unknown or given twice, and names the first.
    """
    place = {name: i for i, name in enumerate(ids)}
    problems = {
        "are missing": [name for name in wanted if name not in place],
        "are not of this split": sorted(set(place) - set(wanted)),
        "are there twice": [name for i, name in enumerate(ids) if place[name] != i],
    }
    said = [f"{len(names)} segments {how} (first: {names[0]})" for how, names in problems.items() if names]
    if said:
        raise ScoreError(f"{what}: of {len(wanted)} segments to be scored, " + ", ".join(said))
    rows = [place[name] for name in wanted]
    return {head: np.asarray(values)[rows] for head, values in outputs.items()}


def marginal_scores(actions: np.ndarray, pairs: np.ndarray) -> Outputs:
    """Log-probabilities of verbs and nouns from scores of actions: each is the sum over the actions that have it.

    Shapes: actions (n, A) before the softmax, pairs int (A, 2) of verb and noun -> {"verb": (n, 97), "noun": (n, 300)}.
    """
    chance = np.exp(log_softmax(actions))
    found = {}
    for column, (head, width) in enumerate(WIDTHS.items()):
        member = np.zeros((len(pairs), width))
        member[np.arange(len(pairs)), np.asarray(pairs)[:, column]] = 1.0
        found[head] = np.log(np.maximum(chance @ member, TINY))
    return found


def action_head_scores(
    actions: np.ndarray, target: Mapping[str, np.ndarray], pairs: np.ndarray
) -> dict[str, float | None]:
    """As `metrics.action_scores`, of one head whose classes are pairs: verbs and nouns are scored by their marginals.

    Shapes: actions (n, A), target {"verb": (n,), "noun": (n,)}, pairs (A, 2). A pair outside the classes is a miss.
    """
    actions = np.asarray(actions, np.float64)
    scores = action_scores(marginal_scores(actions, pairs), target)
    if not scores["n"]:
        return scores
    place = {pair: i for i, pair in enumerate(map(tuple, np.asarray(pairs).tolist()))}
    own = np.array(
        [place.get(pair, -1) for pair in zip(*(np.asarray(target[h]).tolist() for h in WIDTHS), strict=True)]
    )
    rank = np.where(own < 0, actions.shape[1], ranks(actions, np.maximum(own, 0)))
    return scores | {f"action_top{k}": 100.0 * float(np.mean(rank < k)) for k in (1, 5)}


def action_head_subset_scores(
    actions: np.ndarray, classes: np.ndarray, subsets: Mapping[str, np.ndarray], pairs: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """`action_head_scores` of every subset, by the rules of `metrics.subset_scores`.

    Shapes: actions (n, A), classes (n, 2) of verb and noun, subsets {name: bool (n,)}, pairs (A, 2).
    """
    target = dict(zip(WIDTHS, np.asarray(classes).T, strict=True))
    scores = subset_scores(marginal_scores(actions, pairs), target, subsets)
    for name in scores:
        kept = np.asarray(subsets[name], bool)
        own = action_head_scores(actions[kept], {head: values[kept] for head, values in target.items()}, pairs)
        scores[name] |= {key: value for key, value in own.items() if key.startswith("action")}
    return scores


def write_submission(
    path: str | Path, outputs: Mapping[str, np.ndarray], ids: Sequence[str], supervision: Sequence[int]
) -> Path:
    """Write the challenge's archive: one `test.json` of version 0.2.

    Shapes: outputs {"verb": (n, 97), "noun": (n, 300)}; ids n narration ids; supervision: the three levels 0..5 of
    pretraining, training labels and training data, as the challenge's rules define them.
    Errors: ValueError for levels, shapes or ids that do not fit; OSError.
    """
    path, levels = Path(path), dict(zip(SUPERVISION, supervision, strict=True))
    if any(type(level) is not int or not 0 <= level <= 5 for level in levels.values()):
        raise ValueError(f"supervision levels {levels} must be whole numbers 0..5")
    verb, noun = (np.asarray(outputs[head], np.float64) for head in WIDTHS)
    _checked({"verb_output": verb, "noun_output": noun, "narration_id": list(ids)}, path)
    in_order({}, ids, list(dict.fromkeys(ids)), str(path))  # no id twice
    head = {"version": VERSION, "challenge": CHALLENGE, **levels}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("test.json", "w") as file:
            file.write(json.dumps(head)[:-1].encode() + b', "results": {')
            for i, (name, v, n) in enumerate(zip(ids, verb, noun, strict=True)):
                classes = {"verb": _numbered(v), "noun": _numbered(n)}
                file.write((", " if i else "").encode() + f"{json.dumps(name)}: {json.dumps(classes)}".encode())
            file.write(b"}}")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _numbered(scores: np.ndarray) -> dict[str, float]:
    return {str(i): float(f"{score:.7g}") for i, score in enumerate(scores)}


def read_submission(path: str | Path) -> tuple[Outputs, list[str], dict]:
    """The inverse of `write_submission`: scores, narration ids, and the rest of the file. Nothing is unpacked to disk.

    Errors: FileNotFoundError; ScoreError that names the file and the line or segment.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no submission at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names != ["test.json"] or archive.getinfo("test.json").file_size > LARGEST:
                raise ScoreError(f"{path}: must hold test.json alone, of at most 2 GB; it holds {names[:3]}")
            content = archive.read("test.json")
    except ScoreError:
        raise
    except Exception as error:  # zipfile raises half a dozen types on damaged archives
        raise ScoreError(f"{path}: is no whole zip archive ({_short(error)})") from error
    submission = parse_json(content, f"{path}: test.json", ScoreError)
    return _submitted(submission, path)


def _submitted(submission, path: Path) -> tuple[Outputs, list[str], dict]:
    about = {k: v for k, v in submission.items() if k != "results"} if isinstance(submission, dict) else {}
    results = submission.get("results") if isinstance(submission, dict) else None
    if about.get("version") != VERSION or about.get("challenge") != CHALLENGE or not isinstance(results, dict):
        raise ScoreError(f"{path}: no test.json of version {VERSION} of {CHALLENGE}, with results")
    for level in SUPERVISION:
        if type(about.get(level)) is not int or not 0 <= about[level] <= 5:
            raise ScoreError(f"{path}: {level} is {about.get(level)!r}; a whole number 0..5 is expected")
    scores = {f"{head}_output": np.zeros((len(results), width)) for head, width in WIDTHS.items()}
    for i, (name, classes) in enumerate(results.items()):
        for head, width in WIDTHS.items():
            given = classes.get(head) if isinstance(classes, dict) else None
            whole = isinstance(given, dict) and len(given) == width
            if not whole or not all(type(given.get(str(k))) in (int, float) for k in range(width)):
                raise ScoreError(f"{path}: segment {name[:40]!r} needs {head} scores '0' to '{width - 1}'")
            try:
                scores[f"{head}_output"][i] = [given[str(k)] for k in range(width)]
            except OverflowError:
                raise ScoreError(f"{path}: segment {name[:40]!r} has a {head} score of too many digits") from None
    outputs, ids = _checked({**scores, "narration_id": list(results)}, path)
    return outputs, ids, about

"""Extract features once: ``python -m cm3t.extract --data epic --root DIR --backbone NAME --weights FILE --out DIR``.

Of every clip of a split the pooled features of a frozen backbone, (1, D), or with --modality NAME that modality's
tokens, (L, d). They are written in shards of some hundred clips, each whole or not at all, with a manifest that names
their clips and digests; a run that was stopped goes on where it stood. `data.features.open_features` reads them back.
A clip that cannot be read is reported, counted, and marked absent; the others go on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from cm3t import backbones
from cm3t.backbones import weights as weights_file
from cm3t.data import normalise, open_data
from cm3t.data.features import MANIFEST, FeatureError, checked_id, read_manifest
from cm3t.data.hdf5 import hdf5_module
from cm3t.data.workers import VIDEO, Workers
from cm3t.records import write_json
from cm3t.training.loop import pixels_of

FORMATS = {"safetensors": ".safetensors", "hdf5": ".h5"}
Log = Callable[[str], None]


@dataclass(frozen=True)
class Extraction:
    """What came out: clips in the shards, clips without the modality, clips that could not be read."""

    folder: Path
    written: int
    without: int
    failed: int
    found: int  # of the clips, those in shards that were there already


def extract(
    data,
    out: str | Path,
    *,
    modality: str | None = None,
    backbone: nn.Module | None = None,
    settings: dict | None = None,
    shard: int = 256,
    batch: int = 8,
    workers: int = 0,
    form: str = "safetensors",
    log: Log = print,
) -> Extraction:
    """Write the features of all clips of a data set to the folder `out`, or what is missing there.

    Either a modality's tokens (L, d) or the features (1, D) of a backbone, video (B, 3, T, H, W) -> (B, D), which is
    put in eval mode. settings: whatever else tells this extraction from others; they are kept in the manifest, and a
    folder with other settings is refused. shard: clips a shard; batch: clips a forward pass; workers: processes that
    decode. Errors: FeatureError for a folder of other settings; ValueError for arguments; OSError.
    """
    if (modality is None) == (backbone is None):
        raise ValueError("extract either a modality's tokens or a backbone's features: give one of the two")
    if shard < 1 or batch < 1 or form not in FORMATS:
        raise ValueError(f"shard={shard} and batch={batch} must be at least 1, form one of {', '.join(FORMATS)}")
    folder, ids = Path(out), clip_ids(data)
    what = {"modality": modality} if modality else {"backbone": getattr(backbone, "name", type(backbone).__name__)}
    about = {**(settings or {}), **what, "data": data.digest, "split": data.split, "clips": len(ids), "shard": shard}
    about |= {"ids": hashlib.sha256("\n".join(ids).encode()).hexdigest(), "form": form}
    shards = _standing(folder, about)
    parts = [range(start, min(start + shard, len(ids))) for start in range(0, len(ids), shard)]
    todo = [number for number in range(len(parts)) if number not in shards]
    found = sum(len(parts[number]) for number in shards)
    log(f"{len(ids)} clips in {len(parts)} shards, {len(shards)} of them found")
    started = time.perf_counter()
    with Workers(data, workers) as readers:
        for done, number in enumerate(todo, 1):
            arrays, absent = _features(readers, ids, parts[number], modality, backbone, batch)
            shards[number] = _write_shard(folder, number, arrays, absent, form)
            write_json(folder / MANIFEST, _manifest(about, shards, len(parts)))
            _report(log, number, len(parts), absent, time.perf_counter() - started, done, len(todo))
    if not todo:
        write_json(folder / MANIFEST, _manifest(about, shards, len(parts)))
    reasons = [reason for entry in shards.values() for reason in entry["absent"].values()]
    written = sum(len(entry["ids"]) for entry in shards.values())
    result = Extraction(folder, written, reasons.count(""), len(reasons) - reasons.count(""), found)
    log(f"{folder}: {written} clips, {result.without} without {modality or 'video'}, {result.failed} unreadable")
    return result


def clip_ids(data) -> list[str]:
    """Ids of all clips, without reading any. Errors: FeatureError for one that cannot name features, or twice."""
    rows = data.annotations
    column = next((name for name in ("narration_id", "id", "sample_id") if name in rows), None)
    if column is None:
        raise FeatureError(f"the annotations name no clips; their columns are {list(rows.columns)}")
    ids = [f"{i:05d}" if column == "sample_id" else str(i).replace("/", "_") for i in rows[column]]
    if len(set(ids)) != len(ids):
        raise FeatureError(f"{len(ids) - len(set(ids))} of {len(ids)} clips have an id that another has")
    return [checked_id(name) for name in ids]


def _features(readers: Workers, ids, indices, modality, backbone, batch) -> tuple[dict, dict[str, str]]:
    """{id: array} of the clips that have them, {id: reason} of the others; no reason where there is nothing to read."""
    arrays, absent, videos = {}, {}, {}
    for index, array, problem in readers.read(modality or VIDEO, indices):
        if array is None:
            absent[ids[index]] = problem
        elif modality:
            arrays[ids[index]] = np.ascontiguousarray(array, np.float32)
        else:
            videos[ids[index]] = array
            if len(videos) == batch:
                arrays |= _forward(backbone, videos)
                videos = {}
    return (arrays | _forward(backbone, videos) if videos else arrays), absent


@torch.inference_mode()
def _forward(backbone: nn.Module, videos: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{id: features (1, D)} of videos uint8 (3, T, H, W)."""
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(np.stack(list(videos.values()))).to(device)
    features = backbone.eval()(normalise(batch, *pixels_of(backbone))).float().cpu().numpy()
    return {name: np.ascontiguousarray(row[None]) for name, row in zip(videos, features, strict=True)}


def _write_shard(folder: Path, number: int, arrays: dict, absent: dict[str, str], form: str) -> dict:
    """Write one shard through a temporary neighbour; its entry of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard-{number:05d}{FORMATS[form]}"
    partial = folder / f".{path.name}.{os.getpid()}.partial"
    try:
        if form == "hdf5":
            with hdf5_module(path).File(partial, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        else:
            partial.write_bytes(save(arrays))  # not save_file: others could not read what it writes
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return {"file": path.name, "sha256": _sha256(path), "ids": list(arrays), "absent": absent}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(about: dict, shards: dict[int, dict], total: int) -> dict:
    ordered = [shards[number] for number in sorted(shards)]
    return {"format": 1, "complete": len(shards) == total, "settings": about, "shards": ordered}


def _standing(folder: Path, about: dict) -> dict[int, dict]:
    """{number: entry} of the shards that are there and whole. Errors: FeatureError for a folder of other settings."""
    if not (folder / MANIFEST).is_file():
        return {}
    manifest = read_manifest(folder)
    kept = manifest["settings"]
    differ = sorted(k for k in about | kept if about.get(k) != kept.get(k))
    if differ:
        told = ", ".join(f"{k} was {kept.get(k)!r} and is {about.get(k)!r}" for k in differ[:3])
        raise FeatureError(f"{folder} holds another extraction ({told}): choose another folder, or remove it")
    entries = {int(entry["file"][6:].split(".")[0]): entry for entry in manifest["shards"]}
    there = {number: folder / entry["file"] for number, entry in entries.items()}
    return {n: e for n, e in entries.items() if there[n].is_file() and _sha256(there[n]) == e["sha256"]}


def _report(log: Log, number: int, total: int, absent: dict[str, str], seconds: float, done: int, todo: int) -> None:
    failed = {name: reason for name, reason in absent.items() if reason}
    for name, reason in list(failed.items())[:5]:
        log(f"  {name} is absent: {reason}")
    left = seconds / done * (todo - done)
    eta = f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
    log(f"shard {number + 1}/{total}" + (f", {len(failed)} clips unreadable" if failed else "") + eta * (done < todo))


def _options(args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    for name in ("frames", "size", "limit", "source", "flow", "audio"):
        if getattr(args, name) is not None:
            yield name, getattr(args, name)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: extract the features of one split."""
    parser = argparse.ArgumentParser(
        prog="python -m cm3t.extract", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="epic, mpiigi, udiva, rooms-kitchen, ...")
    parser.add_argument("--root", type=Path, help="the data set's folder")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True, help="a folder for these features alone")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--backbone", help="its pooled features")
    what.add_argument("--modality", help="its tokens: audio, flow, transcript, ...")
    parser.add_argument("--weights", help="of the backbone: a safetensors file, or default; random ones unless given")
    parser.add_argument("--frames", type=int, help="T; the backbone's own unless given")
    parser.add_argument("--size", type=int, help="pixels; the backbone's own unless given")
    parser.add_argument("--limit", type=int, help="so many clips only")
    for name in ("source", "flow", "audio"):
        parser.add_argument(f"--{name}", help="epic: as the argument of EpicKitchens")
    parser.add_argument("--shard", type=int, default=256, help="clips a shard (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="clips a forward pass (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode (%(default)s: none)")
    parser.add_argument("--format", choices=sorted(FORMATS), default="safetensors", help="of the shards (%(default)s)")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("stopped: the same command goes on with the shard it was at", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    options, model, settings = dict(_options(args)), None, {}
    if args.modality:
        options["modalities"] = (args.modality,)
    else:
        torch.manual_seed(0)  # random weights, too, are the same when a stopped run goes on
        model = backbones.backbone(args.backbone, weights=args.weights)
        if model.loaded and not model.loaded.plain:
            _say(f"weights {args.weights} of {args.backbone}: {model.loaded.line()}")
        frames, height, width = model.clip
        options = {"frames": frames, "size": height if height == width else (height, width)} | options
        path = weights_file.resolve(args.backbone, args.weights) if args.weights else None
        settings["weights"] = weights_file.digest(path) if path else "random"
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    settings |= {name: str(value) for name, value in options.items() if name not in ("modalities", "limit")}
    data = open_data(args.data, args.root, args.split, **options)
    result = extract(
        data, args.out, modality=args.modality, backbone=model, settings=settings,
        shard=args.shard, batch=args.batch, workers=args.workers, form=args.format, log=_say,
    )  # fmt: skip
    return 0 if result.written else 1


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

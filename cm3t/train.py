"""One run from settings to record, and many: `python -m cm3t.train --method mhva+pt --seed 0 --profile smoke`.

The loop itself is `cm3t.loop.fit`; here is what surrounds it: data, seeds, digests, records, resumption.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import lru_cache, partial
from pathlib import Path

import psutil
import torch

from cm3t import backbones
from cm3t.backbones import weights
from cm3t.config import PROFILES, ConfigError, RunConfig, config_hash, local_dir, resolve
from cm3t.data import open_data
from cm3t.loop import ClipSet, TrainingDiverged, duration, epochs_to_converge, evaluate, fit
from cm3t.model import CM3T, create
from cm3t.records import Record, find_record, load_run, new_record, provenance, save_record

__all__ = ["ClipSet", "TrainingDiverged", "evaluate", "fit", "run", "run_all"]

Log = Callable[[str], None]


def run(config: RunConfig, out: Path | str | None = None, log: Log = print) -> Record:
    """Train and score one configuration; its record is written to `out` (results/local/<profile>/), or found there.

    A finished run with the same settings, data and weights is not run again. An interrupted one (Ctrl-C) leaves a
    record of status `cancelled`, one that raises leaves `failed`, and the exception goes on to the caller.
    The same seed, threads and machine give the same numbers.
    """
    if record := finished(config, out):
        log(f"{record.run_id}: found, not run again")
        return record
    sets = open_sets(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    info = {"status": "failed", "epochs": []}
    started = time.perf_counter()
    try:
        with reproducible(config), peak_memory(info, device):
            _train_and_score(config, sets, info, device, log)
        info["status"] = "ok"
    except KeyboardInterrupt:
        info["status"] = "cancelled"
        raise
    except Exception as error:
        info["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        info["seconds"] = time.perf_counter() - started
        record = new_record(config, info, provenance(device_name(device), **digests(config)))
        path = save_record(record, folder_of(config, out))
        log(f"{record.run_id}: {info['status']} after {duration(info['seconds'])}")
    return load_run(path)


def _train_and_score(config: RunConfig, sets: dict, info: dict, device: torch.device, log: Log) -> None:
    """Fit on train, a glance at tune each epoch, one scoring at the end; everything found goes into `info`."""
    train, tune = decode(sets["train"]), decode(sets["tune"])
    torch.manual_seed(config.seed)
    model = build(config, sets["train"]).to(device)
    summary, before = model.summary(), model.backbone_digest()
    info |= {"trainable": summary.trainable, "share": summary.share, "denominator": summary.denominator}
    info |= {"backbone_parameters": summary.reference}
    fit(model, train, config, tune=tune, history=info["epochs"], log=log)
    if model.frozen and model.backbone_digest() != before:
        raise RuntimeError(f"training with method {config.method!r} changed the frozen backbone")
    info["epochs_to_converge"] = epochs_to_converge(info["epochs"])
    info["metrics"] = {config.score_split: score(model, sets, config)}


def score(model: CM3T, sets: dict, config: RunConfig) -> dict[str, dict[str, float]]:
    """Scores of the split that counts, by subset; each further filming of validation is a subset, gap1 to gap3."""
    scores = evaluate(model, decode(sets[config.score_split]), anchored=config.anchored)
    for name, data in sets.items():
        if name.startswith("gap"):
            scores[name] = evaluate(model, decode(data), anchored=config.anchored)["all"]
    return scores


def run_all(configs: Iterable[RunConfig], out: Path | str | None = None, log: Log = print) -> list[Record]:
    """Every run, in order, with the time left; finished runs are found first, so a killed study goes on.

    A run that diverges leaves a failed record and the next one starts; any other error stops the study.
    """
    configs = {config_hash(config): config for config in configs}
    records = {key: finished(config, out) for key, config in configs.items()}
    todo = [key for key, record in records.items() if record is None]
    log(f"{len(configs)} runs, {len(configs) - len(todo)} of them found, {len(todo)} to do")
    started = time.perf_counter()
    for number, key in enumerate(todo):
        left = (time.perf_counter() - started) / number * (len(todo) - number) if number else None
        config, eta = configs[key], f", {duration(left)} left" if number else ""
        log(f"run {number + 1}/{len(todo)}: {config.method}, {config.backbone}, seed {config.seed}{eta}")
        try:
            records[key] = run(config, out, log)
        except TrainingDiverged as error:
            log(f"diverged: {error}")
    return [record for record in records.values() if record]


def finished(config: RunConfig, out: Path | str | None = None) -> Record | None:
    """The record of a finished run with these settings, data and weights; else None."""
    return find_record(folder_of(config, out), config_hash(config), **digests(config))


def folder_of(config: RunConfig, out: Path | str | None) -> Path:
    """Where a run's record goes."""
    return Path(out) if out else local_dir(config.profile)


def digests(config: RunConfig) -> dict[str, str]:
    """What the data and the weights of a run are, in a few digits each."""
    found = {"data": open_sets(config)["train"].digest, "weights": "random"}
    if config.weights and config.plugins.trains != "scratch":
        found["weights"] = weights.digest(weights.resolve(config.backbone, config.weights))
    return found


def build(config: RunConfig, data) -> CM3T:
    """The model of a run, with a head for every verb and noun class of the data set."""
    method, clip = config.plugins, clip_of(config)
    return create(config.backbone, method=method, heads=data.classes, weights=config.weights, clip=clip)


def clip_of(config: RunConfig) -> tuple[int, int, int]:
    """(T, H, W) of a run's clips: the backbone's own where the settings leave it open."""
    with torch.device("meta"):
        frames, height, width = backbones.backbone(config.backbone).clip
    return config.frames or frames, config.size or height, config.size or width


def open_sets(config: RunConfig) -> dict:
    """The data sets that a run reads: train, tune, and validation as filmed and refilmed where it is to be scored."""
    frames, size, _ = clip_of(config)
    common = dict(name=config.data, root=config.root, frames=frames, size=size)
    limits = {"train": config.train_clips, "tune": config.eval_clips, "validation": config.eval_clips}
    if config.score_split == "tune":
        del limits["validation"]
    sets = {split: open_set(split=split, limit=limit, **common) for split, limit in limits.items()}
    if "validation" in sets:
        sets["validation"] = open_set(split="validation", limit=config.eval_clips, gap=config.gap, **common)
        for gap in sets["validation"].gaps if not config.gap else ():
            sets[f"gap{gap}"] = open_set(split="validation", limit=config.eval_clips, gap=gap, **common)
    return sets


@lru_cache(maxsize=16)
def open_set(*, name: str, split: str, gap: int = 0, **options):
    """One split, opened (not decoded) once for all runs of this process."""
    data = open_data(name, split=split, gap=gap, **options)
    if not len(data):
        raise ValueError(f"the {split} split of {name} is empty: {options}")
    return data


@lru_cache(maxsize=8)
def decode(data) -> ClipSet:
    """All clips of a data set in memory; runs of one process share them."""
    return ClipSet(data.decode_all(), data.targets, data.subsets)


@contextmanager
def reproducible(config: RunConfig) -> Iterator[None]:
    """The profile's threads and determinism and the run's seed, for the length of a run."""
    profile = PROFILES[config.profile]
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(profile.threads or threads)
    torch.use_deterministic_algorithms(profile.deterministic, warn_only=True)
    torch.manual_seed(config.seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


@contextmanager
def peak_memory(info: dict, device: torch.device) -> Iterator[None]:
    """Writes the peak memory of what runs inside to info["peak_memory_mb"]: of the GPU, else of the process.

    The process's peak includes the decoded clips. Only Linux can start it anew for each run; on Windows it is the
    peak since the process began, on macOS what the process holds at the end.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        yield
    finally:
        info["peak_memory_mb"] = round(_peak_bytes(device) / 2**20)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def device_name(device: torch.device) -> str:
    """What a record calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def main(argv: list[str] | None = None) -> int:
    """One run from the command line; every field of RunConfig is a flag."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.train", description=main.__doc__)
    for field in fields(RunConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, metavar="VALUE")
    parser.add_argument("--out", metavar="DIR", help="where the record goes (results/local/<profile>/)")
    given = vars(parser.parse_args(argv))
    out = given.pop("out")
    try:
        run(resolve(**given), out, log=partial(print, flush=True))
    except (ConfigError, FileNotFoundError, ValueError, TrainingDiverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cancelled; the same command starts this run again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

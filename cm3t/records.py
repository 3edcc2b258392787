"""One JSON file a run: written whole or not at all, found again by its configuration, read without torch.

A record has four parts. `run_id`. `run_info`: created_at, study, command, config, config_hash. `train_info`:
status (ok, failed or cancelled), epochs (a list of dicts), epochs_to_converge, metrics as {split: {subset:
{name: value}}}, trainable, backbone_parameters, share, seconds, peak_memory_mb. `meta_info`: see `provenance`.
Local runs lie in results/local/<profile>/, published ones in results/records/<profile>/.
"""

import json
import math
import os
import platform
import shlex
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd
import psutil

from cm3t.coerce import ConfigError, nearest
from cm3t.config import PROFILES, ROOT, RunConfig, config_hash, records_dir, resolve, run_id
from cm3t.words import counted

STATUSES = ("ok", "failed", "cancelled")
PACKAGES = (
    "cm3t",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "av",
    "opencv-python-headless",
    "papermill",
)
BLOCKS = ("run_id", "run_info", "train_info", "meta_info")
# Counts and costs of a run that `results` shows as columns beside its configuration.
COSTS = ("epochs_to_converge", "trainable", "backbone_parameters", "share", "peak_memory_mb")


@dataclass(frozen=True)
class Record:
    """One run: what was asked, what came out, and on what."""

    run_id: str
    run_info: dict
    train_info: dict
    meta_info: dict

    @property
    def status(self) -> str:
        """ok, failed or cancelled."""
        return self.train_info["status"]

    @property
    def digests(self) -> dict[str, str]:
        """What the run rests on beside its settings: its data, its weights, and the settings of its first step."""
        first = next((step["run_id"] for step in self.train_info.get("steps", ()) if "run_id" in step), None)
        found = {"vision": first.rsplit("--", 1)[-1]} if first else {}
        return found | self.meta_info.get("digests", {})


def new_record(config: RunConfig, train_info: dict, meta_info: dict) -> Record:
    """A record of a run of `config`, stamped with the time; `train_info` needs a status of STATUSES."""
    if train_info.get("status") not in STATUSES:
        known = ", ".join(STATUSES)
        raise ValueError(f"train_info['status'] is {train_info.get('status')!r}; known: {known}")
    run_info = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": config.study,
        "command": command_line(config),
        "config": asdict(config),
        "config_hash": config_hash(config),
    }
    return Record(run_id(config), run_info, train_info, meta_info)


def command_line(config: RunConfig) -> str:
    """The command that repeats a run: its profile, its learning rate, and what differs from the defaults."""
    default, given = asdict(resolve(config.profile)), asdict(config)
    skip = ("profile", "claims", "lr")
    changed = {name: value for name, value in given.items() if value != default[name] and name not in skip}
    flags = {"profile": config.profile} | changed | {"lr": config.lr}
    return " ".join(
        ["python -m cm3t.train", *(f"--{n.replace('_', '-')} {shlex.quote(str(_joined(v)))}" for n, v in flags.items())]
    )


def _joined(value):
    """A sequence as one word, which a shell hands on and a table can compare: audio,flow."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def save_record(record: Record, folder: Path | str) -> Path:
    """Write `folder`/<run id>.json, atomically; a run that is not ok gets its status in the name, and no table.

    A full disk, or a kill at any moment, leaves the file that was there; OSError names the path.
    """
    suffix = ".json" if record.status == "ok" else f".{record.status}.json"
    return write_json(Path(folder) / (record.run_id + suffix), asdict(record))


def write_json(path: Path, payload: dict) -> Path:
    """Write JSON through a temporary neighbour, fsync and rename: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps(_plain(payload), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        remedy = f"could not write it ({error.strerror}); what was there is untouched: make room, run again"
        raise OSError(error.errno, remedy, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _plain(value):
    """JSON's own types: numbers of other libraries unpacked, tuples as lists, not-a-number as null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_run(path: Path | str) -> Record:
    """Read one record; ValueError says which file is not one, and why."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return Record(**{block: content[block] for block in BLOCKS})
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it and run its command again") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a record of a run: it needs {', '.join(BLOCKS)}") from error


def find_record(folder: Path | str, hash: str, **digests: str) -> Record | None:
    """The finished run with this configuration hash (and data=, weights=, vision= digests), or None: then run it."""
    for path in sorted(Path(folder).glob(f"*--{hash}.json")):
        record = load_run(path)
        if record.status == "ok" and digests.items() <= record.digests.items():
            return record
    return None


def load_all(folder: Path | str) -> list[Record]:
    """All finished runs of a folder, oldest first; of two records with one configuration the newer counts."""
    records = [load_run(path) for path in sorted(Path(folder).glob("*.json")) if not path.name.startswith(".")]
    records = [record for record in records if record.status == "ok"]
    records.sort(key=lambda record: (record.run_info["created_at"], record.run_id))
    newest = {record.run_info["config_hash"]: record for record in records}
    return [record for record in records if newest[record.run_info["config_hash"]] is record]


def published(profile: str) -> list[Record]:
    """The published runs of a profile, all on the same clips and the same frozen weights; a mixture is refused."""
    folder, found = records_dir(profile), {}
    records = load_all(folder)
    for record in records:
        settings, digests = record.run_info["config"], record.meta_info.get("digests", {})
        what = {"data": settings["data"], "weights": (settings["backbone"], settings["weights"])}
        for name in what.keys() & digests.keys():
            if digests[name] != "random":
                found.setdefault((name, what[name]), {}).setdefault(digests[name], []).append(record.run_id)
    for (name, value), runs in found.items():
        if len(runs) > 1:
            each = "; ".join(f"{digest[:8]} ({len(ids)} runs, such as {ids[0]})" for digest, ids in runs.items())
            raise ValueError(
                f"{folder}: runs with {name}={value} rest on {len(runs)} versions of it: {each}. Numbers of different "
                "versions are not compared: run the older ones again, or move their records elsewhere"
            )
    return records


def to_frame(records: list[Record]) -> pd.DataFrame:
    """One row a run: configuration, costs, and metrics as columns named split.subset.metric.

    A setting that came after a record was made is at its default; `side` and other lists are words, "audio,flow". What
    a run scored on `tune` after its last epoch is under `tune.end`.
    """
    rows = []
    for record in records:
        config = asdict(RunConfig()) | record.run_info["config"]
        config |= {name: _joined(config[name]) for name in ("side", "caa_stages", "weights_clip")}
        row = {"run_id": record.run_id, "config_hash": record.run_info["config_hash"]} | config
        row |= {name: record.train_info.get(name) for name in COSTS} | {"epochs_trained": _epochs_trained(record)}
        row["device"] = record.meta_info.get("hardware", {}).get("device")
        last = (record.train_info.get("epochs") or [{}])[-1]
        row |= {f"tune.end.{name}": value for name, value in (last.get("tune") or {}).items()}
        for split, subsets in record.train_info.get("metrics", {}).items():
            for subset, metrics in subsets.items():
                row |= {f"{split}.{subset}.{name}": value for name, value in metrics.items()}
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else ["run_id", "config_hash", *asdict(RunConfig()), *COSTS])


def _epochs_trained(record: Record) -> int:
    """Of all steps together, a first one that is a run of its own included."""
    steps = record.train_info.get("steps") or []
    return sum(step["epochs"] for step in steps) or len(record.train_info.get("epochs", ()))


def results(profile: str | None = None, study: str | None = None) -> pd.DataFrame:
    """Published runs as a table (see `to_frame`); without a profile, of the largest complete one (for `study`)."""
    if profile is not None and profile not in PROFILES:
        raise ConfigError(f"profile={profile!r} is not known; {nearest(profile, PROFILES)}")
    profile = profile or largest_profile(study)
    return to_frame(published(profile)) if profile else to_frame([])


def largest_profile(study: str | None = None) -> str | None:
    """The largest profile whose published runs are complete; else the largest that scored validation; else None."""
    frames = {name: to_frame(published(name)) for name in reversed(PROFILES)}
    if study:
        frames = {name: frame[frame["study"] == study] for name, frame in frames.items()}
    scored = {name: frame for name, frame in frames.items() if "validation" in set(frame["score_split"])}
    complete = [name for name, frame in scored.items() if is_complete(frame, name)]
    return next(iter([*complete, *scored]), None)


def is_complete(frame: pd.DataFrame, profile: str) -> bool:
    """Does every configuration that was scored on validation have a run for each of the profile's seeds?"""
    varying = ("seed", "study", "claims", "root", "profile", "workers")
    keys = [name for name in asdict(RunConfig()) if name not in varying]
    scored = frame[frame["score_split"] == "validation"]
    scored = scored.assign(init=scored["init"].notna())  # which run it started from is another for each seed
    groups = scored.groupby(keys, dropna=False)["seed"]
    return len(scored) > 0 and all(set(PROFILES[profile].seeds) <= set(seeds) for _, seeds in groups)


def save_timing(folder: Path | str, notebook: str, seconds: float, **more) -> Path:
    """Keep what a notebook took in `folder`/notebooks/<notebook>.json."""
    path = Path(folder) / "notebooks" / f"{notebook}.json"
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return write_json(path, {"notebook": notebook, "seconds": round(seconds, 1), "created_at": stamp} | more)


def timings(folder: Path | str) -> dict[str, dict]:
    """What each notebook took under a profile's folder, by notebook stem."""
    found = (json.loads(path.read_text()) for path in sorted((Path(folder) / "notebooks").glob("*.json")))
    return {timing["notebook"]: timing for timing in found}


def provenance(device: str | None = None, **digests: str) -> dict:
    """What a number rests on: commit, versions, hardware, digests; `device` is told by who knows torch."""
    return {
        "git": {
            "commit": _git("rev-parse", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "-uno", "--", "cm3t", "data")),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "hardware": {
            "device": device or "cpu",
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "os": f"{platform.system()} {platform.machine()}",
        },
        "digests": digests,
    }


def device_in_words(hardware: dict) -> str:
    """What a run was made on: `2 CPU cores`, or the name of the device."""
    return counted(hardware["cores"], "CPU core") if hardware["device"] == "cpu" else hardware["device"]


def machine_seconds(record: Record) -> float:
    """Seconds of the machine's that a run took: those beside it had their part."""
    return record.train_info["seconds"] / record.meta_info["hardware"].get("at_once", 1)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

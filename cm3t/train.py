"""One run from settings to record, and many: `python -m cm3t.train --method mhva+pt --seed 0 --profile smoke`.

The loop itself is `training.loop.fit`, its steps are `training.steps`; here is what surrounds them: seeds, digests,
records, resumption.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cm3t import backbones, flags, official
from cm3t.backbones import weights
from cm3t.config import ConfigError, RunConfig, config_hash, has_first_step, local_dir, resolve, run_id, vision_run
from cm3t.data.media import MediaError
from cm3t.model import CM3T
from cm3t.records import Record, find_record, load_run, new_record, provenance, save_record
from cm3t.training import jobs, machine, steps
from cm3t.training.building import build, check_modalities
from cm3t.training.controls import shuffled
from cm3t.training.loop import TrainingDiverged, duration, epochs_to_converge, evaluate, fit, fusion_shares, predict
from cm3t.training.sets import (
    AbsentModality,
    ClipSet,
    clip_of,
    decode,
    open_set,
    open_sets,
    reader_options,
    side_counts,
)
from cm3t.training.tasks import never_shown, task_of
from cm3t.words import counted, first_of, listed

__all__ = ["ClipSet", "TrainingDiverged", "decode", "evaluate", "fit", "open_sets", "predict", "run", "run_all"]

Log = Callable[[str], None]


def run(config: RunConfig, out: Path | str | None = None, log: Log = print, *, keep: bool = False) -> Record:
    """Train and score one configuration; its record is written to `out` (results/local/<profile>/), or found there.

    A finished run with the same settings, data and weights is not run again. An interrupted one (Ctrl-C) leaves a
    record of status `cancelled`, one that raises as it trains leaves `failed`, and the exception goes on to the caller.
    The same seed, threads and machine give the same numbers.

    A run with a side, unless it is `joint`, starts from a run of its own with pictures alone, which is found or made
    first. `keep` asks for what was trained too, in <out>/plugins/ (a run with a side, or on a real data set, always
    leaves it): a finished run that has lost it is run again.
    """
    folder, record = folder_of(config, out), finished(config, out)
    if record and (not keep or steps.is_kept(record, folder)):
        log(f"{record.run_id}: found, not run again")
        return record
    if record:  # it takes the place of the run that lost its plugins, whichever study asked for that
        config = replace(config, study=record.run_info["study"], claims=tuple(record.run_info["config"]["claims"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    meta = provenance(machine.device_name(device), **digests(config, out))
    meta["hardware"] |= {"threads": machine.threads_of(config), "at_once": jobs.running()}
    sets = open_sets(config)
    check_modalities(config, folder)
    first = _first_step(config, out, log)
    info = {"status": "failed", "epochs": []} | ({"steps": []} if config.side else {})
    started = time.perf_counter()
    try:
        with machine.reproducible(config), machine.peak_memory(info, device):
            model = _started(config, sets, info, device, first, folder)
            _note_weights(model, config, meta, log)
            _train_and_score(model, config, sets, info, log, folder)
        if keep or config.side or config.data in official.REAL:
            info["plugins"] = steps.keep(model, folder, run_id(config))
        info["status"] = "ok"
    except KeyboardInterrupt:
        info["status"] = "cancelled"
        raise
    except Exception as error:
        info["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        info["seconds"] = time.perf_counter() - started
        record = new_record(config, info, meta)
        path = save_record(record, folder)
        log(f"{record.run_id}: {info['status']} after {duration(info['seconds'])}")
    return load_run(path)


def _first_step(config: RunConfig, out: Path | str | None, log: Log) -> Record | None:
    """The run with pictures alone that a run with a side starts from, found or made; None where there is none."""
    if not has_first_step(config):
        return None
    log(f"{config.method} with {', '.join(config.side)} starts from {config.plugins.vision.name} with pictures alone")
    return run(vision_run(config), out, log, keep=True)


def _started(
    config: RunConfig, sets: dict, info: dict, device: torch.device, first: Record | None, folder: Path
) -> CM3T:
    """The model as training finds it."""
    clips = decode(sets["train"], config.side, config.workers)
    torch.manual_seed(config.seed)
    model = build(config, sets["train"], clips).to(device)
    if first:
        model.load_plugins(steps.plugins_path(folder, first.run_id))
        info["steps"].append(steps.first_step(first))
    steps.initialise(model, steps.init_files(config, folder))
    return model


def _note_weights(model: CM3T, config: RunConfig, meta: dict, log: Log) -> None:
    """What became of the backbone's weights as they were loaded: into the record, and said where it is remarkable."""
    if loaded := model.backbone.loaded:
        meta["weights"] = loaded.brief()
        if not loaded.plain:
            log(f"weights {config.weights} of {config.backbone}: {loaded.line()}")


def _train_and_score(model: CM3T, config: RunConfig, sets: dict, info: dict, log: Log, folder: Path) -> None:
    """Fit on train, a glance at tune each epoch, one scoring at the end; everything found goes into `info`."""
    train, tune = decode(sets["train"], config.side, config.workers), _clips(sets["tune"], config)
    if never := never_shown(sets["train"]):
        log(f"no training clip shows {first_of(never)}: no model can learn it")
    if config.side:
        info["side_reading"] = _side_reading(sets, config, log)
    summary, before = model.summary(), model.backbone_digest()
    info |= {"trainable": summary.trainable, "share": summary.share, "denominator": summary.denominator}
    info |= {"backbone_parameters": summary.reference}
    if config.side:
        steps.fit_stages(model, train, tune, config, info, log)
        info["epochs_to_converge"] = steps.epochs_of_all(info["steps"])
    else:
        fit(model, train, config, tune=tune, history=info["epochs"], log=log)
        info["epochs_to_converge"] = epochs_to_converge(info["epochs"], task_of(train))
    if model.frozen and model.backbone_digest() != before:
        raise RuntimeError(f"training with method {config.method!r} changed the frozen backbone")
    said: dict = {}
    info["metrics"] = {config.score_split: score(model, sets, config, said)}
    if config.side and (shares := fusion_shares(model, _clips(sets[config.score_split], config))):
        info["fusion"] = shares
    if never := never_shown(sets[config.score_split]):
        scores = task_of(train).line(info["metrics"][config.score_split].get("all", {}))
        log(f"{config.score_split} {scores or 'has no scores'}: no clip shows {first_of(never)}")
    if config.data in official.REAL:
        path = official.write_official(config.data, sets[config.score_split], said, folder, run_id(config))
        log(f"scores of {config.score_split}, as the official evaluation reads them: {path}")
    if config.workers is not None:
        info["reading"] = {name: decode(data, (), config.workers).video.tally for name, data in sets.items()}
        for name, tally in info["reading"].items():
            if tally:
                log(f"reading {name}: {listed(tally)}")


def _side_reading(sets: dict, config: RunConfig, log: Log) -> dict[str, dict[str, dict[str, int]]]:
    """What happened as the modalities were made, said and given: {split: {modality: {what: how often}}}."""
    found: dict = {}
    for split, data in sets.items():
        for name in config.side if not split.startswith("gap") else ():  # a filming may lack one: `score`
            if counts := side_counts(data, name, config.workers):
                found.setdefault(split, {})[name] = counts
                log(f"reading {split}, {name} of {counted(len(data), 'clip')}: {listed(counts)}")
    return found


def score(model: CM3T, sets: dict, config: RunConfig, said: dict | None = None) -> dict[str, dict[str, float]]:
    """Scores of the split that counts, by subset; each further filming of validation is a subset, gap1 to gap3.

    `said` is given the outputs for that split. With a side, the controls are subsets too (`loop.evaluate`), and a
    filming that lacks one of the modalities (the kitchen was filmed again without sound) is not scored.
    """
    clips = _clips(sets[config.score_split], config)
    scores = evaluate(model, clips, anchored=config.anchored, controlled=bool(config.side), said=said)
    for name in sets:
        with suppress(AbsentModality):
            if name.startswith("gap"):
                filmed_again = _clips(sets[name], config)
                scores[name] = evaluate(model, filmed_again, anchored=config.anchored)["all"]
    return scores


def _clips(data, config: RunConfig) -> ClipSet:
    """The decoded clips of a split as a run is scored on them."""
    clips = decode(data, config.side, config.workers)
    return shuffled(clips, *config.side) if config.exchanged else clips


def restore(config: RunConfig, out: Path | str | None = None) -> CM3T:
    """The trained model of a finished run that kept its plugins (one with a side does); ConfigError without it."""
    record, folder = finished(config, out), folder_of(config, out)
    if record is None or not steps.is_kept(record, folder):
        raise ConfigError(f"{folder} does not hold what {run_id(config)} trained; run(config, keep=True) makes it")
    train = open_sets(config)["train"]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # a backbone without weights is drawn as it was
        model = build(config, train, decode(train, config.side, config.workers))
    model.load_plugins(steps.plugins_path(folder, record.run_id))
    return model.eval()


def score_test(config: RunConfig, out: Path | str | None = None, log: Log = print) -> Path:
    """What a finished run says of the test split of a real data set, written as `official.write_official` does.

    Its classes need not be known: the file is what a challenge takes. Errors: ConfigError for a data set without a test
    split, and where the run is not finished.
    """
    _check_test(config)
    model = restore(config, out).to("cuda" if torch.cuda.is_available() else "cpu")
    frames, size, _ = clip_of(config)
    options = dict(name=config.data, root=config.root, frames=frames, size=size) | reader_options(config)
    data = open_set(**options, split="test", limit=None)
    outputs = predict(model, decode(data, config.side, config.workers), anchored=config.anchored)
    path = official.write_official(config.data, data, outputs, folder_of(config, out), f"{run_id(config)}.test")
    log(f"scores of {len(data):,} clips of the test split: {path}")
    return path


def _check_test(config: RunConfig) -> None:
    if config.data not in official.REAL:
        raise ConfigError(f"{config.data} has no test split to be scored elsewhere; {', '.join(official.REAL)} have")


def run_all(configs: Iterable[RunConfig], out: Path | str | None = None, log: Log = print) -> list[Record]:
    """Every run, with the time left: as many at once as the machine has room for (`machine.at_once`).

    Finished runs are found first, so that a killed study goes on; it has lost what the runs under way had done. A run
    that diverges leaves a failed record and the others go on; any other error stops the study, once the runs under way
    are done. Scripts call this under `if __name__ == "__main__":`, since the processes of runs read the script anew.
    """
    configs = {config_hash(config): config for config in configs}
    records = {key: finished(config, out) for key, config in configs.items()}
    todo = _with_first_steps({key: config for key, config in configs.items() if records[key] is None}, configs, out)
    log(f"{counted(len(configs), 'run')}, {sum(map(bool, records.values()))} of them found, {len(todo)} to do")
    # A seed and a rate change nothing of what is checked: one run stands for all that differ in these alone.
    for config in {config_hash(replace(config, seed=0, lr=1e-3)): config for config, _ in todo.values()}.values():
        with suppress(steps.NoStart):  # the run that it starts from is still to come
            check_modalities(config, folder_of(config, out))
    tasks = {key: (f"{place}/{len(todo)}", *todo[key], out) for place, key in enumerate(todo, 1)}
    needs = {key: _starts(config) & todo.keys() for key, (config, _) in todo.items()}
    count, started = machine.at_once([config for config, _ in todo.values()]), time.perf_counter()
    for number, (key, record) in enumerate(jobs.side_by_side(_one, tasks, needs, count, log), 1):
        records[key] = record
        if number < len(todo):
            left = (time.perf_counter() - started) / number * (len(todo) - number)
            log(f"{number} of {len(todo)} runs done, {duration(left)} left")
    return [records[key] for key in configs if records[key]]


def _with_first_steps(todo: dict, configs: dict, out: Path | str | None) -> dict[str, tuple[RunConfig, bool]]:
    """{hash: (run, whether what it trains is kept)}, each run after the first step that it lacks."""
    plan: dict[str, tuple[RunConfig, bool]] = {}
    for key, config in todo.items():
        if has_first_step(config):
            first = vision_run(config)
            place, record = config_hash(first), finished(first, out)
            if record is None or not steps.is_kept(record, folder_of(first, out)):
                plan[place] = (configs.get(place, first), True)
        plan.setdefault(key, (config, False))
    return plan


def _starts(config: RunConfig) -> set[str]:
    """Hashes of the runs that this one starts from."""
    first = {config_hash(vision_run(config))} if has_first_step(config) else set()
    return first | ({config.init.rsplit("--", 1)[-1]} if config.init else set())


def _one(label: str, config: RunConfig, keep: bool, out: Path | str | None, log: Log) -> Record | None:
    """One of many runs; None if it diverged. Where others run beside it, what it says begins with its label."""
    log(f"run {label}: {config.method} on {config.data}, {config.backbone}, seed {config.seed}")
    try:
        return run(config, out, log if jobs.running() == 1 else lambda line: log(f"{label}  {line}"), keep=keep)
    except TrainingDiverged as error:
        log(f"diverged: {error}")
    return None


def finished(config: RunConfig, out: Path | str | None = None) -> Record | None:
    """The record of a finished run with these settings, data and weights; else None."""
    try:
        return find_record(folder_of(config, out), config_hash(config), **digests(config, out))
    except steps.NoStart:  # the run that it starts from is still to come
        return None


def folder_of(config: RunConfig, out: Path | str | None) -> Path:
    """Where a run's record goes."""
    return Path(out) if out else local_dir(config.profile)


def digests(config: RunConfig, out: Path | str | None = None) -> dict[str, str]:
    """What the data and the weights of a run are, and what it starts from, in a few digits each.

    The first step counts by its settings: at another learning rate of vision, what stands on it is another run.
    """
    found = {"data": open_sets(config)["train"].digest, "weights": "random"}
    if config.weights and config.plugins.trains != "scratch":
        found["weights"] = weights.digest(weights.resolve(config.backbone, config.weights))
    if has_first_step(config):
        found["vision"] = config_hash(vision_run(config))
    if files := steps.init_files(config, folder_of(config, out)):
        found["init"] = " ".join(f"{name}:{weights.digest(path)}" for name, path in sorted(files.items()))
    return found


def main(argv: list[str] | None = None) -> int:
    """One run from the command line; every setting is a flag, and what is left out takes its default."""
    usage = "%(prog)s [--method WORDS] [--data NAME] [--SETTING VALUE ...] [--out DIR] [--dry-run] [--score-test]"
    about = dict(description=main.__doc__, formatter_class=flags.Help)
    parser = argparse.ArgumentParser(prog="python -m cm3t.train", usage=usage, **about)
    flags.add_flags(parser, backbones.NAMES)
    parser.add_argument("--out", metavar="DIR", help="where the record goes (default: results/local/<profile>/)")
    parser.add_argument("--dry-run", action="store_true", help="say what is missing and what it would take, and stop")
    parser.add_argument("--score-test", action="store_true", help="the scores of a challenge's test split, of this run")
    given = vars(parser.parse_args(argv))
    out, dry, test = (given.pop(name) for name in ("out", "dry_run", "score_test"))
    try:
        if dry:
            from cm3t import dryrun

            return dryrun.check([resolve(**given)], out)
        config, log = resolve(**given), partial(print, flush=True)
        if test:
            _check_test(config)
        run(config, out, log, keep=test)
        if test:
            score_test(config, out, log)
    except (ConfigError, OSError, ValueError, ImportError, AbsentModality, MediaError, TrainingDiverged) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cancelled; the same command starts this run again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Training in steps: vision first, then modalities on top of it. What starts from what, and what is kept for it."""

import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from cm3t.assembly.plugin_file import read
from cm3t.assembly.summary import in_a_head
from cm3t.backbones import weights
from cm3t.backbones.opening import WeightsError
from cm3t.coerce import ConfigError
from cm3t.config import RunConfig
from cm3t.model import CM3T
from cm3t.records import Record, find_record
from cm3t.training.loop import epochs_to_converge, fit
from cm3t.training.sets import ClipSet
from cm3t.training.tasks import task_of


class NoStart(ConfigError):
    """What `init` names is not there (yet)."""


def stages(config: RunConfig) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(stage, modalities heard) of what a run with a side trains, in turn: stages of `CM3T.train_stage`.

    Paper: Sec. 3.3: AdapterFusion takes the place of simple addition; trained in steps, and end to end.
    Choice: `steps` trains modalities and fusion together on top of finished vision; `apart` each modality for itself,
    added plainly, and then the fusion; `joint` everything at once, from the start.
    """
    if config.regime == "joint":
        return (("all", config.side),)
    if config.regime == "steps":
        return (("cross", config.side),)
    fused = config.plugins.cross.join == "fusion"
    return (*((name, (name,)) for name in config.side), *((("fusion", config.side),) if fused else ()))


def fit_stages(
    model: CM3T, train: ClipSet, tune: ClipSet, config: RunConfig, info: dict, log: Callable[[str], None]
) -> None:
    """Train every stage for `config.epochs`; its rows go into info["epochs"], what it came to into info["steps"]."""
    for name, heard in stages(config):
        model.train_stage(name)
        rows, started = [], time.perf_counter()
        log(f"stage {name}: {trained(model):,} parameters train, hearing {', '.join(heard)}")
        try:
            fit(model, train.only(*heard), config, tune=tune.only(*heard), history=rows, log=log)
        finally:
            info["epochs"] += [row | {"stage": name} for row in rows]
        step = {"stage": name, "epochs": len(rows), "epochs_to_converge": epochs_to_converge(rows, task_of(train))}
        summary = model.summary()
        share = summary.share if name == "all" else trained(model) / summary.reference
        step |= {"trainable": trained(model), "share": share, "seconds": time.perf_counter() - started}
        info["steps"].append(step)
    model.train_stage("all")  # all modalities are heard again


def epochs_of_all(taken: list[dict]) -> int | None:
    """Epochs to converge of all steps together, the first one's included; None where one was never scored."""
    epochs = [step["epochs_to_converge"] for step in taken]
    return None if None in epochs else sum(epochs)


def trained(model: nn.Module) -> int:
    """Parameters that train now, without classifiers."""
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and not in_a_head(name))


def first_step(record: Record) -> dict:
    """The entry of info["steps"] for the run that trained vision, and where it is found."""
    keys = ("epochs_to_converge", "trainable", "share", "seconds", "plugins")
    step = {"stage": "vision", "run_id": record.run_id, "epochs": len(record.train_info["epochs"])}
    return step | {key: record.train_info.get(key) for key in keys}


def plugins_path(folder: Path, run_id: str, modality: str | None = None) -> Path:
    """Where a run keeps what it trained, or one of its modalities: <folder>/plugins/<run id>[.audio].safetensors."""
    return folder / "plugins" / f"{run_id}{'.' + modality if modality else ''}.safetensors"


def keep(model: CM3T, folder: Path, run_id: str) -> str:
    """Save what a run trained, whole and each modality for itself; the digest of the whole, for the record."""
    path = plugins_path(folder, run_id)
    for name in model.modalities:
        model.save_modality(name, plugins_path(folder, run_id, name))
    return weights.digest(model.save_plugins(path))


def is_kept(record: Record, folder: Path) -> bool:
    """Does the file of a finished run hold what the record says? A file without its record is never asked for."""
    path = plugins_path(folder, record.run_id)
    return path.is_file() and record.train_info.get("plugins") == weights.digest(path)


def init_files(config: RunConfig, folder: Path) -> dict[str, Path]:
    """{modality: file} that `config.init` names: one modality's file, or those of a finished run in this folder.

    NoStart where there is no such file or run, or where it has none of the run's modalities.
    """
    if not config.init:
        return {}
    path = Path(config.init).expanduser()
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ConfigError(
                f"init={config.init!r}: there is no such file; give one of CM3T.save_modality, or a run id"
            )
        found = {read(path)[0].get("modality"): path}
    else:
        record = find_record(folder, config.init.rsplit("--", 1)[-1])
        if record is None:
            raise NoStart(f"init={config.init!r}: {folder} has no finished run of this id; run it first")
        found = {name: plugins_path(folder, record.run_id, name) for name in record.run_info["config"].get("side", ())}
        found = {name: path for name, path in found.items() if path.is_file()}
    found = {name: path for name, path in found.items() if name in config.side}
    if not found:
        raise NoStart(f"init={config.init!r} holds none of the run's modalities: {', '.join(config.side)}")
    return found


def initialise(model: CM3T, files: dict[str, Path]) -> None:
    """Start modalities from what another run made of them, classifiers and calibration excepted.

    ConfigError where a file does not fit the run's own modality.

    Choice: what the clips of a data set have in common, its rooms and microphones, is told by these clips.
    """
    for name, path in files.items():
        modality = model.side[name]
        mean, spread = modality.mean.clone(), modality.spread.clone()
        try:
            # A network with positions in its frozen part differs by the size of the clips, which reuse may change.
            model.load_modality(path, name=name, heads=False, check_weights=False)
        except WeightsError as error:
            raise ConfigError(
                f"init: {error}\n  Of a run these decide what {name} is: side_encoder, audio, sound, flow, "
                "sentences, features, feature_length"
            ) from None
        model.side[name].mean.copy_(mean)
        model.side[name].spread.copy_(spread)

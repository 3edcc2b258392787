"""One dial and one door: profiles say how much evidence, `resolve` makes settings a checked `RunConfig`.

Notebooks, the command line and `run.py` all pass through `resolve`, so a name, a type and a range exist once.
Only the standard library is imported here.
"""

import codecs
import hashlib
import json
import os
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from cm3t.coerce import ConfigError, coerce, nearest
from cm3t.methods import CROSS, OVERRIDES, Method, parse_method
from cm3t.profiles import PROFILES, Profile
from cm3t.rates import tuned_lr
from cm3t.settings import (
    CHOICES,
    DRAWN,
    FILMED_AGAIN,
    FROM_PROFILE,
    PAPER_WEIGHTS,
    RANGES,
    SIDE_ONLY,
    SIDE_SETTINGS,
    SIDE_SWITCHES,
    SWITCHES,
    epochs_of,
)
from cm3t.sides import SIDES, SOUNDS, sides_of

__all__ = ["PROFILES", "SIDES", "ConfigError", "Profile", "RunConfig", "config_hash", "resolve", "run_id", "vision_run"]


def _find_root() -> Path:
    """CM3T_HOME, or the checkout this file stands in, or where the caller stands."""
    if home := os.environ.get("CM3T_HOME"):
        return Path(home).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


ROOT = _find_root()


def data_dir() -> Path:
    """Where the embedded benchmark lies."""
    return ROOT / "data"


def results_dir() -> Path:
    """Where committed records, tables and figures lie."""
    return ROOT / "results"


def records_dir(profile: str) -> Path:
    """Published records of a profile, committed."""
    return results_dir() / "records" / profile


def local_dir(profile: str) -> Path:
    """Records this machine makes, git-ignored; the environment variable CM3T_LOCAL moves them."""
    return Path(os.environ.get("CM3T_LOCAL") or results_dir() / "local") / profile


def cache_dir() -> Path:
    """Where what is slow to make is kept from one process to the next, git-ignored; all of it can be deleted."""
    return local_dir("cache")


@dataclass(frozen=True)
class RunConfig:
    """Everything one training run depends on; `flags.HELP` says what each setting means.

    A field left None takes the method's, the profile's, the backbone's or the reader's own value; so do epochs,
    batch_size and lr not given (0).
    """

    study: str = "adhoc"
    data: str = "rooms-kitchen"
    root: str | None = None
    method: str = "mhva+pt"
    preset: str = "default"
    cells: int | None = None
    bottleneck: int | None = None
    reduction: int | None = None
    prefix_length: int | None = None
    activation: str | None = None
    prefix_dropout: float | None = None
    adapter_input: str | None = None
    learnable_scale: bool | None = None
    scale: float | None = None
    match_cells: int | None = None
    caa_form: str | None = None
    caa_join: str | None = None
    caa_source: str | None = None
    caa_stages: tuple[int, ...] | None = None
    side: tuple[str, ...] = ()
    side_encoder: str = "transformer"
    regime: str = "steps"
    modality_dropout: float = 0.0
    exchanged: bool = False
    init: str | None = None
    backbone: str = "video_swin_mini"
    weights: str | None = "default"
    weights_clip: tuple[int, ...] | None = None
    seed: int = 0
    profile: str = "smoke"
    epochs: int = 0
    stretch: int = 1
    batch_size: int = 0
    train_clips: int | None = None
    eval_clips: int | None = None
    micro_batch: int | None = None
    checkpointing: bool = False
    lr: float = 0.0
    weight_decay: float = 0.05
    warmup: float = 0.1
    frames: int | None = None
    size: int | None = None
    anchored: bool = True
    gap: int = 0
    score_split: str = "validation"
    # How clips are read: None takes what the reader of the data set takes; settings.SWITCHES says who knows what.
    workers: int | None = None
    tune: str | None = None
    source: str | None = None
    flow: str | None = None
    flow_scale: str | None = None
    audio: str | None = None
    sound: str | None = None
    head: str | None = None
    view: int | None = None
    behaviours: int | None = None
    tasks: str | None = None
    seconds: float | None = None
    windows: int | None = None
    sentences: str | None = None
    encoding: str | None = None
    features: str | None = None
    feature_length: int | None = None
    feature_rate: float | None = None
    sampling: str | None = None
    jitter: bool = False
    transform: str | None = None
    claims: tuple[str, ...] = ()

    @property
    def plugins(self) -> Method:
        """The method with its overrides, parsed."""
        return parse_method(self.method, preset=self.preset, **{name: getattr(self, name) for name in OVERRIDES})


# What says who asked and where the data lie, but moves no number; preset and overrides are hashed as plugins.
NOT_HASHED = ("study", "root", "profile", "claims", "method", "preset", "workers", *OVERRIDES)


def resolve(profile: str = "smoke", **given) -> RunConfig:
    """Settings in, a complete and checked `RunConfig` out.

    Text is coerced to the field's type ("1e-3", "false", "[0, 1]"), so papermill and a shell may both speak; empty text
    is as if the setting were not given, so that a notebook can leave data, backbone and weights to the profile.
    Raises ConfigError for an unknown name, a value of the wrong type, out of range, or against the method.
    """
    types = {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(RunConfig)}
    values = {"profile": profile} | given
    for name in values:
        if name not in types:
            raise ConfigError(f"unknown setting {name!r}; {nearest(name, types)}")
    values = {name: coerce(name, value, types[name]) for name, value in values.items() if value != ""}
    _check_choice("profile", values["profile"])
    values["method"] = parse_method(values.get("method", RunConfig.method)).name
    for name, value in values.items():
        _check_range(name, value)  # before an open one is filled: a 0 that was given is none
    _fill_paper(values)
    _fill(values)
    for name, value in values.items():
        _check_choice(name, value)
        _check_range(name, value)
    config = RunConfig(**values)
    if config.gap and config.data not in FILMED_AGAIN:
        raise ConfigError(f"gap={config.gap}: {config.data} was filmed once; {', '.join(FILMED_AGAIN)} has gap levels")
    if config.weights_clip is not None and (len(config.weights_clip) != 3 or min(config.weights_clip) < 1):
        raise ConfigError(f"weights_clip={config.weights_clip}: give frames, height and width in pixels: 32,224,224")
    _check_switches(config)
    _check_side(config, config.plugins)  # parsing raises where method and overrides do not agree
    return config


def _check_choice(name: str, value) -> None:
    if name in CHOICES and value is not None and value not in CHOICES[name]:
        raise ConfigError(f"{name}={value!r} is not known; {nearest(value, CHOICES[name])}")


def _check_range(name: str, value) -> None:
    if name in RANGES and value is not None and not RANGES[name][0] <= value <= RANGES[name][1]:
        low, high = RANGES[name]
        raise ConfigError(f"{name}={value!r} is out of range; it goes from {low:g} to {high:g}")


def _check_switches(config: RunConfig) -> None:
    """Does the reader of the data set know what was asked of it?"""
    for name, known in SWITCHES.items():
        value = getattr(config, name)
        if value != default_of(name) and config.data not in known:
            own = ", ".join(other for other, sets in SWITCHES.items() if config.data in sets)
            raise ConfigError(
                f"{name}={value!r} is for {', '.join(known)}; {config.data} knows {own or 'no such setting'}"
            )
    stray = [name for name in ("feature_length", "feature_rate") if getattr(config, name) and not config.features]
    if stray:
        raise ConfigError(f"{stray[0]} is of features that were extracted beforehand, and none are given: features=...")
    if config.encoding:
        try:
            codecs.lookup(config.encoding)
        except LookupError:
            raise ConfigError(f"encoding={config.encoding!r} is no text encoding; latin-1 and utf-16 are") from None
    drawn = [name for name in DRAWN if getattr(config, name)]
    if drawn and config.workers is None:
        raise ConfigError(
            f"{drawn[0]} draws every clip anew in every epoch, so clips must be read as they are needed: give "
            "workers=0 (this process) or more"
        )


def features_of(config: RunConfig) -> dict[str, str]:
    """{modality: file or folder} of the setting `features`; ConfigError for text that is no such list."""
    pairs = [word.strip().partition("=") for word in (config.features or "").split(",") if word.strip()]
    for name, _, path in pairs:
        if not name.isidentifier() or not path:
            raise ConfigError(f"features={config.features!r}: write MODALITY=FILE, more of them with commas")
    return {name: path for name, _, path in pairs}


def _check_side(config: RunConfig, method: Method) -> None:
    """Do the modalities exist, and does the method say how they join?"""
    sides = tuple(dict.fromkeys((*sides_of(config.data, config.root), *features_of(config))))
    for name in config.side:
        if name not in sides:
            raise ConfigError(f"side: {config.data} has no modality {name!r}; {nearest(name, sides)}")
    if config.side and method.cross is None:
        words = ", ".join(f"{method.name}+{word}" for word in CROSS)
        raise ConfigError(
            f"side={config.side} was given, but method {method.name!r} does not say how it joins; write {words}"
        )
    if method.cross is not None and not config.side:
        known = ", ".join(sides)
        raise ConfigError(f"method {method.name!r} joins modalities, and none is given: side=..., of {known}")
    for name in SIDE_SETTINGS:
        if not config.side and (value := getattr(config, name)) != default_of(name):
            raise ConfigError(f"{name}={value!r} is for runs with a side; leave it out, or give side=...")
    if config.regime == "apart" and (method.cross.kind != "caa" or method.cross.up == "shared"):
        raise ConfigError(
            f"regime='apart' needs cross-attention adapters that can be trained each by itself; {method.name!r} has "
            "none: add mhva, or take caa_join='add' (only caa has them)"
        )


def _fill_paper(values: dict) -> None:
    """Data, backbone and workers where they were not given, and the name of the weights that "default" means."""
    profile = PROFILES[values["profile"]]
    for name in ("data", "backbone"):
        values[name] = values.get(name) or getattr(profile, name) or default_of(name)
    if values.get("weights", "default") == "default":
        values["weights"] = PAPER_WEIGHTS.get(values["backbone"], "default")
    if values.get("workers") is None:
        values["workers"] = profile.workers


def _fill(values: dict) -> None:
    """What was left open: from the profile, then from the released tuning, then from the defaults."""
    given = bool(values.get("epochs"))
    for name in FROM_PROFILE:
        values[name] = values.get(name) or getattr(PROFILES[values["profile"]], name)
    for field in fields(RunConfig):
        values.setdefault(field.name, field.default)
    if not given:
        values["epochs"] = epochs_of(values["profile"], values["data"]) * values["stretch"]
    values["side"] = tuple(sorted(set(values["side"])))
    if not values["side"]:
        values |= {name: default_of(name) for name in SIDE_SWITCHES}
    if "audio" in values["side"]:
        values["sound"] = values["sound"] or SOUNDS.get(values["data"])
    if values["caa_stages"] is not None:
        values["caa_stages"] = tuple(sorted(values["caa_stages"]))
    if not values["lr"]:
        values["lr"] = tuned_lr(values, released())


def released() -> dict[str, dict]:
    """The winners of the published sweep, results/tuning.json; empty before there was one."""
    path = results_dir() / "tuning.json"
    return json.loads(path.read_text()) if path.exists() else {}


def seeds_for(profile: str, seeds=()) -> tuple[int, ...]:
    """The seeds to run: those given, or the profile's when none are."""
    _check_choice("profile", profile)
    given = tuple(coerce("seeds", seed, "int") for seed in coerce("seeds", seeds, "list"))
    return given or PROFILES[profile].seeds


def default_of(name: str):
    """What a setting is when nobody gives it."""
    return RunConfig.__dataclass_fields__[name].default


def has_first_step(config: RunConfig) -> bool:
    """Does the run start from one with pictures alone? One with a side does, unless all of it is trained at once."""
    return bool(config.side) and config.regime != "joint"


def vision_run(config: RunConfig) -> RunConfig:
    """The run that a run with a side starts from, its first step: the same settings, with pictures alone.

    Its learning rate is its own method's released one.
    """
    name = config.plugins.vision.name
    plain = {name: default_of(name) for name in SIDE_ONLY}
    first = replace(config, **plain, method=name, claims=())
    usual = replace(first, preset=default_of("preset"))  # one that says nothing of vision leaves the usual run
    first = usual if usual.plugins == first.plugins else first
    return replace(first, lr=tuned_lr(vars(first), released()))


def config_hash(config: RunConfig) -> str:
    """12 hexadecimal digits over all that moves a number; data and weights have digests of their own.

    Fields at their default are left out: a setting that is added later, off by default, leaves old hashes as they are.
    """
    payload = {name: value for name, value in _chosen(config).items() if name not in NOT_HASHED}
    plugins = config.plugins
    payload["method"] = {"trains": plugins.trains} | {
        field.name: _chosen(part) for field in fields(plugins) if is_dataclass(part := getattr(plugins, field.name))
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:12]


def _chosen(settings) -> dict:
    """The fields of a dataclass that are not at their default."""
    return {f.name: value for f in fields(settings) if (value := getattr(settings, f.name)) != f.default}


def run_id(config: RunConfig) -> str:
    """A file name that reads: study--method[--side]--backbone--seed--hash."""
    side = [",".join(config.side)] if config.side else []
    words = (config.study, config.method, *side, config.backbone, f"seed{config.seed}", config_hash(config))
    return "--".join(words)

"""The model of a run, before it trains: from settings and training clips; and whether these fit together."""

from pathlib import Path

import torch
from torch import Tensor

from cm3t.config import RunConfig
from cm3t.model import CM3T, create
from cm3t.training import steps
from cm3t.training.sets import ClipSet, clip_of, evenly, open_sets, side_tokens

CALIBRATED = 8192  # clips, that a modality's mean and spread are taken of


def build(config: RunConfig, data, clips: ClipSet | None = None) -> CM3T:
    """The model of a run: a head for every target of the data set, and the modalities of the decoded training `clips`,
    calibrated on them.
    """
    method, clip = config.plugins, clip_of(config)
    loads = dict(weights=config.weights, weights_clip=config.weights_clip)
    model = create(config.backbone, method=method, heads=data.classes, clip=clip, **loads)
    encoder = None if config.side_encoder == "none" else config.side_encoder
    model.checkpointing = config.checkpointing
    for name in config.side:
        _, length, width = clips.side[name].shape
        model.add_modality(name, width, length=length, encoder=encoder)
        model.side[name].calibrate(clips.side[name][evenly(clips.present[name], CALIBRATED)])
    return model


def _check_like_train(name: str, split: str, own: Tensor, train: Tensor) -> None:
    """Raise ValueError unless a split's tokens (n, L, d) are as long and as wide as those of train."""
    if own.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"{name}: the {split} split has {own.shape[1]} tokens {own.shape[2]} wide a clip, train "
            f"{train.shape[1]} tokens {train.shape[2]} wide; features are extracted alike for all splits, and have one "
            "feature_length"
        )


def check_modalities(config: RunConfig, folder: Path) -> None:
    """That a run can use its modalities, in every split, and what `init` names: shown before anything trains.

    Errors: those of `decode` and `create`; WeightsError for a plugin file that does not fit; ValueError where the
    tokens (L, d) of splits differ.
    """
    if not config.side:
        return
    sets, read = open_sets(config), {}
    for split in ("train", "tune", config.score_split):
        read[split] = {name: side_tokens(sets[split], name, config.workers) for name in config.side}
        for name, own in read[split].items():
            _check_like_train(name, split, own.tokens, read["train"][name].tokens)
    side = {name: own.tokens for name, own in read["train"].items()}
    present = {name: own.present for name, own in read["train"].items()}
    with torch.random.fork_rng():
        model = build(config, sets["train"], ClipSet(torch.empty(0), {}, {}, side, present))
    steps.initialise(model, steps.init_files(config, folder))

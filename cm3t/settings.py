"""What the settings of a run may be: tables of names and ranges, which `config.resolve` checks against."""

from cm3t.methods import PRESETS
from cm3t.profiles import PROFILES
from cm3t.sides import SIDES

FILMED_AGAIN = ("rooms-kitchen", "epic")  # those whose reader knows gap levels
EXTRACTED = ("features", "feature_length", "feature_rate")  # sides that were made beforehand
KITCHENS, GROUPS, DYADS = ("epic", "rooms-kitchen"), ("mpiigi", "rooms-group"), ("udiva", "rooms-dyad")
# How a data set is read: which of them know the setting. Most are arguments of its reader, by the same name.
SWITCHES = {
    "tune": (*KITCHENS, *GROUPS, *DYADS),
    "source": KITCHENS,
    "flow": KITCHENS,
    "flow_scale": KITCHENS,
    "audio": KITCHENS,
    "sound": (*KITCHENS, *GROUPS),
    "head": KITCHENS,
    "view": GROUPS,
    "behaviours": GROUPS,
    "tasks": DYADS,
    "seconds": DYADS,
    "windows": DYADS,
    "sentences": (*DYADS, "folder"),
    "encoding": (*DYADS, "folder"),
    **dict.fromkeys(EXTRACTED, (*KITCHENS, *GROUPS, *DYADS)),
    "sampling": (*KITCHENS, *GROUPS, *DYADS, "folder"),
    "jitter": (*KITCHENS, *GROUPS, *DYADS, "folder"),
    "transform": (*KITCHENS, *GROUPS, *DYADS, "folder"),
}
# Without a side these change nothing.
SIDE_SWITCHES = ("flow", "flow_scale", "audio", "sound", "sentences", "encoding", *EXTRACTED)
DRAWN = ("jitter", "transform")  # new in every epoch: for clips that are read as they are needed

CHOICES = {
    "data": tuple(SIDES),
    "profile": tuple(PROFILES),
    "preset": tuple(PRESETS),
    "activation": ("relu", "tanh"),
    "adapter_input": ("norm", "raw"),
    "side_encoder": ("transformer", "linear", "none"),
    "regime": ("steps", "apart", "joint"),
    "score_split": ("validation", "tune"),
    "source": ("video", "frames"),
    "flow": ("compute", "files"),
    "flow_scale": ("unified", "stored"),
    "sound": ("epic", "small"),
    "head": ("verb+noun", "action"),
    "sampling": ("segments", "dense"),
}
RANGES = {
    "cells": (1, 64),
    "match_cells": (2, 64),
    "bottleneck": (1, 4096),
    "reduction": (1, 4096),
    "prefix_length": (1, 1024),
    "prefix_dropout": (0.0, 0.9),
    "scale": (-100.0, 100.0),
    "modality_dropout": (0.0, 0.9),
    "seed": (0, 2**31 - 1),
    "epochs": (1, 10_000),
    "stretch": (1, 100),
    "batch_size": (1, 65_536),
    "micro_batch": (1, 65_536),
    "train_clips": (1, 10**9),
    "eval_clips": (1, 10**9),
    "lr": (1e-9, 10.0),
    "weight_decay": (0.0, 10.0),
    "warmup": (0.0, 0.9),
    "frames": (1, 1024),
    "size": (16, 2048),
    "gap": (0, 3),
    "workers": (0, 1024),
    "view": (0, 2),
    "behaviours": (14, 15),
    "seconds": (0.1, 3600.0),
    "feature_length": (1, 10**6),
    "feature_rate": (1e-3, 1e6),
    "windows": (1, 10**6),
}
# What only runs with a side have; their first step leaves it at its default.
SIDE_SETTINGS = ("side_encoder", "regime", "modality_dropout", "exchanged", "init")
SIDE_ONLY = ("caa_form", "caa_join", "caa_source", "caa_stages", "side", *SIDE_SETTINGS, *SIDE_SWITCHES)
# Clips for training of the rooms whose runs take as many steps as each other. Choice: the group's are so few that full
# fine-tuning hardly begins in the kitchen's epochs. Not the dyad: in as many epochs its 488 clips are learned by heart.
CLIPS = {"rooms-kitchen": 1334, "rooms-group": 320}
FROM_PROFILE = ("epochs", "batch_size", "train_clips", "eval_clips")
# What "default" means. Paper: Tables 1 and 6 name the pretraining: Kinetics-400 of Video Swin-B and ViViT-B, CLIP,
# ImageNet-21K of ViT-B. The mini size of CLIP ships with contrastive weights alone.
PAPER_WEIGHTS = {
    "clip_mini": "contrastive",
    "video_swin_b": "kinetics400",
    "vivit_b": "kinetics400",
    "clip_b": "openai",
    "vit_b": "imagenet21k-imagenet1k",
}


def epochs_of(profile: str, data: str) -> int:
    """Epochs of a run on a data set at a profile: the profile's, and more where CLIPS says so."""
    most = PROFILES[profile].train_clips or max(CLIPS.values())
    seen = {room: min(clips, most) for room, clips in CLIPS.items()}
    return PROFILES[profile].epochs * round(max(seen.values()) / seen.get(data, max(seen.values())))

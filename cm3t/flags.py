"""What each setting of a run means, said once, and its flag: what `python -m cm3t.train --help` prints.

Only the standard library is imported here.
"""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import Field, fields

from cm3t import methods
from cm3t.config import RunConfig
from cm3t.settings import CHOICES, FROM_PROFILE, SWITCHES

# {group: {setting: what it means}}; defaults, choices and data sets are added from where they are defined.
HELP = {
    "what is run": {
        "method": "words joined by +: full, scratch, linear, adaptformer (with cells, scale, norm towards mhva), mhva, "
        "pt; then caa, mmca or late for sides",
        "data": "the data set, of the real ones with its --root",
        "root": "folder of the data; left out: the embedded benchmark",
        "backbone": "the network that the plugins are attached to",
        "weights": "of the backbone: default (the shipped ones; of a full-size backbone its published ones), the name "
        "of published ones (kinetics400), a file or folder, the hub's org/name, timm's arch.tag, or none (random)",
        "weights_clip": "T,H,W in pixels of the clips that a weights file was trained on, where loading asks for it",
        "seed": "of weights, clips and their order",
        "profile": "how much evidence to gather: it fills in what is left out",
        "study": "who asked for the run: a notebook's number, or a word of yours",
        "claims": "ids of paper.CLAIMS that the run is evidence for, with commas",
    },
    "plugins (left out: the method's own value)": {
        "preset": "a reading of the plugins' widths: eight cells, or cross-attention decoupled from the MHVA",
        "cells": "MHVA's cells per side of the token map",
        "bottleneck": "r, the adapter's inner width in channels",
        "reduction": "r as a divisor of the block's width",
        "prefix_length": "l, prefix tokens a block",
        "activation": "on the prefix's keys and values",
        "prefix_dropout": "chance that a number of the prefix's keys and values is left out, in training",
        "adapter_input": "what the adapter reads: after the block's norm, or the raw residual stream",
        "learnable_scale": "is the adapter's scale s learned",
        "scale": "s, or where a learned one starts",
        "match_cells": "one shared adapter with the parameters of this many cells per side",
        "caa_form": "the cross-attention's formula (plugins.caa)",
        "caa_join": "how modalities join each other",
        "caa_source": "what the cross-attention reads of vision",
        "caa_stages": "only in these stages of the backbone, counted from 1: 3,4",
    },
    "modalities beside the pictures": {
        "side": "modalities of the data set, with commas: audio,flow; the method says how they join (caa, mmca, late)",
        "side_encoder": "what makes tokens of a modality",
        "regime": "vision first and then all modalities, each apart, or everything jointly",
        "modality_dropout": "chance that a training clip goes without a modality that it has",
        "exchanged": "every clip has another clip's modalities, in training as in scoring: a control",
        "init": "plugin file, or id of a run, whose cross-attention the run starts from",
    },
    "training": {
        "epochs": "passes over the training clips",
        "stretch": "times the profile's epochs, for a run whose rivals are trained in two steps",
        "batch_size": "clips a step",
        "train_clips": "the most clips trained on",
        "eval_clips": "the most clips scored",
        "micro_batch": "clips that go through the model at once, where memory does not hold a batch",
        "checkpointing": "keep the blocks' inputs alone and compute the rest again: less memory, more time",
        "lr": "peak learning rate; left out: the one tuned for the method",
        "weight_decay": "of AdamW",
        "warmup": "share of all steps over which the learning rate rises from 0",
        "anchored": "false: every clip is shifted and flipped at random, so that place tells nothing",
        "gap": "0: validation as filmed; 1 to 3: filmed again, ever further from training",
        "score_split": "tune, for choosing settings; validation is scored once",
    },
    "how clips are read (left out: as the data set's reader does)": {
        "frames": "frames a clip; left out: the backbone's",
        "size": "pixels a side; left out: the backbone's",
        "workers": "processes that read clips as they are needed; 0: this one; none: all in memory first",
        "tune": "participants (of mpiigi: recordings) kept out of training: P03,P05",
        "source": "of pictures",
        "flow": "compute it, or read it from files",
        "flow_scale": "unified over both halves of the data set, or as stored",
        "audio": "from the video, from the archive, or from the archive of this path",
        "sound": "spectrogram: epic (24 kHz, 400 x 128) or small (16 kHz, 101 x 64, the rooms' own)",
        "head": "verb and noun, or one class for each pair",
        "view": "0 from the front, 1 left, 2 right",
        "behaviours": "how many of the list: 14 or 15",
        "tasks": "talk+animals+lego+ghost, or some of them",
        "seconds": "length of a clip, where clips are windows of a recording",
        "windows": "the most clips of one task",
        "sentences": "what encodes a transcript: hashing, hashing:512, sentence-transformers:MODEL",
        "encoding": "of transcripts that are not UTF-8: latin-1",
        "features": "files in the place of modalities, or beside them: audio=FOLDER,gaze=FILE.h5",
        "feature_length": "rows taken of every clip's features, where arrays differ in theirs",
        "feature_rate": "rows a second of features that span a whole recording",
        "sampling": "of frames",
        "jitter": "training frames at random times of their spans, new in every epoch",
        "transform": "augmentations of data.transforms, with jitter: crop+flip+colour",
    },
}

WIDE = 40  # characters: longer lists of choices stand in the text


class Help(argparse.HelpFormatter):
    """Help whose lines do not break inside a name such as rooms-kitchen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def add_flags(parser: argparse.ArgumentParser, backbones: Sequence[str] = ()) -> None:
    """A flag for every setting, in groups, with its meaning, choices and default; values stay text for `resolve`."""
    kinds = {field.name: field for field in fields(RunConfig)}
    for title, group in HELP.items():
        place = parser.add_argument_group(title)
        for name, means in group.items():
            field = kinds[name]
            choices = backbones if name == "backbone" else CHOICES.get(name, methods.CHOICES.get(name))
            shown = "{" + ",".join(choices) + "}" if choices else _kind(field.type)
            if len(shown) > WIDE:
                means, shown = f"{means}: {', '.join(choices)}", "NAME"
            words = means + "".join(f" ({note})" for note in (_readers(name), _default(field)) if note)
            flag = f"--{name.replace('_', '-')}"
            place.add_argument(flag, default=argparse.SUPPRESS, metavar=shown, help=words.replace("%", "%%"))


def _kind(annotation) -> str:
    """The kind of value a flag takes, from the field's type."""
    name = str(getattr(annotation, "__name__", annotation)).split(" |")[0].split("[")[0]
    return {"str": "TEXT", "int": "N", "float": "X", "bool": "{true,false}", "tuple": "LIST"}[name]


def _readers(name: str) -> str:
    """Which data sets know the setting, where not all do."""
    known = SWITCHES.get(name, CHOICES["data"])
    lacking = [data for data in CHOICES["data"] if data not in known]
    return f"of {', '.join(known)}" if len(lacking) > len(known) else f"not of {', '.join(lacking)}" if lacking else ""


def _default(field: Field) -> str:
    """What a setting is when it is left out, where its help does not say so."""
    if field.name in FROM_PROFILE:
        return "left out: the profile's"
    empty = field.default in (None, ()) or field.name in ("lr", "weights")
    shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return "" if empty else f"default: {shown}"

"""What a modality is worth: the same clips without it, with another clip's, or with its silence."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cm3t.training.sets import ClipSet
from cm3t.training.tasks import task_of

Outputs = dict[str, np.ndarray]
PERCENT = (25, 50, 75)  # of the clips, that lose a modality
SEED = 0  # of the exchange and of what is dropped: the same for every model and run
DRAWS = 8  # exchanges whose mean counts where people are exchanged: there are few of them, and one draw says little


def controls(clips: ClipSet) -> Iterator[tuple[str, ClipSet]]:
    """(name, clips) of every control: no_X, shuffled_X and muted_X for each modality X, then no_side.

    no_X: X is absent. shuffled_X: every clip has another clip's X, so that what X tells is wrong, and how it looks is
    not; where people are exchanged, in several draws, shuffled_X, shuffled_X/1, .., whose mean counts
    (`mean_of_draws`). muted_X: X is there, and says nothing (`silence`). no_side: nothing but pictures.
    """
    draws = DRAWS if clips.task == "traits" else 1
    for name in clips.side:
        yield f"no_{name}", clips.only(*(other for other in clips.side if other != name))
        for draw in range(draws):
            yield f"shuffled_{name}{f'/{draw}' if draw else ''}", shuffled(clips, name, seed=SEED + draw)
        yield f"muted_{name}", replace(clips, side=clips.side | {name: silence(name, clips.side[name])})
    if clips.side:
        yield "no_side", clips.only()


def silence(name: str, tokens: Tensor) -> Tensor:
    """Tokens (n, L, d) in which nothing happens: no motion and no words are zeros, no sound is the quietest there is.

    Zeros in a log-mel spectrogram would be a loud hiss. Choice: the least value in any of the clips, which is silence
    where one of them holds a moment of it.
    """
    return torch.full_like(tokens, tokens[tokens.isfinite()].min() if name == "audio" else 0)


def mean_of_draws(scores: Mapping[str, dict]) -> dict[str, dict]:
    """Scores by control, {name: {metric: value or None}}, those of several draws as their mean, with their `draws`."""
    found: dict[str, list[dict]] = {}
    for name, one in scores.items():
        found.setdefault(name.partition("/")[0], []).append(one)
    return {name: _mean(each) if len(each) > 1 else each[0] for name, each in found.items()}


def _mean(each: list[dict]) -> dict:
    values = {metric: [one[metric] for one in each] for metric in each[0]}
    means = {metric: None if None in of else sum(of) / len(of) for metric, of in values.items()}
    return means | {"n": each[0]["n"], "draws": len(each)}


def others(clips: ClipSet, seed: int = SEED) -> Tensor:
    """For every clip another one, by chance, and for no two the same: numbers (n,).

    Traits are a person's, so there the other clip is another person's, where no one has more than half of the clips;
    whose it is is drawn too, or one person's traits could be learned from the same other's words every time.
    """
    generator = torch.Generator().manual_seed(seed)
    people = [group.split("/")[0] for group in clips.groups] if clips.task == "traits" else list(range(len(clips)))
    order = torch.randperm(len(clips), generator=generator)
    if clips.task == "traits":
        known = sorted(set(people))
        place = dict(zip(known, torch.randperm(len(known), generator=generator).tolist(), strict=True))
        order = torch.tensor(sorted(order.tolist(), key=lambda clip: place[people[clip]]))  # by chance within a person
    source = torch.empty_like(order)
    source[order] = order.roll(max(Counter(people).values()))
    return source


def shuffled(clips: ClipSet, *names: str, seed: int = SEED) -> ClipSet:
    """Every clip with another clip's tokens of some modalities (and their absence); see `others`."""
    source = others(clips, seed)
    side, present = (own | {name: own[name][source] for name in names} for own in (clips.side, clips.present))
    return replace(clips, side=side, present=present)


def dropped(clips: ClipSet, name: str, share: float) -> ClipSet:
    """A share of the clips (0..1) without a modality; a larger share takes it from these and from more."""
    return replace(clips, present=clips.present | {name: clips.present[name] & ~gone(len(clips), share)})


def gone(count: int, share: float) -> Tensor:
    """Which of so many clips lose a modality where a share of them (0..1) does: bool (n,). Errors: ValueError."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of clips lies between 0 and 1, not at {share:g}; divide percent by 100")
    rank = torch.rand(count, generator=torch.Generator().manual_seed(SEED)).argsort().argsort()
    return rank < round(share * count)


def partly(own: Outputs, others: Mapping[str, Outputs]) -> Iterator[tuple[str, Outputs]]:
    """(name, outputs) of the clips when a part of them loses a modality: no_X_25, no_X_50 and no_X_75, no_side_25, ..

    Of outputs {head: (n, c)} for the clips as they are, and for all of them under each control: a clip is answered by
    itself alone, so what a model says when some clips lose X is known already.
    """
    for name, outputs in others.items():
        for percent in PERCENT if name.startswith("no_") else ():
            lost = {head: gone(len(scores), percent / 100).numpy()[:, None] for head, scores in own.items()}
            yield f"{name}_{percent}", {head: np.where(lost[head], outputs[head], own[head]) for head in own}


def drop(present: dict[str, Tensor], chance: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Modality dropout: each clip of a batch goes without each of its modalities by chance. present {name: (B,)}."""
    return {
        name: own & (torch.rand(len(own), generator=generator) >= chance).to(own.device)
        for name, own in present.items()
    }


def trivial_scores(train: ClipSet, clips: ClipSet) -> dict[str, dict[str, float | None]]:
    """Scores of the best constant answer, learned from `train`: what a model that looks at nothing would reach."""
    task = task_of(clips)
    classes = {name: _classes(name, train, clips) for name in train.target}
    outputs = {name: row.expand(len(clips), -1).numpy() for name, row in task.constant(train.target, classes).items()}
    target, subsets = ({k: v.numpy() for k, v in own.items()} for own in (clips.target, clips.subsets))
    return task.scores(outputs, target, subsets, clips.groups)


def _classes(name: str, *sets: ClipSet) -> int:
    """How many classes of a head occur; a head of several outputs has as many columns."""
    first = sets[0].target[name]
    return first.shape[1] if first.ndim > 1 else 1 + max(int(clips.target[name].max()) for clips in sets)

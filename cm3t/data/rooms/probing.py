"""What all difficulty probes share: a recipe to fit a small network, the record for a data card, the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cm3t import config, records

Loss = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a room's probes are trained: the same for each of them, never tuned against each other."""

    epochs: int
    lr: float = 2e-3
    weight_decay: float = 0.05
    batch_size: int = 32


def fit(model: nn.Module, clips: int, loss: Loss, recipe: Recipe, *, seed: int) -> nn.Module:
    """Train with AdamW and a one-cycle rate; returns the model in eval mode.

    loss(rows, generator) is that of the clips `rows` (B,) out of `clips`; whatever is drawn for them comes from the
    generator, which draws the order too.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * -(-clips // recipe.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps)
    for _ in range(recipe.epochs):
        model.train()
        for rows in torch.randperm(clips, generator=generator).split(recipe.batch_size):
            value = loss(rows, generator)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def write_record(
    folder: Path,
    probe: str,
    seed: int,
    *,
    study: str,
    room: str,
    command: str,
    frames: int,
    recipe: dict,
    metrics: dict,
    digest: str,
    seconds: float,
) -> Path:
    """One record ``<probe>-s<seed>.json`` with the four blocks every record has."""
    about = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": study,
        "command": f"python -m cm3t.data.rooms {command} --probes {probe}",
        "config": {"data": room, "method": probe, "seed": seed, "frames": frames},
    }
    train = {"status": "ok", "recipe": recipe, "metrics": metrics, "seconds": round(seconds, 1)}
    record = records.Record(f"{probe}-s{seed}", about, train, records.provenance("cpu", data=digest))
    return records.save_record(record, folder)


def command(name: str, argv: list[str] | None, *, known: Sequence[str], measure: Callable, about: str) -> int:
    """The command line of the probes of ``rooms-<name>``: measure(root, folder, probes=, seeds=, log=)."""
    prefix, suffix = ("", "") if name == "kitchen" else (f"{name}-", f"-{name}")
    parser = argparse.ArgumentParser(prog=f"python -m cm3t.data.rooms {prefix}probes", description=about)
    parser.add_argument("--data", type=Path, default=config.data_dir() / f"rooms-{name}")
    parser.add_argument("--out", type=Path, default=config.results_dir() / "records" / f"card{suffix}")
    parser.add_argument("--probes", nargs="+", default=list(known), choices=known)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    measure(given.data, given.out, probes=tuple(given.probes), seeds=given.seeds, log=partial(print, flush=True))
    return 0

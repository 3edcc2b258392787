"""How fast the plugins and the attention are: `python -m cm3t.bench`, ratios against a reference in the same process.

A pair runs in turns, ours and the reference, so that a busy machine slows both; what is reported is the median of the
ratios of neighbours. Seconds depend on the machine, ratios much less: tests hold ratios only.
"""

import argparse
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch

from cm3t.config import records_dir
from cm3t.pairs import OPTIONS, PARTS, SIZES, Clip, Pair, Work, adapted_kept, left_out, no_room, pairs_of
from cm3t.records import provenance, write_json
from cm3t.training.machine import device_name, peak_memory

WARM_UP = 2  # turns that are not counted: caches, autotuning, compilation


@dataclass(frozen=True)
class Ratio:
    """One comparison. `ratio` is the reference's time (or memory) over ours: above 1, ours takes less."""

    what: str
    against: str
    measure: str  # "time" | "peak memory" | "kept activations"
    ratio: float
    low: float  # smallest and largest ratio of a pair
    high: float
    ours: float  # median seconds, or memory in units of 2^20 bytes
    reference: float
    target: float | None  # the ratio aimed at
    n: int
    dtype: str = "float32"
    batch: int = 1

    def __str__(self) -> str:
        unit, scale = ("ms", 1e3) if self.measure == "time" else ("MB", 2**20 / 1e6)
        aim = f", aim {self.target:.2f}" if self.target else ""
        return (
            f"{self.what:<42} {self.measure:<16} {self.ratio:5.2f}  ({self.low:.2f}-{self.high:.2f}, n={self.n}{aim})"
            f"  {self.ours * scale:9.1f} {unit} against {self.reference * scale:9.1f} {unit} of {self.against}"
            f"; {self.dtype}, batch {self.batch}"
        )


def compare(pair: Pair, repeats: int, device: torch.device, batch: int = 1) -> Ratio:
    """Times of a pair, in turns, after a warm-up of each."""
    ours, reference = pair.ours(), pair.reference()
    times = [(_seconds(ours, device), _seconds(reference, device)) for _ in range(repeats + WARM_UP)][WARM_UP:]
    return _ratio(pair, "time", times, pair.target, batch)


def compare_memory(part: str, index: int, name: str, clip: Clip, device: torch.device, batch: int = 1) -> Ratio:
    """Peak memory of pair `index` of a part, each side in a process of its own (allocators hoard)."""
    _give_back()
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(part, index, name, clip, str(device), batch, side) for side in ("ours", "reference")]
        found = pool.starmap(_peak, jobs, 1)
    pair = pairs_of(part, name, clip, device, batch)[index]
    return _ratio(pair, "peak memory", [tuple(found)], pair.memory_target, batch)


def compare_kept(name: str, clip: Clip, against: str = "full", batch: int = 1) -> Ratio:
    """Activations kept by a training step of the method `against` over those that MHVA + PT keeps; on the CPU."""
    ours, theirs = (adapted_kept(name, clip, method, batch) / 2**20 for method in ("mhva+pt", against))
    label = "full fine-tuning" if against == "full" else against
    return Ratio(
        "MHVA + PT, step", label, "kept activations", *[theirs / ours] * 3, ours, theirs, None, 1, "float32", batch
    )


def _ratio(pair: Pair, measure: str, found: list[tuple[float, float]], target: float | None, batch: int) -> Ratio:
    ratios = [theirs / own for own, theirs in found]
    own, theirs = (statistics.median(side) for side in zip(*found, strict=True))
    spread = statistics.median(ratios), min(ratios), max(ratios)
    return Ratio(pair.what, pair.against, measure, *spread, own, theirs, target, len(found), pair.dtype, batch)


def _seconds(work: Work, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _peak(part: str, index: int, name: str, clip: Clip, device: str, batch: int, side: str) -> float:
    """Peak memory, in 2^20 bytes, of two steps (the second holds the optimizer's state): of the GPU, else of this
    process beyond what it held before anything was built, its libraries.
    """
    held = 0 if device.startswith("cuda") else psutil.Process().memory_info().rss / 2**20
    pair = pairs_of(part, name, clip, torch.device(device), batch)[index]
    info: dict = {}
    with peak_memory(info, torch.device(device)):
        work = getattr(pair, side)()
        work()
        work()
    return float(info["peak_memory_mb"]) - held


def _give_back() -> None:
    """Return what the allocator hoards: former comparisons in this process leave no room beside it otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(
    part: str, name: str, clip: Clip, device: torch.device, batches: Sequence[int], repeats: int, skipped: dict
) -> Iterator[Ratio]:
    """The ratios of a part, as they come; `skipped` learns which batch sizes found no room, {"batch 4": reason}."""
    for batch in batches:
        if reason := no_room(part, name, clip, device, batch):
            skipped[f"batch {batch}"] = reason
            continue
        pairs = pairs_of(part, name, clip, device, batch)
        for index, pair in enumerate(pairs):
            yield compare(pair, repeats, device, batch)
            if pair.memory:
                yield compare_memory(part, index, name, clip, device, batch)
        if part == "models" and device.type == "cpu":
            yield compare_kept(name, clip, batch=batch)


def record_path(part: str, name: str, clip: Clip, device: torch.device) -> Path:
    """Where a part's record lies: one file a part, network, clip and device, so that none overwrites another."""
    of = part if part == "attention" else f"{name}-{'x'.join(map(str, clip))}-{part}"
    return records_dir("bench") / f"speed-{device.type}-{of}.json"


def main(argv: list[str] | None = None) -> int:
    """A line a comparison; --save keeps each part, once all of it is measured, with the machine's description.

    Why a part was left out is kept too, where no measurement of it is.
    """
    parser = argparse.ArgumentParser(prog="python -m cm3t.bench", description=main.__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="video_swin_b", choices=SIZES, help="default video_swin_b")
    parser.add_argument(
        "--clip", type=int, nargs=3, metavar=("T", "H", "W"), default=(32, 224, 224),
        help="default 32 224 224; windows shift in time only above 16 frames",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 4), help="default 1 4, where memory allows")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each; default 15")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all that this machine is made for")
    parser.add_argument("--save", action="store_true", help="write results/records/bench/speed-*.json, a file a part")
    given = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = tuple(given.clip)
    for part in given.parts or PARTS:
        found, skipped = [], {}
        if part in OPTIONS and (reason := left_out(part, device, asked=bool(given.parts))):
            skipped["all"] = reason
        batches = () if skipped else given.batch
        for ratio in measured(part, given.backbone, clip, device, batches, given.repeats, skipped):
            found.append(ratio)
            print(ratio, flush=True)
        for what, reason in skipped.items():
            print(f"{part}, {what}: left out, {reason}", flush=True)
        path = record_path(part, given.backbone, clip, device)
        if given.save and (found or not path.exists()):
            of = {} if part == "attention" else {"backbone": given.backbone, "clip": clip}
            about = {"part": part, **of, "device": device_name(device), "threads": torch.get_num_threads()}
            about |= {"ratios": [asdict(r) for r in found], "left_out": skipped}
            print(write_json(path, about | {"meta_info": provenance(device_name(device))}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

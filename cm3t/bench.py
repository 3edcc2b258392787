"""How fast the plugins and the attention are: `python -m cm3t.bench`, ratios against a reference in the same process.

A pair runs in turns, ours and the reference, so that a busy machine slows both; what is reported is the median of the
ratios of neighbours. Seconds depend on the machine, ratios much less: tests hold ratios only.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context

import torch
from torch import Tensor, nn
from torchvision.models import video as reference_models
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from cm3t import backbones
from cm3t.backbones.video_swin import WindowAttention3d
from cm3t.config import records_dir
from cm3t.model import create
from cm3t.records import provenance, write_json
from cm3t.training.machine import peak_memory

Work = Callable[[], None]
SIZES = ("video_swin_t", "video_swin_s", "video_swin_b")  # those that torchvision has too
ATTENTIONS = {  # stage of Video Swin-B at 16 x 224 x 224: (T, H, W), C, heads
    "stage 1": ((8, 56, 56), 128, 4),
    "stage 3": ((8, 14, 14), 512, 16),
}
OPTIONS = ("checkpointing", "bfloat16", "compile")  # of a training step, for plugins and for full fine-tuning
EQUAL = {"method": "adaptformer+pt", "reduction": 4, "match_cells": 2}  # one shared adapter of MHVA's parameters


@dataclass(frozen=True)
class Ratio:
    """One comparison. `ratio` is the reference's time (or memory) over ours: above 1, ours takes less."""

    what: str
    against: str
    measure: str  # "time" | "peak memory" | "kept activations"
    ratio: float
    low: float  # smallest and largest ratio of a pair
    high: float
    ours: float  # median seconds, or MB
    reference: float
    target: float | None  # the ratio aimed at
    n: int

    def __str__(self) -> str:
        unit, scale = ("ms", 1e3) if self.measure == "time" else ("MB", 1)
        aim = f", aim {self.target:.2f}" if self.target else ""
        return (
            f"{self.what:<42} {self.measure:<16} {self.ratio:5.2f}  ({self.low:.2f}-{self.high:.2f}, n={self.n}{aim})"
            f"  {self.ours * scale:9.1f} {unit} against {self.reference * scale:9.1f} {unit} of {self.against}"
        )


@dataclass(frozen=True)
class Pair:
    """Two pieces of work, each built anew and dropped after the comparison."""

    what: str
    against: str
    ours: Callable[[], Work]
    reference: Callable[[], Work]
    target: float | None = None
    memory_target: float | None = None  # None: peak memory is not compared


def attention_pairs(device: torch.device) -> list[Pair]:
    """Our window attention against torchvision's, with shifted windows: forward, step, and step with a frozen bias."""
    aims = {"forward": 1.2, "step, frozen": 1.0, "step, trained": 1.0}
    pairs = []
    for stage, (size, width, heads) in ATTENTIONS.items():
        x = torch.randn(1, *size, width, device=device)
        own = WindowAttention3d(width, window=(8, 7, 7), shift=(4, 3, 3), heads=heads).to(device)
        theirs = ShiftedWindowAttention3d(width, [8, 7, 7], [4, 3, 3], heads).to(device)
        for kind, aim in aims.items():
            works = [_attention_work(module, x, kind) for module in (own, theirs)]
            pairs.append(
                Pair(f"window attention, {stage}, {kind}", "torchvision", *(lambda w=w: w for w in works), aim)
            )
    return pairs


def model_pairs(name: str, clip: tuple[int, int, int], device: torch.device) -> list[Pair]:
    """Whole models: ours against torchvision's, MHVA + PT against an equal shared adapter and full fine-tuning."""
    video = torch.randn(1, 3, *clip, device=device)
    gpu = device.type == "cuda"

    def ours(step: bool) -> Callable[[], Work]:
        return lambda: _model_work(backbones.backbone(name, num_classes=400).to(device), video, step)

    def theirs(step: bool) -> Callable[[], Work]:
        build = getattr(reference_models, name.replace("video_swin", "swin3d"))
        return lambda: _model_work(build(weights=None).to(device), video, step)

    def adapted(**method) -> Callable[[], Work]:
        return lambda: _model_work(_adapted(name, clip, device, **method), video, step=True)

    plugins = adapted(method="mhva+pt")
    return [
        Pair(f"{name}, forward", "torchvision", ours(False), theirs(False), 1.5 if gpu else 1.2),
        Pair(f"{name}, step", "torchvision", ours(True), theirs(True), 1.3 if gpu else 1.0, 1 / 0.7 if gpu else None),
        Pair("MHVA + PT, step", "AdaptFormer + PT of equal parameters", plugins, adapted(**EQUAL), 1.0),
        Pair("MHVA + PT, step", "full fine-tuning", plugins, adapted(method="full"), 1 / 0.85, 1 / 0.75),
    ]


def all_pairs(name: str, clip: tuple[int, int, int], device: torch.device) -> list[Pair]:
    """`model_pairs`, then `option_pairs`: nothing is built before it is compared."""
    return model_pairs(name, clip, device) + option_pairs(name, clip, device)


def option_pairs(name: str, clip: tuple[int, int, int], device: torch.device) -> list[Pair]:
    """Training steps with checkpointing, bfloat16 or torch.compile, where the machine has it (`left_out` says why not).

    Two rows an option: MHVA + PT with it against itself without, and against full fine-tuning with it.
    """
    video = torch.randn(1, 3, *clip, device=device)

    def step(method: str, option: str | None) -> Callable[[], Work]:
        def build() -> Work:
            model = _adapted(name, clip, device, method=method)
            model.checkpointing = option == "checkpointing"
            whole = torch.compile(model) if option == "compile" else model
            return _model_work(whole, video, True, torch.bfloat16 if option == "bfloat16" else None)

        return build

    pairs = []
    for option in OPTIONS:
        if left_out(option, device):
            continue
        ours, what = step("mhva+pt", option), f"MHVA + PT, step, {option}"
        memory = 1.0 if option == "checkpointing" else None
        pairs.append(Pair(what, "itself without", ours, step("mhva+pt", None), None, memory))
        pairs.append(Pair(what, f"full fine-tuning, {option}", ours, step("full", option), 1 / 0.85))
    return pairs


def left_out(option: str, device: torch.device) -> str | None:
    """Why an option of OPTIONS is not measured on this machine; None where it is."""
    if option == "bfloat16" and device.type == "cuda":
        return "every row on a GPU is in bfloat16 already"
    if option == "bfloat16" and not torch.cpu._is_avx512_bf16_supported():
        return "this CPU has no bfloat16 instructions; emulated, it is slower than float32"
    if option == "compile" and device.type == "cpu":
        return "on a CPU compiling takes minutes, even of a mini model"
    if option == "compile" and find_spec("triton") is None:
        return "torch.compile needs triton on a GPU, and it is not installed"
    return None


def kept_bytes(model: nn.Module, video: Tensor) -> int:
    """Bytes that one forward pass of `video` (B, 3, T, H, W) keeps for its backward pass, parameters not counted.

    The same on every machine and at every load: what full fine-tuning needs memory for, and plugins less.
    """
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        _out = model(video)  # its graph, alive to the end, keeps every address from being used twice
    return sum(kept.values())


def compare_kept(name: str, clip: tuple[int, int, int], against: str = "full") -> Ratio:
    """Activations kept by a training step of the method `against` over those that MHVA + PT keeps; on the CPU."""
    video = torch.randn(1, 3, *clip)
    found = [
        kept_bytes(_adapted(name, clip, video.device, method=m).train(), video) / 2**20 for m in ("mhva+pt", against)
    ]
    label = "full fine-tuning" if against == "full" else against
    return _ratio("MHVA + PT, step", label, "kept activations", [tuple(found)], None)


def _adapted(name: str, clip: tuple[int, int, int], device: torch.device, **method) -> nn.Module:
    return create(name, heads={"action": 97}, weights=None, clip=clip, **method).to(device)


def _attention_work(module: nn.Module, x: Tensor, kind: str) -> Work:
    def work() -> None:
        module.requires_grad_(kind == "step, trained")
        with torch.set_grad_enabled(kind != "forward"):
            out = module(x.detach().requires_grad_(kind != "forward"))
        if kind != "forward":
            out.sum().backward()

    return work


def _model_work(model: nn.Module, video: Tensor, step: bool, dtype: torch.dtype | None = None) -> Work:
    """A forward pass, or a training step (AdamW over what trains); in `dtype`, or bfloat16 on a GPU, float32 else."""
    model.train(step)
    dtype = dtype or (torch.bfloat16 if video.is_cuda else None)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5) if step else None

    def work() -> None:
        with torch.set_grad_enabled(step), torch.autocast(video.device.type, dtype, dtype is not None):
            out = model(video)
            total = sum(o.float().logsumexp(-1).sum() for o in (out.values() if isinstance(out, dict) else [out]))
        if step:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

    return work


def compare(pair: Pair, repeats: int, device: torch.device) -> Ratio:
    """Times of a pair, in turns, after one warm-up each."""
    ours, reference = pair.ours(), pair.reference()
    times = [(_seconds(ours, device), _seconds(reference, device)) for _ in range(repeats + 1)][1:]
    return _ratio(pair.what, pair.against, "time", times, pair.target)


def compare_memory(name: str, clip: tuple[int, int, int], index: int, device: torch.device) -> Ratio:
    """Peak memory of pair `index` of `all_pairs`, each side in a process of its own (allocators hoard)."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = pool.starmap(_peak, [(name, clip, index, side, str(device)) for side in ("ours", "reference")], 1)
    pair = all_pairs(name, clip, device)[index]
    return _ratio(pair.what, pair.against, "peak memory", [tuple(found)], pair.memory_target)


def _ratio(what: str, against: str, measure: str, found: list[tuple[float, float]], target: float | None) -> Ratio:
    ratios = [theirs / own for own, theirs in found]
    own, theirs = (statistics.median(side) for side in zip(*found, strict=True))
    middle = statistics.median(ratios)
    return Ratio(what, against, measure, middle, min(ratios), max(ratios), own, theirs, target, len(found))


def _seconds(work: Work, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _peak(name: str, clip: tuple[int, int, int], index: int, side: str, device: str) -> float:
    """Peak memory in MB of two steps (the second holds the optimizer's state): of the GPU, else of this process."""
    pair = all_pairs(name, clip, torch.device(device))[index]
    info: dict = {}
    with peak_memory(info, torch.device(device)):
        work = getattr(pair, side)()
        work()
        work()
    return float(info["peak_memory_mb"])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(argv: list[str] | None = None) -> int:
    """A line a comparison; --save keeps them with the machine's description."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.bench", description=main.__doc__)
    parser.add_argument("--backbone", default="video_swin_b", choices=SIZES)
    parser.add_argument(
        "--clip", type=int, nargs=3, metavar=("T", "H", "W"), help="32 224 224 on a GPU, else 8 224 224"
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--attention", action="store_true", help="the attention alone, not whole models")
    parser.add_argument("--save", action="store_true", help="write results/records/bench/")
    given = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = tuple(given.clip or ((32 if device.type == "cuda" else 8), 224, 224))
    models = [] if given.attention else all_pairs(given.backbone, clip, device)
    jobs = [partial(compare, pair, given.repeats, device) for pair in attention_pairs(device) + models]
    heavy = [i for i, pair in enumerate(models) if pair.memory_target]
    jobs += [partial(compare_memory, given.backbone, clip, i, device) for i in heavy]
    jobs += [partial(compare_kept, given.backbone, clip)] if models else []
    skipped = {option: reason for option in OPTIONS if models and (reason := left_out(option, device))}
    for option, reason in skipped.items():
        print(f"{option}: left out, {reason}", flush=True)
    found = []
    for job in jobs:
        found.append(job())
        print(found[-1], flush=True)
    if given.save:
        about = {"backbone": given.backbone, "clip": clip, "threads": torch.get_num_threads()}
        about |= {"dtype": "bfloat16" if device.type == "cuda" else "float32"}
        path = records_dir("bench") / f"speed-{device.type}.json"
        write_json(
            path,
            about | {"ratios": [asdict(r) for r in found], "left_out": skipped, "meta_info": provenance(str(device))},
        )
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

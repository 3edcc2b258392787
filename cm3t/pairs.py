"""What `cm3t.bench` compares: pieces of work in pairs, ours and a reference, by part of the benchmark.

A part is whole or not measured: the window attention alone, whole models, and one option of a training step each.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import psutil
import torch
from torch import Tensor, nn
from torchvision.models import video as reference_models
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from cm3t import backbones
from cm3t.backbones.video_swin import WindowAttention3d
from cm3t.model import create

Work = Callable[[], None]
Clip = tuple[int, int, int]
SIZES = ("video_swin_t", "video_swin_s", "video_swin_b")  # those that torchvision has too
ATTENTIONS = {  # stage of Video Swin-B at 32 x 224 x 224, shifted along all three axes: (T, H, W), C, heads
    "stage 1": ((16, 56, 56), 128, 4),
    "stage 3": ((16, 14, 14), 512, 16),
}
OPTIONS = ("checkpointing", "bfloat16", "compile")  # of a training step, for plugins and for full fine-tuning
PARTS = ("attention", "models", *OPTIONS)
EQUAL = {"method": "adaptformer+pt", "reduction": 4, "match_cells": 2}  # one shared adapter of MHVA's parameters
FULL_TIME, FULL_MEMORY = 1 / 0.85, 1 / 0.75  # aims of plugins against full fine-tuning


@dataclass(frozen=True)
class Pair:
    """Two pieces of work, each built anew and dropped after the comparison."""

    what: str
    against: str
    ours: Callable[[], Work]
    reference: Callable[[], Work]
    dtype: str  # of the arithmetic; a GPU's is bfloat16 by autocast, weights stay float32
    target: float | None = None
    memory: bool = False  # is peak memory compared too?
    memory_target: float | None = None


def pairs_of(part: str, name: str, clip: Clip, device: torch.device, batch: int = 1) -> list[Pair]:
    """The pairs of one of PARTS for `batch` clips: nothing is built before it is compared."""
    if part == "attention":
        return attention_pairs(device, batch)
    if part == "models":
        return model_pairs(name, clip, device, batch)
    return option_pairs(part, name, clip, device, batch)


def attention_pairs(device: torch.device, batch: int = 1) -> list[Pair]:
    """Our window attention against torchvision's, with shifted windows: forward, step, and step with a frozen bias."""
    gpu, pairs = device.type == "cuda", []
    aims = {"forward": 1.5 if gpu else 1.2} | dict.fromkeys(("step, frozen", "step, trained"), 1.3 if gpu else 1.0)
    for stage, (size, width, heads) in ATTENTIONS.items():

        def work(ours: bool, kind: str, size=size, width=width, heads=heads) -> Work:
            window, shift = (8, 7, 7), (4, 3, 3)
            if ours:
                module = WindowAttention3d(width, window=window, shift=shift, heads=heads)
            else:
                module = ShiftedWindowAttention3d(width, list(window), list(shift), heads)
            x = torch.randn(batch, *size, width, device=device)
            return _attention_work(module.to(device), x, kind, arithmetic(device))

        for kind, aim in aims.items():
            sides = (partial(work, ours, kind) for ours in (True, False))
            pairs.append(Pair(f"window attention, {stage}, {kind}", "torchvision", *sides, arithmetic(device), aim))
    return pairs


def model_pairs(name: str, clip: Clip, device: torch.device, batch: int = 1) -> list[Pair]:
    """Whole models: ours against torchvision's, MHVA + PT against an equal shared adapter and full fine-tuning."""
    gpu, dtype = device.type == "cuda", arithmetic(device)

    def whole(ours: bool, step: bool) -> Work:
        if ours:
            model = backbones.backbone(name, num_classes=400)
        else:
            model = getattr(reference_models, name.replace("video_swin", "swin3d"))(weights=None)
        return _model_work(model.to(device), _video(batch, clip, device), step)

    def adapted(**method) -> Work:
        return _model_work(_adapted(name, clip, device, **method), _video(batch, clip, device), step=True)

    forward, step = ([partial(whole, ours, trains) for ours in (True, False)] for trains in (False, True))
    plugins, equal, full = (partial(adapted, **m) for m in ({"method": "mhva+pt"}, EQUAL, {"method": "full"}))
    return [
        Pair(f"{name}, forward", "torchvision", *forward, dtype, 1.5 if gpu else 1.2),
        Pair(f"{name}, step", "torchvision", *step, dtype, 1.3 if gpu else 1.0, True, 1 / 0.7 if gpu else None),
        Pair("MHVA + PT, step", "AdaptFormer + PT of equal parameters", plugins, equal, dtype, 1.0),
        Pair("MHVA + PT, step", "full fine-tuning", plugins, full, dtype, FULL_TIME, True, FULL_MEMORY),
    ]


def option_pairs(option: str, name: str, clip: Clip, device: torch.device, batch: int = 1) -> list[Pair]:
    """Training steps with one of OPTIONS: MHVA + PT against itself without it, and against full fine-tuning with it."""

    def step(method: str, option: str | None) -> Work:
        model = _adapted(name, clip, device, method=method)
        model.checkpointing = option == "checkpointing"
        whole = torch.compile(model) if option == "compile" else model
        half = torch.bfloat16 if option == "bfloat16" else None
        return _model_work(whole, _video(batch, clip, device), True, half)

    what, dtype = f"MHVA + PT, step, {option}", arithmetic(device)
    dtype = "bfloat16" if option == "bfloat16" else dtype
    with_it, without, full = (
        partial(step, *given) for given in (("mhva+pt", option), ("mhva+pt", None), ("full", option))
    )
    return [
        Pair(what, "itself without", with_it, without, dtype, memory=True),
        Pair(what, f"full fine-tuning, {option}", with_it, full, dtype, FULL_TIME, True, FULL_MEMORY),
    ]


def arithmetic(device: torch.device) -> str:
    """The number format that works compute in on a device where no option says otherwise."""
    return "bfloat16" if device.type == "cuda" else "float32"


def left_out(option: str, device: torch.device, asked: bool = False) -> str | None:
    """Why an option of OPTIONS is not measured on this machine, unless `asked` for by name; None where it is."""
    if option == "bfloat16" and device.type == "cuda":
        return "every row on a GPU is in bfloat16 already"
    if option == "bfloat16" and not (asked or torch.cpu._is_avx512_bf16_supported()):
        return (
            "this CPU has no bfloat16 instructions, so that it is emulated; `--parts bfloat16` measures it all the same"
        )
    if option == "compile" and device.type == "cuda" and find_spec("triton") is None:
        return "torch.compile needs triton on a GPU, and it is not installed"
    if option == "compile" and device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile needs a C++ compiler on a CPU, and none is installed"
    if option == "compile" and device.type == "cpu" and not asked:
        return "left open on a CPU: compiling a whole model takes long; `--parts compile` measures it"
    return None


def no_room(part: str, name: str, clip: Clip, device: torch.device, batch: int) -> str | None:
    """Why a part of `batch` clips does not fit this machine's memory; None where the hungriest side does.

    The hungriest is torchvision's training step, which keeps every softmax; what it keeps is counted on the meta device
    in float32. Choice: a third on top for what a step needs for moments, and 0.6 of it in bfloat16.
    """
    if part == "attention":
        size, width, heads = ATTENTIONS["stage 1"]
        with torch.device("meta"):
            model = ShiftedWindowAttention3d(width, [8, 7, 7], [4, 3, 3], heads)
            kept = kept_bytes(model, torch.empty(1, *size, width)) * batch
    else:
        with torch.device("meta"):
            model = getattr(reference_models, name.replace("video_swin", "swin3d"))(weights=None)
            kept = kept_bytes(model, torch.empty(1, 3, *clip)) * batch
    needed = 4 * sum(p.nbytes for p in model.parameters()) + kept * 4 / 3 * (0.6 if device.type == "cuda" else 1)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        return f"a step of {batch} needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} are free"
    return None


def kept_bytes(model: nn.Module, video: Tensor) -> int:
    """Bytes that one forward pass of `video` (B, 3, T, H, W) keeps for its backward pass, parameters not counted.

    The same on every machine and at every load: what full fine-tuning needs memory for, and plugins less.
    """
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes(), storage  # held, so that no address is used twice
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        out = model(video)
    del out
    return sum(size for size, _ in kept.values())


def adapted_kept(name: str, clip: Clip, method: str, batch: int = 1) -> int:
    """`kept_bytes` of a training step's forward pass of `batch` clips by a method; on the CPU."""
    device = torch.device("cpu")
    return kept_bytes(_adapted(name, clip, device, method=method).train(), _video(batch, clip, device))


def _video(batch: int, clip: Clip, device: torch.device) -> Tensor:
    return torch.randn(batch, 3, *clip, device=device)


def _adapted(name: str, clip: Clip, device: torch.device, **method) -> nn.Module:
    return create(name, heads={"action": 97}, weights=None, clip=clip, **method).to(device)


def _attention_work(module: nn.Module, x: Tensor, kind: str, dtype: str) -> Work:
    """A forward pass of maps (B, T, H, W, C), or forward and backward; in bfloat16 by autocast, or in float32."""
    module.requires_grad_(kind == "step, trained").train(kind != "forward")

    def work() -> None:
        step = kind != "forward"
        with torch.set_grad_enabled(step), torch.autocast(x.device.type, torch.bfloat16, dtype == "bfloat16"):
            out = module(x.detach().requires_grad_(step))
        if step:
            out.float().sum().backward()

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

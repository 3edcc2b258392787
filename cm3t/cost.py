"""What a method costs: parameters, the trained share, and multiply-accumulates, counted on the meta device."""

import argparse
import json
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from cm3t.backbones import NAMES
from cm3t.coerce import coerce
from cm3t.config import records_dir
from cm3t.methods import CROSS, Method
from cm3t.model import CM3T, count, create
from cm3t.records import provenance, write_json

Tokens = tuple[int, int]  # L side tokens, d_m wide
COUNTED = "one clip, one view"  # published figures are often of several
METHODS = ("linear", "adaptformer", "adaptformer+pt", "pt", "mhva", "mhva+pt", "full")


@dataclass(frozen=True)
class Cost:
    """The cost of one method on one backbone, heads never counted."""

    backbone: str
    method: str
    clip: tuple[int, int, int]  # T, H, W in pixels
    params: int  # backbone and plugins
    trainable: int  # of them, trained
    share: float  # trained over `reference`, a fraction
    reference: int  # parameters of the backbone with the classifier it was pretrained with
    denominator: str  # what `reference` is, in words
    macs: int  # multiply-accumulates of one clip, one view, forward
    modalities: tuple[str, ...] = ()  # beside the pictures

    def __str__(self) -> str:
        joined = f" with {', '.join(self.modalities)}" if self.modalities else ""
        if not joined and set(self.method.split("+")) & set(CROSS):
            joined = ", no modality (side=...)"
        params, trained = (f"{n / 1e6:.2f} M" for n in (self.params, self.trainable))
        return (
            f"{self.backbone}, {self.method}{joined}: {params} parameters, {trained} trained = {100 * self.share:.1f} "
            f"% of {self.denominator}; {self.macs / 1e9:.1f} GMACs at {' x '.join(map(str, self.clip))}, {COUNTED}"
        )


def cost_of(
    backbone: str,
    *,
    method: Method | str = "linear",
    clip: tuple[int, int, int] | None = None,
    side: Mapping[str, Tokens] | None = None,
    **overrides,
) -> Cost:
    """Cost of `method` on a backbone, by name, for a clip of (T, H, W) or (3, T, H, W) pixels; no memory is used.

    `side` gives each modality's tokens, {name: (L, d_m)}, embedded already: no side encoder is counted, as in the
    paper; without any, a method that joins modalities costs what its vision does. `overrides` as in `cm3t.create`. The
    method `linear` is the frozen backbone alone. ValueError for tokens that are no such pair.

    Paper: Table 1 prints "GFLOPs"; its 282 for the backbone of Video Swin-B are multiply-accumulates, so those are
    counted here. The column as a whole mixes protocols and cannot be reproduced; nothing is tuned to it.
    Choice: torch's own counter, halved: matrix products, convolutions and attention; norms, activations and sums are
    not counted.
    """
    model = _on_meta(backbone, method, clip, side, overrides)
    clip = tuple(clip[-3:]) if clip else tuple(model.backbone.clip)
    summary = model.summary()
    return Cost(
        backbone=backbone,
        method=model.method.name,
        clip=clip,
        params=count(model.backbone) + sum(n for part, n in summary.parts.items() if part != "backbone"),
        trainable=summary.trainable,
        share=summary.share,
        reference=summary.reference,
        denominator=summary.denominator,
        macs=macs_of(model, clip, side),
        modalities=model.modalities,
    )


def by_stage(
    backbone: str, *, method: Method | str = "mhva+pt", side: Mapping[str, Tokens] | None = None, **overrides
) -> list[dict]:
    """Where parameters sit: a row a stage, {width, blocks, backbone, MHVA, PT, audio, ..., fusion: parameters}.

    A stage is a run of blocks of one width; a plain transformer has one. Embedding, patch merging and the last norm
    belong to no block and are left out. Arguments as in `cost_of`.
    """
    model, rows = _on_meta(backbone, method, None, side, overrides), []
    for i, (width, block) in enumerate(zip(model.backbone.widths, model.backbone.blocks, strict=True)):
        if not rows or rows[-1]["width"] != width:
            rows.append({"width": width, "blocks": 0} | dict.fromkeys(("backbone", "MHVA", "PT", *model.side), 0))
            rows[-1] |= {"fusion": 0} if model.fusion else {}
        parts = {"backbone": block}
        parts |= {"MHVA": model.adapters[i]} if model.adapters else {}
        parts |= {"PT": model.prefixes[i]} if model.prefixes else {}
        crosses = {name: one.cross for name, one in model.side.items()} | {"fusion": model.fusion}
        parts |= {name: blocks[str(i)] for name, blocks in crosses.items() if str(i) in blocks}
        rows[-1]["blocks"] += 1
        for name, part in parts.items():
            rows[-1][name] += count(part)
    return rows


def _on_meta(backbone: str, method: Method | str, clip: tuple | None, side: Mapping | None, overrides: Mapping) -> CM3T:
    """The model without memory, its modalities without encoders."""
    _check_side(side)
    with torch.device("meta"):
        model = create(backbone, method=method, clip=clip and tuple(clip[-3:]), **overrides).eval()
        for name, (_, width) in (side or {}).items():
            model.add_modality(name, width=width, encoder=None)
    return model


def _check_side(side: Mapping[str, Tokens] | None) -> None:
    """ValueError, with an example, for side tokens that are not {name: (L, d)}."""
    for name, shape in dict(side or {}).items():
        pair = isinstance(shape, Sequence) and len(shape) == 2
        if not pair or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(
                f"side={{{name!r}: {shape!r}}}: give (L, d), how many tokens and how wide, such as "
                f"side={{{name!r}: (32, 1024)}}"
            )


@torch.no_grad()
def macs_of(model: CM3T, clip: tuple[int, int, int], side: Mapping[str, Tokens] | None = None) -> int:
    """Multiply-accumulates of the features of one clip of (T, H, W) pixels, with side tokens {name: (L, d)}."""
    with FlopCounterMode(display=False) as counter:
        model.features(*_inputs(model, clip, side))
    return counter.get_total_flops() // 2


def _inputs(model: CM3T, clip: tuple[int, int, int], side: Mapping[str, Tokens] | None) -> tuple:
    """A clip (1, 3, T, H, W) and its side tokens {name: (1, L, d)}, zeros where the model is."""
    device = next(model.parameters()).device
    tokens = {name: torch.zeros(1, *shape, device=device) for name, shape in (side or {}).items()}
    return torch.zeros(1, 3, *clip, device=device), tokens


@torch.no_grad()
def fvcore_macs(
    model: CM3T, clip: tuple[int, int, int], side: Mapping[str, Tokens] | None = None, *, corrected: bool = True
) -> Counter[str]:
    """The same by fvcore, {operation: multiply-accumulates}: the counter behind most published figures.

    It runs the model, so the weights must be real (its tracer cannot follow a 3-D convolution on the meta device).
    As it comes (`corrected` false) fvcore misses fused attention, counts norms, and takes an einsum for a little more
    than its products; so corrected, it equals `macs_of`.
    """
    video, tokens = _inputs(model, clip, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore traces with torch.jit, which says at length that it is deprecated
        from fvcore.nn import FlopCountAnalysis

        counter = FlopCountAnalysis(_Features(model, tokens), video).unsupported_ops_warnings(False)
        counter.uncalled_modules_warnings(False).tracer_warnings("none")
        if corrected:
            counter.set_op_handle("aten::scaled_dot_product_attention", _attention_macs, "aten::einsum", _einsum_macs)
        found = counter.by_operator()
    return Counter({name: int(n) for name, n in found.items() if not (corrected and name.endswith("_norm"))})


class _Features(torch.nn.Module):
    """A module whose forward is the model's features, as fvcore wants one."""

    def __init__(self, model: CM3T, side: dict[str, torch.Tensor]):
        super().__init__()
        self.model, self.side = model, side

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Video (1, 3, T, H, W) -> features (1, D)."""
        return self.model.features(video, self.side)


def _attention_macs(inputs: list, outputs: list) -> int:
    """Both matrix products of softmax(Q K^T) V: (..., N, d), (..., M, d), (..., M, e)."""
    (*batch, n, d), (*_, m, _), (*_, e) = (value.type().sizes() for value in inputs[:3])
    return math.prod(batch) * n * m * (d + e)


def _einsum_macs(inputs: list, outputs: list) -> int:
    """One multiply-accumulate for every combination of the indices of a product of two."""
    terms = inputs[0].toIValue().replace(" ", "").split("->")[0].split(",")
    shapes = [value.type().sizes() for value in inputs[1].node().inputs()]
    sizes = {
        letter: size
        for term, shape in zip(terms, shapes, strict=True)
        for letter, size in zip(term, shape, strict=True)
    }
    return math.prod(sizes.values())


SIDE = {"audio": (32, 1024), "flow": (32, 1024)}  # Choice: 1024 wide embeddings print the paper's shares
SIZED = {  # what the published budget is about: name in the records, backbone, clip
    **{name: (name, (32, 224, 224)) for name in ("video_swin_t", "video_swin_s", "video_swin_b", "video_swin_b_ssv2")},
    "vivit_b": ("vivit_b", (32, 224, 224)),
    "mtv_b": ("mtv_b", (32, 224, 224)),
    **{name: (name, (8, 224, 224)) for name in ("clip_b", "vit_b")},
    **{f"clip_b, {frames} frames": ("clip_b", (frames, 224, 224)) for frames in (16, 24, 32)},
}
JOINED = ("mhva+pt+caa", "full+caa", "mhva+pt+mmca", "mhva+pt+late")  # with one modality of SIDE, and with two
BRIEF = {f"clip_b, {frames} frames": ("linear", "mhva+pt") for frames in (16, 24)}  # of which no more is published


def budget() -> list[dict]:
    """Every method on every full-size backbone, rows of `Cost` with name and label ("mhva+pt+caa, 2")."""
    rows = []
    for name, (backbone, clip) in SIZED.items():
        asked = [("frozen" if method == "linear" else method, method, 0) for method in BRIEF.get(name, METHODS)]
        asked += [(f"{method}, {n}", method, n) for method in JOINED for n in (1, 2) if name not in BRIEF]
        for label, method, modalities in asked:
            side = dict(list(SIDE.items())[:modalities])
            cost = asdict(cost_of(backbone, method=method, clip=clip, side=side))
            cost.pop("modalities", None)  # the label tells
            rows.append({"name": name, "label": label} | cost)
    return rows


def main(argv: list[str] | None = None) -> None:
    """What methods cost on a backbone: parameters, the trained share, multiply-accumulates of one clip, one view."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.cost", description=main.__doc__)
    parser.add_argument("--backbone", choices=NAMES, default="video_swin_b", help="what stays frozen (video_swin_b)")
    parser.add_argument("--method", nargs="+", metavar="WORDS", help="mhva+pt, or several; left out: the usual ones")
    parser.add_argument("--clip", metavar="T,H,W", help="in pixels; left out: the backbone's own")
    parser.add_argument("--side", nargs="+", metavar="NAME=L,D", help="tokens of modalities: audio=32,1024")
    parser.add_argument("--json", action="store_true", help="print JSON in the place of a table")
    parser.add_argument("--save", action="store_true", help="write results/records/cost/budget.json, all that it holds")
    given = parser.parse_args(argv)
    if given.save:
        print(write_json(records_dir("cost") / "budget.json", {"rows": budget(), "meta_info": provenance("meta")}))
        return
    try:
        pairs = [word.partition("=")[::2] for word in given.side or ()]
        side = {name: coerce(f"--side {name}", shape, "tuple[int,...]") for name, shape in pairs}
        clip = coerce("--clip", given.clip, "tuple[int,...]") if given.clip else None
        methods = given.method or (JOINED if side else METHODS)
        costs = [cost_of(given.backbone, method=method, clip=clip, side=side) for method in methods]
    except ValueError as error:
        parser.error(str(error))
    rows = [asdict(cost) | {"counted": COUNTED} for cost in costs]
    print(json.dumps(rows, indent=1) if given.json else "\n".join(map(str, costs)))


if __name__ == "__main__":
    main()

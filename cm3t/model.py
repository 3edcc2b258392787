"""CM3T: a frozen backbone, plugins beside its branches, classifier heads. Figure 2 is `features`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cm3t import __version__, backbones, plugin_file
from cm3t.backbones import contract
from cm3t.backbones.weights import WeightsError, misfits
from cm3t.methods import AdapterSpec, Method, PrefixSpec, parse_method
from cm3t.plugins import MultiHeadVisionAdapter, ParallelAdapter, PrefixTuning, admissible_cells


class CM3T(nn.Module):
    """A backbone adapted by plugins: video (B, 3, T, H, W), normalised float -> {head: logits (B, n)}.

    Each block is, Figure 2 from left to right, attention (+) prefix, then MLP (+) s * adapter:
        x <- x + Attn(norm1 x; P_k, P_v),    x <- x + MLP(z) + s A(z),    z = norm2 x

    backbone  an instance of the contract (`cm3t.backbone(name)`)
    method    a `cm3t.config.Method`, or its words ("mhva+pt"): what is attached and what trains
    heads     classifiers on the pooled features, {name: classes}
    clip      (T, H, W) of the clips to come, if not the backbone's own: it decides where MHVA's cells fit

    Paper: Sec. 3.2, Figure 2. Step 0 of MHVA and AdaptFormer is the frozen backbone, bit for bit.
    Choice: MHVA has g x g cells where g divides the map's sides, else one (the paper's Swin-B at 224: 2, 2, 2, 1 by
    stage, the last map being a single window). A backbone that is frozen stays in eval mode (`train()` keeps it), and
    a stem's batch norms stay so in every method. Heads, of which the text says nothing, are linear and start small,
    N(0, 0.02^2); they are drawn before the plugins, so that with one seed every method starts from the same heads.

    Raises ValueError where the cells divide no block's map, ContractError where the backbone cannot take the
    plugins.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: Method | str,
        heads: Mapping[str, int] | None = None,
        *,
        head_dropout: float = 0.0,
        clip: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.method = parse_method(method) if isinstance(method, str) else method
        contract.check(backbone, prefixes=self.method.prefix is not None)
        self.backbone = backbone
        self.frozen = self.method.trains in ("head", "plugins")
        backbone.requires_grad_(not self.frozen)
        self.heads = nn.ModuleDict({name: _head(backbone.width, n) for name, n in (heads or {}).items()})
        self.head_dropout = head_dropout
        self.adapters, self.prefixes = nn.ModuleList(), nn.ModuleList()
        if self.method.adapter is not None:
            self.adapters = _adapters(backbone, self.method.adapter, clip or backbone.clip)
        if self.method.prefix is not None:
            self.prefixes = _prefixes(backbone, self.method.prefix)
        self._enabled = True
        self.train()

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        """Video (B, 3, T, H, W) -> {head: logits (B, n)}."""
        features = F.dropout(self.features(video), self.head_dropout, self.training)
        return {name: head(features) for name, head in self.heads.items()}

    def features(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> pooled features (B, D): Figure 2, block by block."""
        if not video.is_floating_point():
            raise TypeError(f"video is {video.dtype}; hand in normalised floats (cm3t.data.clip.normalise)")
        x = self.backbone.embed(video)
        for i, block in enumerate(self.backbone.blocks):
            x = self.backbone.advance(i, x)
            prefix = self.prefixes[i](block.attn.project_prefix) if self.prefixes and self._enabled else None
            x = x + block.attention(x, prefix)
            z, mlp = block.feedforward(x)
            if self.adapters and self._enabled:
                mlp = mlp + self.adapters[i](x if self.method.adapter.input == "raw" else z)
            x = x + mlp
        return self.backbone.pool(x)

    def train(self, mode: bool = True) -> "CM3T":
        """Training mode for what trains: a frozen backbone and all batch norms stay in eval mode."""
        super().train(mode)
        for module in self.backbone.modules():
            if self.frozen or isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self

    @contextmanager
    def disabled(self) -> Iterator["CM3T"]:
        """Without the plugins: features equal the backbone's, bit for bit. Heads still apply."""
        before, self._enabled = self._enabled, False
        try:
            yield self
        finally:
            self._enabled = before

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """What trains, by name, heads included."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def summary(self) -> "Summary":
        """Parameters by part and their share of the backbone; `print` it."""
        parts = {}
        if not self.frozen:
            parts["backbone"] = count(self.backbone)
        if self.adapters:
            split = any(len(adapter.down) > 1 for adapter in self.adapters)
            parts["MHVA" if split else "parallel adapter"] = count(self.adapters)
        if self.prefixes:
            parts["prefix tuning"] = count(self.prefixes)
        parameters, denominator = reference_parameters(self.backbone)
        names = self.backbone.name, self.method.name
        return Summary(*names, parts, count(self.heads), parameters, denominator)

    def plugin_state_dict(self) -> dict[str, Tensor]:
        """What training made: plugins and heads, and the backbone too where the method trains it."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not (self.frozen and k.startswith("backbone."))}

    def load_plugin_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a `plugin_state_dict()`, strictly: WeightsError lists every key that does not fit."""
        own = self.plugin_state_dict()
        problems = misfits(own, state)
        if problems:
            raise WeightsError(self._misfit(f"{len(problems)} keys", problems))
        self.load_state_dict(dict(state), strict=False)

    def save_plugins(self, path: str | Path) -> Path:
        """Write plugins and heads as safetensors with their description; whole or not at all."""
        about = self._description() | {"backbone_digest": self.backbone_digest() if self.frozen else None}
        return plugin_file.write(Path(path), self.plugin_state_dict(), about)

    def load_plugins(self, path: str | Path, *, check_weights: bool = True) -> None:
        """Load a file of `save_plugins`: strict, and refused for another backbone, method or set of heads.

        `check_weights=False` accepts a backbone of the right name whose weights differ from those trained on.
        """
        about, tensors = plugin_file.read(Path(path))
        own = self._description()
        problems = [
            f"{key} is {json.dumps(about.get(key))} in the file, {json.dumps(own[key])} here"
            for key in ("backbone", "method", "heads")
            if about.get(key) != own[key]
        ]
        if self.frozen and check_weights and not problems and about["backbone_digest"] != self.backbone_digest():
            problems = ["it was trained on other weights of this backbone (check_weights=False loads anyway)"]
        if problems:
            raise WeightsError(self._misfit(str(path), problems))
        self.load_plugin_state_dict(tensors)

    def backbone_digest(self) -> str:
        """Digest of the backbone's parameters and buffers: unchanged by training where it is frozen."""
        return plugin_file.state_digest(self.backbone)

    def _misfit(self, what: str, problems: list[str]) -> str:
        here = f"{self.backbone.name} with method {self.method.name!r}"
        return f"{what}: no fit for {here}\n  " + "\n  ".join(problems)

    def _description(self) -> dict:
        heads = {name: head.out_features for name, head in self.heads.items()}
        names = {"cm3t": __version__, "backbone": self.backbone.name}
        return names | {"method": asdict(self.method), "heads": heads}


def create(
    backbone: str,
    *,
    method: Method | str = "mhva+pt",
    heads: Mapping[str, int] | None = None,
    weights: str | Path | None = None,
    head_dropout: float = 0.0,
    clip: tuple[int, int, int] | None = None,
    **overrides,
) -> CM3T:
    """A CM3T model by names: `create("video_swin_b", method="mhva+pt", heads={"verb": 97, "noun": 300})`.

    `weights` as in `cm3t.backbone`; the method `scratch` ignores them. `overrides` are `parse_method`'s:
    cells, bottleneck, reduction, scale, learnable_scale, adapter_input, prefix_length, activation.
    """
    chosen = parse_method(method, **overrides) if isinstance(method, str) else method
    weights = None if chosen.trains == "scratch" else weights
    frozen = backbones.backbone(backbone, weights=weights)
    return CM3T(frozen, chosen, heads, head_dropout=head_dropout, clip=clip)


def _head(width: int, classes: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def _adapters(backbone: nn.Module, spec: AdapterSpec, clip: tuple[int, int, int]) -> nn.ModuleList:
    """One adapter a block."""
    cells = cells_of(backbone, spec.match_cells or spec.cells, clip)
    options = dict(scale=spec.scale, learnable_scale=spec.learnable_scale, dropout=spec.dropout)
    adapters = nn.ModuleList()
    for width, g in zip(backbone.widths, cells, strict=True):
        r = spec.width(width)
        if spec.cells == 1:
            adapters.append(ParallelAdapter(width, matched(width, r, g), **options))
        else:
            adapters.append(MultiHeadVisionAdapter(width, r, cells=g, **options))
    return adapters


def matched(width: int, bottleneck: int, cells: int) -> int:
    """The r with which one shared adapter comes nearest to the parameters of MHVA's cells * cells adapters.

    h (2 C r + r + C) = 2 C r' + r' + C with h = cells * cells: a little more than h r, for the cells' own biases.
    """
    parameters = cells**2 * (2 * width * bottleneck + bottleneck + width)
    return round((parameters - width) / (2 * width + 1))


def _prefixes(backbone: nn.Module, spec: PrefixSpec) -> nn.ModuleList:
    length = spec.length or backbone.prefix_length
    options = dict(activation=spec.activation, dropout=spec.dropout)
    return nn.ModuleList(PrefixTuning(width, length, **options) for width in backbone.widths)


def map_sides(backbone: nn.Module, clip: tuple[int, int, int]) -> list[tuple[int, int]]:
    """(H, W) of the token map that each block reads, for clips of (T, H, W) pixels. Runs no block."""
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    with torch.no_grad():
        x = backbone.embed(torch.zeros(1, 3, *clip, device=device))
        sides = []
        for i in range(len(backbone.blocks)):
            x = backbone.advance(i, x)
            sides.append(tuple(x.shape[2:4]))
    backbone.train(training)
    return sides


def cells_of(backbone: nn.Module, cells: int, clip: tuple[int, int, int]) -> list[int]:
    """MHVA's cells per side in each block: `cells` where it divides the map's sides, else 1.

    Raises ValueError where that would leave no block with more than one cell.
    """
    if cells == 1:
        return [1] * len(backbone.blocks)
    sides = map_sides(backbone, clip)
    chosen = [cells if cells in admissible_cells(*side) else 1 for side in sides]
    if max(chosen) == 1:
        maps = "; ".join(f"{h} x {w} by {admissible_cells(h, w)}" for h, w in dict.fromkeys(sides))
        raise ValueError(f"cells={cells} divides no token map of {backbone.name}; they divide so: {maps}")
    return chosen


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def reference_parameters(backbone: nn.Module) -> tuple[int, str]:
    """What a trainable share is a share of, and its name: the backbone with its pretraining classifier.

    Paper: only with its 400-class head does Swin-B (88,048,984) print the published percentages.
    Choice: every backbone says how many classes it was pretrained on (`source_classes`).
    """
    own = getattr(backbone, "head", None)
    if isinstance(own, nn.Linear):
        return count(backbone), f"{backbone.name} with its {own.out_features}-class head"
    classes = backbone.source_classes
    return count(backbone) + (backbone.width + 1) * classes, f"{backbone.name} with its {classes}-class head"


@dataclass(frozen=True)
class Summary:
    """Trained parameters by part and their share of the backbone. Heads are listed but never in the share.

    Choice: full fine-tuning is 100 % by definition, as in the paper, though its pretraining head is replaced.
    """

    backbone: str
    method: str
    parts: dict[str, int]
    heads: int
    reference: int
    denominator: str

    @property
    def trainable(self) -> int:
        """Trained parameters without heads."""
        return sum(self.parts.values())

    @property
    def share(self) -> float:
        """Trained parameters without heads, as a fraction of the reference."""
        plugins = sum(n for name, n in self.parts.items() if name != "backbone")
        return plugins / self.reference + ("backbone" in self.parts)

    def __str__(self) -> str:
        title = f"{self.backbone}, method {self.method}"
        title += f"; share of {self.denominator} ({self.reference:,} parameters)"
        rows = [(name, n, f"{100 * n / self.reference:5.1f} %") for name, n in self.parts.items()]
        rows.append(("trained, without heads", self.trainable, f"{100 * self.share:5.1f} %"))
        rows.append(("heads", self.heads, ""))
        return "\n".join([title, *(f"  {name:<24}{n:>14,}  {share}".rstrip() for name, n, share in rows)])

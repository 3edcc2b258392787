"""A side modality as one plugin: its encoder, its place in every block, its classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from cm3t.assembly.summary import HEADS
from cm3t.coerce import nearest
from cm3t.plugins import pool_tokens, side_encoder
from cm3t.words import kind_of

STAGES = ("all", "vision", "cross", "fusion")
RESERVED = (*STAGES, "video", "side", *HEADS)  # what names in a model's state, and of controls, are told apart by


@dataclass(frozen=True)
class ModalitySpec:
    """What comes in, and what is made of it."""

    width: int  # d of the incoming tokens
    length: int | None = None  # the most tokens of a clip; None: any number
    encoder: str | None = None  # None | linear | transformer
    embed: int = 64  # e of an encoder's tokens

    def __post_init__(self):
        for name in ("width", "embed") + ("length",) * (self.length is not None):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"a modality's {name} must be an integer of at least 1; got {value!r}")
            object.__setattr__(self, name, int(value))  # numpy's too, which no file could hold

    @property
    def tokens(self) -> int:
        """d_m: the width of the tokens that vision attends to."""
        return self.width if self.encoder is None else self.embed


@dataclass(frozen=True)
class Heard:
    """A modality in one batch: encoded tokens (B, L, d_m) and which samples have it, bool (B,)."""

    tokens: Tensor
    present: Tensor


class Modality(nn.Module):
    """One side modality; shapes (B, L, d) -> tokens (B, L', d_m).

    cross        a cross-attention adapter a block, by the block's number
    projection   of sequential cross-attention alone: to the width that all modalities share
    classifiers  of late fusion alone: heads on the modality's mean token; zero at the start
    heads        a copy of the classifiers on the features, made when the modality is trained by itself
    mean, spread of the d channels in training, which `calibrate` finds (in no count of parameters); 0 and 1 before, so
                 that tokens stay as they are
    """

    def __init__(self, spec: ModalitySpec):
        super().__init__()
        self.spec = spec
        self.encoder = side_encoder(spec.encoder, width=spec.width, embed=spec.embed, length=spec.length)
        self.cross, self.classifiers, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.projection: nn.Module | None = None
        self.register_buffer("mean", torch.zeros(spec.width))
        self.register_buffer("spread", torch.ones(spec.width))

    @torch.no_grad()
    def calibrate(self, tokens: Tensor) -> None:
        """Learn what the training tokens (n, L, d) have in common: the mean and the spread of each channel.

        Choice: the text speaks of features and not of their scale. Most of a log-mel spectrogram is a profile that all
        clips share; a layer norm leaves it in place, and what tells clips apart hardly reaches the keys. A channel that
        hardly varies is not blown up: no spread is taken as less than a tenth of the channels' mean.
        Errors: ValueError for tokens of another shape or width, none at all, and NaN or infinity among them.
        """
        if tokens.ndim != 3 or not tokens.numel() or tokens.shape[-1] != self.spec.width:
            got = tuple(tokens.shape)
            raise ValueError(
                f"calibrate takes training tokens (n, L, {self.spec.width}), at least one; got shape {got}"
            )
        if not tokens.isfinite().all():
            clips = (~tokens.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"calibrate: {len(clips)} of {len(tokens)} clips hold NaN or infinity (first: {clips[0]}); leave out "
                "clips that lack the modality, and mend the others"
            )
        variance, mean = torch.var_mean(tokens.float(), dim=(0, 1), correction=0)
        spread = variance.sqrt()
        floor = 0.1 * spread.mean()
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(floor > 0, spread.clamp(min=floor), 1.0))

    def project_to(self, width: int) -> None:
        """Add the projection to the width that all modalities share."""
        self.projection = nn.Sequential(nn.LayerNorm(self.spec.tokens), nn.Linear(self.spec.tokens, width))

    def classify(self, heads: nn.ModuleDict) -> None:
        """Add classifiers of the mean token for the same classes as `heads`; zero, so that they change nothing yet."""
        for name, head in heads.items():
            self.classifiers[name] = nn.Linear(self.spec.tokens, head.out_features)
            nn.init.zeros_(self.classifiers[name].weight)
            nn.init.zeros_(self.classifiers[name].bias)

    def forward(self, side: Tensor) -> Tensor:
        """Side tokens (B, L, d) -> (B, L', d_m)."""
        side = (side - self.mean) / self.spread
        side = side if self.encoder is None else self.encoder(side)
        return side if self.projection is None else self.projection(side)

    def logits(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens (B, L', d_m) -> {head: logits (B, n)} of late fusion, {} elsewhere."""
        pooled = pool_tokens(tokens)
        return {name: head(pooled) for name, head in self.classifiers.items()}


def check_name(name: str, taken: nn.ModuleDict) -> None:
    """Raise ValueError unless `name` can be a new modality's."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{name!r} cannot name a modality: use letters, digits and _, as in audio or imu_left")
    if name in RESERVED or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"{name!r} cannot name a modality, it means something else in a model: try my_{name}")
    if name in taken:
        raise ValueError(f"modality {name!r} is there already; remove_modality({name!r}) takes it away first")


def hear(
    modalities: Mapping[str, Modality],
    names: tuple[str, ...],
    side: Mapping[str, Tensor] | None,
    present: Mapping[str, Tensor] | None,
    video: Tensor,
) -> dict[str, Heard]:
    """The modalities among `names` that at least one sample of the batch has, encoded, in the order of `names`.

    side {name: (B, L, d)}, present {name: bool (B,)}, video (B, 3, T, H, W). What stands in the place of an absent
    sample is replaced before anything reads it, NaN or not. Raises ValueError for a name that the model does not
    know, for tokens that are not (B, L, width), and for a mask that is not bool (B,); TypeError for no mapping and for
    what is no tensor.
    """
    for what, given, example in (("side", side, "tokens (B, L, d)"), ("present", present, "bool (B,)")):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{what} is {kind_of(given)}; give {{name of a modality: {example}}}")
        for name, value in (given or {}).items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{what}[{name!r}] is {kind_of(value)}; give a tensor, {example}")
    side, present = side or {}, present or {}
    for name in (*side, *present):
        if name not in modalities:
            hint = nearest(name, tuple(modalities)) if len(modalities) else "it has none; add_modality comes first"
            raise ValueError(f"the model knows no modality {name!r}; {hint}")
    for name in present.keys() - side.keys():
        if not present[name].is_meta and present[name].any():
            raise ValueError(f"present[{name!r}] says that clips have it, and side has no {name}: give its tokens too")
    heard = {}
    for name in names:
        if name not in side:
            continue
        tokens, width = side[name], modalities[name].spec.width
        if tokens.ndim != 3 or len(tokens) != len(video) or tokens.shape[1] < 1 or tokens.shape[2] != width:
            raise ValueError(
                f"{name} tokens are {tuple(tokens.shape)}; this model takes ({len(video)}, L, {width}), "
                f"as add_modality({name!r}, width={width}) said"
            )
        most = modalities[name].spec.length if modalities[name].encoder is not None else None
        if most is not None and tokens.shape[1] > most:
            raise ValueError(
                f"{name}: {tokens.shape[1]} tokens came, at most {most} are encoded, as add_modality({name!r}, "
                f"length={most}) said: give fewer, or add it with more"
            )
        there = present.get(name)
        if there is None:
            there = torch.ones(len(video), dtype=torch.bool, device=video.device)
        elif there.shape != (len(video),) or there.dtype != torch.bool:
            raise ValueError(f"present[{name!r}] is {there.dtype} {tuple(there.shape)}; give bool ({len(video)},)")
        if name not in present or there.any():  # a mask on the meta device has no values to ask
            tokens = torch.where(there[:, None, None], tokens.to(video.dtype), 0)
            heard[name] = Heard(modalities[name](tokens), there)
    return heard

"""CM3T: a frozen backbone, plugins beside its branches, classifier heads. Figure 2 is `_block`."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cm3t import backbones
from cm3t.assembly import attach
from cm3t.assembly.modality import Heard, hear
from cm3t.assembly.saving import Saving
from cm3t.assembly.stages import Stages
from cm3t.assembly.summary import Summary, count, in_a_head, reference_parameters, side_parts
from cm3t.backbones import contract
from cm3t.backbones import weights as weights_file
from cm3t.methods import Method, parse_method
from cm3t.plugins import add, from_tokens, to_tokens


class CM3T(Stages, Saving, nn.Module):
    """A backbone adapted by plugins: video (B, 3, T, H, W), normalised float -> {head: logits (B, n)}.

    Each block is, Figure 2 from left to right, attention (+) prefix, then MLP (+) s * adapter (+) fused CAAs:
        x <- x + Attn(LN x; P_k, P_v),    x <- x + MLP(LN x) + s A(LN x) + Fusion_m CAA_m(z, side_m)
    with z the adapter's bottleneck, and each LN the block's own frozen norm.

    backbone  an instance of the contract (`cm3t.backbone(name)`)
    method    a `cm3t.methods.Method`, or its words ("mhva+pt+caa"): what is attached and what trains
    heads     classifiers on the pooled features, {name: classes}
    clip      (T, H, W) of the clips to come, if not the backbone's own: it decides where MHVA's cells fit

    Plugins and heads are made in the backbone's precision and on its device.

    Paper: Sec. 3.2-3.3, Figure 2. Step 0 of MHVA, AdaptFormer and CAA is the frozen backbone, bit for bit.
    Choice: MHVA has g x g cells where g divides the map's sides, else one (the paper's Swin-B at 224: 2, 2, 2, 1 by
    stage, the last map being a single window). A backbone that is frozen stays in eval mode (`train()` keeps it), and
    a stem's batch norms stay so in every method. Heads, of which the text says nothing, are linear and start small,
    N(0, 0.02^2); they are drawn before the plugins, so that with one seed every method starts from the same heads.
    Choice: modalities trained on top of a finished vision model get a copy of its heads (`train_stage`); a sample
    for which no modality is present goes through the heads, as through the plugins, of vision alone.

    With `checkpointing` set, training keeps a block's input alone and computes the rest again on the way back: less
    memory, more time, the same gradients.

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
        self.clip = contract.as_clip(backbone.clip if clip is None else clip)
        self.frozen = self.method.trains in ("head", "plugins")
        backbone.requires_grad_(not self.frozen)
        heads = attach.check_heads(heads)
        self.heads = nn.ModuleDict({name: attach.linear_head(backbone.width, n) for name, n in heads.items()})
        self.head_dropout = head_dropout
        self.adapters, self.prefixes = nn.ModuleList(), nn.ModuleList()
        if self.method.adapter is not None:
            self.adapters = attach.adapters(backbone, self.method.adapter, self.clip)
        if self.method.prefix is not None:
            self.prefixes = attach.prefixes(backbone, self.method.prefix)
        some = next((p for p in backbone.parameters() if p.is_floating_point()), torch.empty(0))
        for part in (self.heads, self.adapters, self.prefixes):
            part.to(some)  # the backbone's precision, and its device
        # Of side modalities: each one's own plugins, what they share (one or none of the two), and a copy of the heads.
        self.side, self.fusion, self.sequential = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.joint_heads = nn.ModuleDict()
        self.stage = "all"
        self.checkpointing = False
        self._enabled = True
        self._class_tokens = bool(self.adapters) and attach.class_tokens(backbone, self.clip) > 0
        if self.method.cross is not None:
            attach.blocks_in(backbone, self.method.cross.stages)  # raises now, not when a modality comes
        self.train()

    def forward(
        self,
        video: Tensor,
        side: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Video (B, 3, T, H, W), side {name: (B, L, d)}, present {name: bool (B,)} -> {head: logits (B, n)}.

        video    channels before frames, normalised by `model.backbone.pixels` (`cm3t.data.clip.normalise`)
        side     of each modality L tokens of the width d that `add_modality` was told; a log-mel spectrogram is
                 (B, frames of sound, mel bands), and an encoder takes at most `length` of them
        present  of each modality True where the sample has it; what stands in the place of others is never read

        A modality that is not in `side` is absent from the whole batch; one not in `present` is there in all of it.
        `create` has an example. Raises ValueError for shapes that do not fit, TypeError for pixels that are bytes and
        for a video on another device. Values are not looked at: NaN in a token that is present gives NaN (the readers
        of `cm3t.data` refuse it).
        """
        heard = self._hear(video, side, present)
        features = F.dropout(self._walk(video, heard), self.head_dropout, self.training)
        return self._logits(features, heard)

    def features(
        self,
        video: Tensor,
        side: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Pooled features (B, D) of video (B, 3, T, H, W), side and present as in `forward`."""
        return self._walk(video, self._hear(video, side, present))

    @torch.no_grad()
    def fusion_weights(
        self,
        video: Tensor,
        side: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> dict[int, dict[str, Tensor]]:
        """The fusion's weights over the map of each block, {block: {modality: (B, T, H, W)}}, for pictures.

        Over the modalities that a sample has they sum to 1, for a sample without any they are 0; {} where the
        modalities are not fused, as where one is trained by itself. Class tokens are left out.
        """
        weights: dict[int, dict[str, Tensor]] = {}
        self._walk(video, self._hear(video, side, present), weights)
        return weights

    def _hear(self, video: Tensor, side: Mapping | None, present: Mapping | None) -> dict[str, Heard]:
        """The encoded modalities that take part in this batch: none with the plugins disabled."""
        contract.check_layout(video, self.backbone.name, getattr(self.backbone, "patch", None))
        contract.check_device(video, self.backbone.name, next(self.parameters(), video))
        names = self._listening() if self._enabled else ()
        heard = hear(self.side, names, side, present, video)
        if self._enabled and (unheard := sorted(set(side or ()) - set(names))):
            warnings.warn(
                f"{', '.join(unheard)}: handed over and not heard, for the model is at stage {self.stage!r}; "
                "train_stage('cross') and train_stage('all') hear all modalities",
                stacklevel=4,
            )
        return heard

    def _walk(self, video: Tensor, heard: dict[str, Heard], weights: dict | None = None) -> Tensor:
        """Video (B, 3, T, H, W) and encoded modalities -> pooled features (B, D): Figure 2, block by block."""
        try:
            return self._through(video, heard, weights)
        except ValueError as error:
            came = tuple(video.shape[2:])
            if isinstance(error, contract.FixedSizeError) or came == self.clip:
                raise
            remedy = "resize or sample them"
            if attach.could_take(self.backbone, self.method.adapter, came):
                remedy += f", or build a model for them: create(..., clip={came}), of a wrapped network "
                remedy += f"CM3T(wrapped, ..., clip={came})"
            built = f"The model was built for clips of (T, H, W) = {self.clip}, these are {came}"
            raise ValueError(f"{error}. {built}: {remedy}") from error

    def _through(self, video: Tensor, heard: dict[str, Heard], weights: dict | None) -> Tensor:
        """The walk itself, (B, 3, T, H, W) -> (B, D)."""
        x = self.backbone.embed(video)
        seen = getattr(self.backbone, "seen", None)
        for i in range(len(self.backbone.blocks)):
            x = self.backbone.advance(i, x)
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._again, seen, i, x, heard, use_reentrant=False)
            else:
                x = self._block(i, x, heard, weights)
        return self.backbone.pool(x)

    def _again(self, seen: tuple | None, i: int, x: Tensor, heard: dict[str, Heard]) -> Tensor:
        """Block i on a video of the grid `seen`, whatever other video was embedded since: on the way back it may be."""
        latest = getattr(self.backbone, "seen", None)
        if seen == latest:
            return self._block(i, x, heard)
        self.backbone.seen = seen
        try:
            return self._block(i, x, heard)
        finally:
            self.backbone.seen = latest

    def _block(self, i: int, x: Tensor, heard: dict[str, Heard], weights: dict | None = None) -> Tensor:
        """Block i with what is attached to it: Figure 2, from left to right."""
        block = self.backbone.blocks[i]
        prefix = self.prefixes[i](block.attn.project_prefix) if self.prefixes and self._enabled else None
        x = x + block.attention(x, prefix)
        normed, mlp = block.feedforward(x)
        if self._enabled:
            mlp = self._beside_mlp(i, x, normed, mlp, heard, weights)
        x = x + mlp
        return self._in_turn(self.sequential[str(i)], x, heard) if str(i) in self.sequential else x

    def _beside_mlp(
        self, i: int, x: Tensor, normed: Tensor, mlp: Tensor, heard: dict[str, Heard], weights: dict | None
    ) -> Tensor:
        """MLP(LN x) (+) s * adapter (+) fused cross-attention adapters, of block i."""
        caas = {name: self.side[name].cross[str(i)] for name in heard if str(i) in self.side[name].cross}
        bottleneck = None
        if self.adapters:
            seen = x if self.method.adapter.input == "raw" else normed
            if caas or self._class_tokens:
                out, extra, bottleneck = self.adapters[i].branch(*self.backbone.split(seen))
                mlp = mlp + self.backbone.join(out, extra)
            else:
                mlp = mlp + self.adapters[i](seen)
        if not caas:
            return mlp
        plane, extra = self.backbone.split(normed)
        source = to_tokens(plane, extra) if self.method.cross.source == "generic" else bottleneck
        said = [caa(source, heard[name].tokens) for name, caa in caas.items()]
        present = torch.stack([heard[name].present for name in caas])
        query, hidden, out = zip(*said, strict=True)
        if self.fusion and self.stage not in self.side:
            out, share = self.fusion[str(i)](query, hidden, None if out[0] is None else out, present)
            if weights is not None:
                maps = (from_tokens(one[..., None], plane.shape)[0].squeeze(-1) for one in share)
                weights[i] = dict(zip(caas, maps, strict=True))
        else:
            out = add(out, present)
        return mlp + self.backbone.join(*from_tokens(out, plane.shape))

    def _in_turn(self, attention: nn.Module, x: Tensor, heard: dict[str, Heard]) -> Tensor:
        """x <- x + XAttn(x, s_m) for one modality after the other, in the order in which they were added."""
        for one in heard.values():
            plane, extra = self.backbone.split(x)
            tokens = to_tokens(plane, extra)
            step = torch.where(one.present[:, None, None], attention(tokens, one.tokens), 0)
            x = x + self.backbone.join(*from_tokens(step, plane.shape))
        return x

    def train(self, mode: bool = True) -> "CM3T":
        """Training mode for what trains: a frozen backbone, what rests and all batch norms stay in eval mode."""
        super().train(mode)
        for part, trains in self._training_parts().items():
            if not trains:
                part.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
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

    def summary(self) -> Summary:
        """Parameters by part and their share of the backbone; `print` it."""
        parts = {}
        if not self.frozen:
            parts["backbone"] = count(self.backbone)
        if self.adapters:
            split = any(len(adapter.down) > 1 for adapter in self.adapters)
            parts["MHVA" if split else "parallel adapter"] = count(self.adapters)
        if self.prefixes:
            parts["prefix tuning"] = count(self.prefixes)
        parts |= side_parts(self.side)
        for name, shared in (("fusion", self.fusion), ("sequential attention", self.sequential)):
            if shared:
                parts[name] = count(shared)
        parameters, denominator = reference_parameters(self.backbone)
        own = ((name, p) for name, p in self.named_parameters() if not name.startswith("backbone."))
        heads = sum(p.numel() for name, p in own if in_a_head(name))
        loaded = self.backbone.loaded
        said = loaded.line() if loaded and (loaded.unusual or not loaded.plain) else ""
        return Summary(self.backbone.name, self.method.name, parts, heads, parameters, denominator, said)


class _NotGiven:
    """The default of `create`'s weights: random ones, as None, but not by anybody's wish."""

    def __repr__(self) -> str:
        return "<not given: random, with a warning>"


def create(
    backbone: str,
    *,
    method: Method | str = "mhva+pt",
    heads: Mapping[str, int] | None = None,
    weights: str | Path | None = _NotGiven(),  # noqa: B008
    head_dropout: float = 0.0,
    clip: tuple[int, int, int] | None = None,
    weights_clip: tuple[int, int, int] | None = None,
    **overrides,
) -> CM3T:
    """A CM3T model by names: `create("video_swin_b", method="mhva+pt", heads={"verb": 97, "noun": 300})`.

    `weights` as in `cm3t.backbone`: None is random. Left out they are random too, and a UserWarning says so, for a
    frozen backbone of random weights is hardly ever meant. The method `scratch` ignores them. `overrides` are
    `parse_method`'s: cells, bottleneck, reduction, scale, learnable_scale, adapter_input, prefix_length, activation,
    prefix_dropout, caa_form, caa_join, caa_source, caa_stages, preset. `clip` is (T, H, W) if not the backbone's own;
    position embeddings are made for it, interpolated where weights bring their own; `weights_clip` is (T, H, W) of the
    clips that a file was trained on, where `cm3t.backbone` asks for it. What a load did, `model.backbone.loaded` tells,
    and `model.summary()` where it was more than a copy.

    Two clips of 8 frames of 96 x 96 pixels (B = 2), of which one has sound, 400 frames of 128 mel bands:

    >>> import torch, cm3t
    >>> from cm3t.data.clip import normalise
    >>> heads = {"verb": 97, "noun": 300}
    >>> model = cm3t.create("video_swin_mini", method="mhva+pt+caa", heads=heads, weights="default")
    >>> model.add_modality("audio", width=128, length=400, encoder="transformer")
    >>> pixels = torch.randint(0, 256, (2, 3, 8, 96, 96), dtype=torch.uint8)    # (B, 3, T, H, W)
    >>> video = normalise(pixels, *model.backbone.pixels)                       # float32, the same shape
    >>> mel = torch.randn(2, 400, 128)                                          # (B, L, d)
    >>> mask = torch.tensor([True, False])                                      # (B,)
    >>> out = model(video, side={"audio": mel}, present={"audio": mask})
    >>> {name: tuple(logits.shape) for name, logits in out.items()}             # (B, classes)
    {'verb': (2, 97), 'noun': (2, 300)}
    """
    chosen = parse_method(method, **overrides) if isinstance(method, str) else method
    given = not isinstance(weights, _NotGiven)
    loads = {} if chosen.trains == "scratch" else {"weights": weights if given else None, "weights_clip": weights_clip}
    frozen = backbones.backbone(backbone, clip=clip, **loads)
    if not given and chosen.trains != "scratch" and not next(frozen.parameters()).is_meta:
        warnings.warn(
            f"{backbone} has random weights, for none were given; {weights_file.remedy(backbone)}, "
            "or weights=None if random ones are meant",
            stacklevel=2,
        )
    return CM3T(frozen, chosen, heads, head_dropout=head_dropout, clip=clip)

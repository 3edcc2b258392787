"""Side modalities of a model: adding and removing them, what trains at which stage, and whose heads are used."""

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from cm3t.assembly import attach
from cm3t.assembly.modality import STAGES, Heard, Modality, ModalitySpec, check_name


class Stages:
    """The part of `CM3T` that knows its modalities; shapes as there: features (B, D) -> logits (B, n)."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the side modalities, in the order in which they were added."""
        return tuple(self.side)

    def add_modality(
        self,
        name: str,
        width: int,
        *,
        length: int | None = None,
        encoder: str | None = None,
        embed: int = 64,
    ) -> None:
        """Attach a side modality: a plugin of its own, that adds nothing before it is trained.

        Nothing that was trained before is touched. A fresh fusion is plain addition, and a fresh modality adds zero to
        it; a fusion that others have trained weighs the newcomer in at once, where samples have it. Then train it by
        itself first (`train_stage(name)`, added plainly), and the fusion of all after it (`train_stage("fusion")`).

        width    d of its tokens (B, L, d)
        length   the most tokens of a clip; only an encoder needs it
        encoder  None hands the tokens on as they are; "linear" and "transformer" map them to width `embed`

        Add before an optimizer is made. Raises ValueError for a method that has no place for it and for a name that
        is taken or cannot be one.
        """
        cross = self.method.cross
        if cross is None:
            raise ValueError(f"method {self.method.name!r} takes no modality; write {self.method.name}+caa")
        check_name(name, self.side)
        some = next(self.backbone.parameters())
        with torch.device("meta") if some.is_meta else nullcontext():
            modality = Modality(ModalitySpec(width, length, encoder, embed))
            if cross.kind == "caa":
                bottlenecks = [adapter.bottleneck for adapter in self.adapters]
                modality.cross = attach.cross_attention(self.backbone, cross, bottlenecks, modality.spec.tokens)
                if cross.join == "fusion" and not self.fusion:
                    self.fusion = attach.fusions(self.backbone, cross).to(some)
            elif cross.kind == "mmca":
                modality.project_to(attach.common_width(self.backbone, cross))
                if not self.sequential:
                    self.sequential = attach.sequential(self.backbone, cross).to(some)
            else:
                modality.classify(self.heads)
        self.side[name] = modality.to(some)
        self._settle()

    def remove_modality(self, name: str) -> None:
        """Take a modality away, and with the last one all that modalities share; the others stay as they are."""
        if name not in self.side:
            raise ValueError(f"no modality {name!r} to remove; there are {', '.join(self.side) or 'none'}")
        del self.side[name]
        if not self.side:
            self.fusion, self.sequential, self.joint_heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.stage = "all" if self.stage == name or not self.side else self.stage
        self._settle()

    def train_stage(self, stage: str) -> None:
        """Choose what trains and what is heard, before an optimizer is made.

        "all"       everything that the method trains: end to end; how a model starts
        "vision"    the method without its modalities, which are not heard (step 1)
        "cross"     the modalities, their fusion and a copy of the heads; all else rests (step 2)
        "fusion"    the fusion and a copy of the heads
        a modality  that one, added plainly, and its own copy of the heads; neither others nor the fusion are heard

        What rests has no gradient and is in eval mode. A copy of the heads starts from those in use and, once made,
        is kept. Raises ValueError where there is nothing of that kind to train.
        """
        if stage not in (*STAGES, *self.side):
            raise ValueError(f"unknown stage {stage!r}; use {', '.join((*STAGES, *self.side))}")
        if stage in ("cross", "fusion") and not self.side:
            raise ValueError(f"stage {stage!r} trains modalities, and there are none; add_modality comes first")
        if stage == "fusion" and not self.fusion:
            raise ValueError(f"method {self.method.name!r} joins its modalities without a fusion to train")
        if stage in self.side and self.sequential:
            raise ValueError("sequential cross-attention is one module for all modalities: train 'cross' or 'all'")
        if stage in self.side and self.method.cross.up == "shared":
            raise ValueError(
                "the only up-projection is the fusion's: train 'cross' or 'all', or join by caa_join='add'"
            )
        if stage in ("cross", "fusion") and not self.joint_heads:
            self.joint_heads = self._copied_heads()
        if stage in self.side and not self.side[stage].heads:
            self.side[stage].heads = copy.deepcopy(self.heads)
        self.stage = stage
        self._settle()

    def _copied_heads(self) -> nn.ModuleDict:
        """A copy of the heads in use: the mean of the modalities' own where they have been trained by themselves.

        Choice: with this start the joint heads give what the mean over the modalities' heads gave (`_logits`).
        """
        heads = copy.deepcopy(self.heads)
        with torch.no_grad():
            for name, head in heads.items():
                used = [self._heads_of(modality)[name] for modality in self.side]
                head.weight.copy_(torch.stack([one.weight for one in used]).mean(0))
                head.bias.copy_(torch.stack([one.bias for one in used]).mean(0))
        return heads

    def _training_parts(self) -> dict[nn.Module, bool]:
        """Each part of the model, and whether it trains at this stage."""
        vision, cross = self.stage in ("vision", "all"), self.stage in ("cross", "all")
        parts = {self.backbone: vision and not self.frozen}
        parts |= dict.fromkeys((self.heads, self.adapters, self.prefixes), vision)
        parts |= {modality: cross or self.stage == name for name, modality in self.side.items()}
        parts[self.sequential] = cross
        return parts | dict.fromkeys((self.fusion, self.joint_heads), cross or self.stage == "fusion")

    def _settle(self) -> None:
        """Gradients and modes as the stage says."""
        for part, trains in self._training_parts().items():
            part.requires_grad_(trains)
        self.train(self.training)

    def _logits(self, features: Tensor, heard: dict[str, Heard]) -> dict[str, Tensor]:
        """Features (B, D) -> logits: of the joint heads, or the mean over the heads of the modalities present.

        A sample without any modality gets the logits of the heads of vision.
        Choice: the text has no classifiers for modalities trained apart. Of their own heads the mean, as the logits of
        a sum would grow with the number of modalities that a sample happens to have.
        """
        logits = {name: head(features) for name, head in self.heads.items()}
        nobody = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        there = {name: heard[name].present if name in heard else nobody for name in self._listening()}
        number = sum(there.values(), nobody.to(features.dtype))[:, None]
        if self.joint_heads and self.stage not in self.side and self._enabled:
            for name, head in self.joint_heads.items():
                logits[name] = torch.where(number > 0, head(features), logits[name])
        elif self._enabled and any(self.side[name].heads for name in there):
            vision = dict(logits)
            for name in logits:
                each = [torch.where(mask[:, None], self._heads_of(m)[name](features), 0) for m, mask in there.items()]
                logits[name] = torch.where(number > 0, sum(each) / number.clamp(min=1), vision[name])
        for modality, one in heard.items():
            for name, own in self.side[modality].logits(one.tokens).items():
                logits[name] = logits[name] + torch.where(one.present[:, None], own, 0)
        return logits

    def _heads_of(self, modality: str) -> nn.ModuleDict:
        """The modality's own copy of the heads, else those of vision."""
        return self.side[modality].heads or self.heads

    def _listening(self) -> tuple[str, ...]:
        """The modalities that this stage hears; their order matters to sequential cross-attention alone."""
        if self.stage == "vision":
            return ()
        names = (self.stage,) if self.stage in self.side else tuple(self.side)
        return names if self.sequential else tuple(sorted(names))

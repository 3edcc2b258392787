"""Counting: parameters by part, and the share of the backbone that they are."""

from dataclasses import dataclass

from torch import nn

HEADS = ("heads", "joint_heads", "classifiers")  # where classifiers are in a model; no share counts them


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def in_a_head(name: str) -> bool:
    """Is this the name of a classifier's parameter? Those that modalities and late fusion have of their own are too."""
    return not set(name.split(".")).isdisjoint(HEADS)


def reference_parameters(backbone: nn.Module) -> tuple[int, str]:
    """What a trainable share is a share of, and its name: the backbone with its pretraining classifier.

    Paper: only with its 400-class head does Swin-B (88,048,984) print the published percentages.
    Choice: every backbone says how many classes it was pretrained on (`source_classes`).
    """
    own = getattr(backbone, "head", None)
    if isinstance(own, nn.Linear):
        return count(backbone), f"{backbone.name} with its {own.out_features}-class head"
    classes = backbone.source_classes
    words = f"with its {classes}-class head" if classes else "without a head"
    return count(backbone) + (backbone.width + 1) * classes, f"{backbone.name} {words}"


def side_parts(side: nn.ModuleDict) -> dict[str, int]:
    """Parameters of every side modality by part, its classifiers left out."""
    parts = {}
    for name, modality in side.items():
        for what, module in (
            ("cross-attention", modality.cross),
            ("side projection", modality.projection),
            ("side encoder", modality.encoder),
        ):
            if module is not None and count(module):
                parts[f"{what} ({name})"] = count(module)
    return parts


@dataclass(frozen=True)
class Summary:
    """Trained parameters by part and their share of the backbone. Heads are listed but never in the share.

    heads: of all classifiers, the copies that modalities have and those of late fusion included.

    Choice: a backbone that trains is 100 % by definition, as in the paper, though the head that it was pretrained with,
    which the reference counts, is replaced. Printed, a line says so.
    """

    backbone: str
    method: str
    parts: dict[str, int]
    heads: int
    reference: int
    denominator: str
    weights: str = ""  # what became of the backbone's weights, where not all went in as they were, and unusual ones

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
        whole = {"backbone": self.reference}  # 100 % by definition
        rows = [(name, n, f"{100 * whole.get(name, n) / self.reference:5.1f} %") for name, n in self.parts.items()]
        rows.append(("trained, without heads", self.trainable, f"{100 * self.share:5.1f} %"))
        rows.append(("heads", self.heads, ""))
        lines = [title, *(f"  {name:<24}{n:>14,}  {share}".rstrip() for name, n, share in rows)]
        if "backbone" in self.parts:
            lines.append("  a backbone that trains counts as 100 %, though its pretraining head is replaced")
        if self.weights:
            lines.append(f"  weights: {self.weights}")
        return "\n".join(lines)

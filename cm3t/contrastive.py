"""Contrastive pretraining: clips and captions brought together, as CLIP does; what remains is a video backbone.

Source: Radford et al., CLIP, ICML 2021: two towers, a learned temperature, a softmax over the batch both ways. Captions
are made of the source set's class names, so that this is weaker than CLIP's four hundred million captions, and said so.
Zero-shot classification needs no code of its own: its classifier is a linear head made of text, `zero_shot`.
"""

import math
import zlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cm3t.backbones import backbone

WIDTH = 128  # of the space that clips and captions share
BUCKETS = 4096  # of hashed words and letter triples
TEMPLATES = {  # kind of class -> captions of its name
    "manipulation": ("a robot arm: {}", "a robot at a table, {}", "the robot does {}", "{}"),
    "mocap": ("a person moving: {}", "somebody does {}", "a whole body, {}", "{}"),
    "person": ("a person in front of the camera: {}", "somebody sitting or standing, {}", "a gesture, {}", "{}"),
}


def captions(name: str, kind: str) -> list[str]:
    """What may be written under a clip of the class `name` ("door-open") of a kind (a key of TEMPLATES)."""
    return [template.format(name.replace("-", " ")) for template in TEMPLATES[kind]]


def buckets(text: str) -> list[int]:
    """A text as hashed words and letter triples, the same on every machine: "door open" shares some with "doors"."""
    words = text.lower().replace(":", " ").replace(",", " ").split()
    grams = [f"<{word}>"[i : i + 3] for word in words for i in range(len(word))]
    return [zlib.crc32(gram.encode()) % BUCKETS for gram in words + grams]


class TextTower(nn.Module):
    """Texts -> unit vectors (n, WIDTH): the mean of its n-grams' embeddings, then an MLP.

    Choice: a bag of n-grams. A few hundred captions of three to eight words need no transformer.
    """

    def __init__(self, hidden: int = 256):
        super().__init__()
        self.embedding = nn.EmbeddingBag(BUCKETS, hidden, mode="mean")
        self.mlp = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, WIDTH))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """n texts -> (n, WIDTH), each of length 1."""
        bags = [torch.tensor(buckets(text)) for text in texts]
        offsets = torch.tensor([0, *map(len, bags[:-1])]).cumsum(0)
        return F.normalize(self.mlp(self.embedding(torch.cat(bags), offsets)), dim=-1)


class Towers(nn.Module):
    """A video backbone whose head is the projection, a text tower, and the temperature between them."""

    def __init__(self, name: str):
        super().__init__()
        self.video = backbone(name, num_classes=WIDTH)
        self.text = TextTower()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, video: Tensor, texts: Sequence[str]) -> Tensor:
        """Video (B, 3, T, H, W) and n texts -> similarities (B, n), scaled. Paper (CLIP): the scale stays under 100."""
        scale = self.log_scale.clamp(max=math.log(100.0)).exp()
        return scale * F.normalize(self.video(video), dim=-1) @ self.text(texts).T


def symmetric_loss(similar: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of similarities (B, B) over rows and over columns, their mean.

    Choice: every caption of a clip's class is right for it. With 75 classes most batches hold a class twice, and CLIP's
    own targets would call the second one wrong.
    """
    same = (labels[:, None] == labels[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(similar, target) + F.cross_entropy(similar.T, target)) / 2


@torch.no_grad()
def zero_shot(towers: Towers, classes: Sequence[str], kinds: Sequence[str]) -> nn.Module:
    """The video backbone, in eval mode, with a classifier made of text: (B, 3, T, H, W) -> logits (B, classes).

    A class is the mean of its captions' vectors; its logit is that vector times the projected features. Their length,
    the same for all classes, is left out, so that one linear head on the features does it.
    """
    towers.eval()
    texts = torch.stack([towers.text(captions(*pair)).mean(0) for pair in zip(classes, kinds, strict=True)])
    texts, projection = F.normalize(texts, dim=-1), towers.video.head
    model = backbone(towers.video.name, num_classes=len(classes)).eval()
    state = towers.video.state_dict()
    state |= {"head.weight": texts @ projection.weight, "head.bias": texts @ projection.bias}
    model.load_state_dict(state)
    return model

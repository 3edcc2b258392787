"""Two towers: captions from names, targets that know a class drawn twice, a classifier made of text."""

import torch
import torch.nn.functional as F

from cm3t import contrastive
from cm3t.backbones import weights

NAMES, KINDS = ["door-open", "door-close", "wave"], ["manipulation", "manipulation", "person"]


def test_captions_are_words_and_texts_hash_alike_everywhere():
    assert contrastive.captions("door-open", "manipulation")[-1] == "door open"
    assert len({*contrastive.captions("wave", "person")}) == 4
    first, second, other = (set(contrastive.buckets(text)) for text in ("door open", "Door: open", "wave"))
    assert first == second and not first & other
    assert contrastive.buckets("wave")[0] == 3465  # crc32: not Python's own hash, which differs by process


def test_the_loss_is_clips_own_where_every_class_comes_once():
    similar = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    once, rows = torch.arange(4), torch.arange(4)
    own = (F.cross_entropy(similar, rows) + F.cross_entropy(similar.T, rows)) / 2
    torch.testing.assert_close(contrastive.symmetric_loss(similar, once), own)
    # a class drawn twice: both captions are right, so that swapping them changes nothing
    twice = torch.tensor([0, 1, 1, 2])
    swapped = similar[:, [0, 2, 1, 3]]
    torch.testing.assert_close(F.cross_entropy(similar, _target(twice)), F.cross_entropy(swapped, _target(twice)))
    assert contrastive.symmetric_loss(100 * _target(twice), twice) < contrastive.symmetric_loss(similar, twice)


def _target(labels):
    same = (labels[:, None] == labels[None, :]).float()
    return same / same.sum(1, keepdim=True)


def test_the_head_made_of_text_says_what_the_towers_say(tmp_path):
    torch.manual_seed(0)
    towers = contrastive.Towers("clip_mini").eval()
    video = torch.randn(2, 3, 8, 64, 64)
    model = contrastive.zero_shot(towers, NAMES, KINDS)
    texts = [contrastive.captions(*pair) for pair in zip(NAMES, KINDS, strict=True)]
    with torch.no_grad():
        means = F.normalize(torch.stack([towers.text(lines).mean(0) for lines in texts]), dim=-1)
        cosines = F.normalize(towers.video(video), dim=-1) @ means.T
        logits = model(video)
    torch.testing.assert_close(F.normalize(logits, dim=1), F.normalize(cosines, dim=1), rtol=1e-4, atol=1e-5)
    weights.save(model, tmp_path / "clip.safetensors", metadata={})
    assert weights.load(model, tmp_path / "clip.safetensors").mapped == len(model.state_dict())

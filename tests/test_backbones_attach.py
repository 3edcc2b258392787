"""Every backbone takes the plugins by the contract alone."""

import subprocess
import sys

import pytest
import torch

import cm3t
from cm3t import backbones

MINIS = ["video_swin_mini", "vivit_mini", "clip_mini"]


@pytest.mark.parametrize("name", MINIS)
def test_plugins_leave_the_backbone_at_step_0_and_can_be_taken_away(name):
    torch.manual_seed(0)
    video = torch.randn(2, 3, 8, 96, 96)
    model = cm3t.create(name, method="mhva", heads={"verb": 5}, weights=None).eval()
    with torch.no_grad():
        assert torch.equal(model.features(video), model.backbone(video))
        model = cm3t.create(name, method="mhva+pt", heads={"verb": 5}, weights=None).eval()
        assert not torch.equal(model.features(video), model.backbone(video))  # a prefix is no no-op
        with model.disabled():
            assert torch.equal(model.features(video), model.backbone(video))


@pytest.mark.parametrize("name", ["vivit_mini", "clip_mini"])
def test_gradients_reach_every_plugin_of_a_transformer_with_class_tokens(name):
    torch.manual_seed(0)
    model = cm3t.create(name, method="mhva+pt", heads={"verb": 5}, weights=None)
    for adapter in model.adapters:
        torch.nn.init.normal_(adapter.up, std=0.1)
    model(torch.randn(2, 3, 8, 64, 64))["verb"].square().sum().backward()
    silent = [key for key, p in model.trainable_parameters().items() if p.grad is None or not p.grad.abs().sum() > 0]
    # the last block hands only its class tokens on: what stands beside its map is not seen any more
    last = len(model.backbone.blocks) - 1
    assert all(f".{last}." in key for key in silent), silent


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in backbones.NAMES if not n.endswith("mini")])
def test_full_sizes_take_every_plugin(name):
    with torch.device("meta"):
        model = cm3t.create(name, method="mhva+pt", heads={"verb": 97})
    assert model(torch.zeros(1, 3, *model.backbone.clip, device="meta"))["verb"].shape == (1, 97)
    assert 0.05 < model.summary().share < 0.25


@pytest.mark.parametrize("name", [*MINIS, "clip_b"])
def test_the_clip_is_known_without_the_model(name):
    with torch.device("meta"):
        assert backbones.backbone(name).clip == backbones.clip_of(name)


@pytest.mark.slow
def test_nothing_heavy_is_imported_before_a_backbone_is_made():
    heavy = "[m for m in ('timm', 'torchvision', 'transformers', 'huggingface_hub') if m in sys.modules]"
    done = subprocess.run([sys.executable, "-c", f"import sys, cm3t.backbones; print({heavy})"], capture_output=True)
    assert done.stdout.strip() == b"[]", done.stderr

"""Weights by name: the file that is on this machine, the one that is downloaded, or what to download and where."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cm3t import backbones
from cm3t.backbones import names, weights
from cm3t.dryrun import weights_missing
from cm3t.settings import PAPER_WEIGHTS


def test_names_resolve_to_a_file_or_say_what_to_download_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("socket.create_connection", offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    addresses = {
        ("video_swin_t", "kinetics400"): r"https://download.pytorch.org/models/swin3d_t-\w+.pth",
        ("video_swin_b_ssv2", "ssv2"): "https://github.com/SwinTransformer/.*window1677_sthv2.pth",
        ("vivit_b", "kinetics400"): "https://huggingface.co/google/vivit-b-16x2-kinetics400/resolve/main/",
        ("vivit_b", "someone/vivit"): "https://huggingface.co/someone/vivit/resolve/main/model.safetensors",
        (
            "vit_b",
            "vit_base_patch16_224.dino",
        ): "https://huggingface.co/timm/vit_base_patch16_224.dino/resolve/main/model",
        ("clip_b", "openai"): "https://huggingface.co/timm/vit_base_patch16_clip_224.openai/resolve/main/",
    }
    for (backbone, name), address in addresses.items():
        with pytest.raises(weights.WeightsError, match=f"(?s)no route.*{address}.*{tmp_path}.*--weights FILE"):
            weights.resolve(backbone, name)
    put = names.folder() / "cm3t-vivit_b-kinetics400.bin"
    put.parent.mkdir(parents=True, exist_ok=True)
    put.touch()
    assert weights.resolve("vivit_b", "kinetics400") == put
    own = names.folder() / names.NAMED["video_swin_t"]["kinetics400"].address().rpartition("/")[2]
    own.touch()  # as torchvision leaves it there
    assert weights.resolve("video_swin_t", "kinetics400") == own
    by_hand = names.folder() / "cm3t-vit_b-vit_base_patch16_224.dino.safetensors"
    by_hand.touch()
    assert weights.resolve("vit_b", "vit_base_patch16_224.dino") == by_hand
    assert set(names.NAMED) <= set(backbones.NAMES)


def test_what_is_downloaded_from_an_address_is_the_file_that_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(names, "_reach", lambda address: None)
    asked = []

    def download(address, path, hash_prefix, progress):
        asked.append((address, hash_prefix))
        save_file({"w": torch.ones(2)}, path)

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    for backbone, name, prefix in (("video_swin_t", "kinetics400", True), ("video_swin_b_ssv2", "ssv2", False)):
        source = names.NAMED[backbone][name]
        found = weights.resolve(backbone, name)
        assert found == names.place(backbone, name, source) and weights.read(found)[0]["w"].sum() == 2
        address, digest = asked[-1]
        assert address == source.address() and (digest is not None) == prefix
        assert not prefix or address.endswith(f"-{digest}.pth")
        assert weights.resolve(backbone, name) == found  # and now it is there
    assert len(asked) == 2


def test_what_is_downloaded_from_the_hub_is_the_first_file_that_it_has(tmp_path, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(names, "_reach", lambda address: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: None)
    asked, there = [], "pytorch_model.bin"

    def download(repository, file):
        asked.append((repository, file))
        if there is None:
            raise LocalEntryNotFoundError("the network is gone")
        if file != there:
            raise EntryNotFoundError(file)
        return str(tmp_path / repository / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    repository = "google/vivit-b-16x2-kinetics400"
    assert weights.resolve("vivit_b", "kinetics400") == tmp_path / repository / "pytorch_model.bin"
    assert asked == [(repository, "model.safetensors"), (repository, "pytorch_model.bin")]
    there = "another"
    with pytest.raises(weights.WeightsError, match="has none of model.safetensors, pytorch_model.bin"):
        weights.resolve("vivit_b", "kinetics400")
    there = None
    asked.clear()
    with pytest.raises(weights.WeightsError, match="the network is gone"):
        weights.resolve("vivit_b", "kinetics400")
    assert len(asked) == 1


def test_default_means_the_same_to_a_model_and_to_a_run(monkeypatch):
    assert {name: names.called(name, "default") for name in PAPER_WEIGHTS} == PAPER_WEIGHTS
    assert names.called("vivit_mini", "default") == "default" and names.called("clip_b", "openai") == "openai"
    asked = []
    monkeypatch.setattr(names, "fetch", lambda *given: asked.append(given[:2]) or Path("file"))
    assert weights.resolve("vivit_b", "default") == Path("file") and asked == [("vivit_b", "kinetics400")]
    monkeypatch.setattr(names, "local", lambda *given: None)
    assert "a run downloads https://" in weights_missing("video_swin_s", "default") and len(asked) == 1


def test_a_name_that_is_not_known_lists_those_of_the_backbone():
    for backbone, given, words in (
        (
            "vivit_b",
            "kinetics600",
            "'kinetics600' is no name of weights; did you mean 'kinetics400'. known: kinetics400, a file",
        ),
        (
            "video_swin_mini",
            "kinetics400",
            "is no name of weights of video_swin_mini, but of video_swin_t and .*default, supervised, a file",
        ),
        (
            "video_swin_b",
            "ssv2",
            "'ssv2' is no name of weights of video_swin_b, but of video_swin_b_ssv2; .*kinetics400",
        ),
        ("mtv_b", "nothing", "'nothing' is no name of weights; known: no names, a file, .*and None .random."),
        ("video_swin_b", "my.pth", "no weights file at my.pth; known: imagenet22k-kinetics400, kinetics400, a file"),
        ("vit_b", "vit_base_patch16_224.nonsense", "no weights file at vit_base_patch16_224.nonsense; .*arch.tag"),
        ("mtv_b", "default", "weights=FILE, none being published for it, or None"),
    ):
        with pytest.raises(weights.WeightsError, match=words):
            weights.resolve(backbone, given)

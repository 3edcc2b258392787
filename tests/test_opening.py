"""Nothing in a file of weights can run, and what other programs put around parameters is taken off."""

import zipfile

import pytest
import timm
import torch
from safetensors.torch import save_file
from test_parity import lively
from test_weights import CLIP, frames_of

from cm3t.backbones import weights


class Payload:
    def __reduce__(self):
        return print, ("this ran",)


def test_what_could_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"head.weight": Payload()}}, path)
    words = r"(?s)alone \(it holds print\). .*can run code.* where you trust it.*torch.load\(PICKLE, weights_only"
    with pytest.raises(weights.WeightsError, match=words):
        weights.read(path)
    assert "this ran" not in capsys.readouterr().out
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ViT-B-16/constants.pkl", b"")
    with pytest.raises(weights.WeightsError, match="(?s)TorchScript archive.*torch.jit.load"):
        weights.read(path)
    torch.save([1, 2], path)
    with pytest.raises(weights.WeightsError, match="no parameters by name"):
        weights.read(path)


STATE = {"norm.weight": torch.ones(3), "blocks.0.norm1.weight": torch.zeros(3)}
WRAPPED = {
    **{key: {key: STATE, "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}} for key in
       ("state_dict", "model_state_dict", "model", "model_state", "module", "net", "teacher", "model_ema")},
    "twice": {"state_dict": {"model": STATE}},
    "beside its average": {"model": STATE, "model_ema": {"norm.weight": torch.zeros(1)}},
    "beside its settings": {"state_dict": STATE, "model": {"depth": 12}},
    "parallel and compiled": {f"module._orig_mod.{key}": value for key, value in STATE.items()},
    "compiled and parallel": {f"_orig_mod.module.{key}": value for key, value in STATE.items()},
    "compiled by block": {"norm.weight": STATE["norm.weight"], "blocks.0._orig_mod.norm1.weight": torch.zeros(3)},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_usual_wrappings_are_taken_off(how, tmp_path):
    torch.save(WRAPPED[how], tmp_path / "w.pth")
    read = weights.read(tmp_path / "w.pth")[0]
    assert read.keys() == STATE.keys() and all(torch.equal(read[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("pair", [("student", "teacher"), ("model", "net")])
def test_of_several_sets_of_parameters_none_is_chosen(pair, tmp_path):
    torch.save(dict.fromkeys(pair, STATE), tmp_path / "w.pth")
    with pytest.raises(
        weights.WeightsError, match=r"holds 2 sets of parameters: .*; save the one .*torch.load\(FILE\)"
    ):
        weights.read(tmp_path / "w.pth")


def test_a_safetensors_file_of_a_compiled_model_is_read(tmp_path):
    save_file({f"_orig_mod.{key}": value for key, value in STATE.items()}, tmp_path / "w.safetensors")
    assert weights.read(tmp_path / "w.safetensors")[0].keys() == STATE.keys()


def test_a_self_supervised_teacher_is_read_without_its_head(tmp_path):
    torch.manual_seed(0)
    theirs = lively(timm.models.VisionTransformer(**CLIP, num_classes=0))
    state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"teacher": state | {"head.mlp.0.weight": torch.zeros(4, 4)}}, tmp_path / "w.pth")
    ours = frames_of(timm.models.VisionTransformer(**CLIP, num_classes=0), classes=None)
    report = weights.load(ours, tmp_path / "w.pth")
    assert report.layout == "timm ViT" and report.dropped == ["head.mlp.0.weight"]
    assert torch.equal(ours.cls_token, theirs.cls_token)

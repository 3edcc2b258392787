"""Files of plugins with side modalities: whole models, single modalities, first steps, and strictness."""

import re
import warnings

import pytest
import timm
import torch
from test_modality import METHODS, WIDTHS, build, each_method, enliven, same, side, some, step, video  # noqa: F401
from test_model import HEADS, tiny

import cm3t
from cm3t import backbones
from cm3t.backbones.weights import WeightsError
from cm3t.methods import PRESETS, parse_method
from cm3t.model import CM3T


def clone(model: CM3T) -> dict:
    return {name: tensor.clone() for name, tensor in model.plugin_state_dict().items()}


@each_method
def test_a_whole_model_comes_back_exactly_head_copies_included(key, video, side, tmp_path):  # noqa: F811
    model = build(key)
    model.train_stage("cross")
    enliven(model)
    path = model.save_plugins(tmp_path / "all.safetensors")
    other = build(key, lively=False)
    other.load_plugins(path)
    with torch.no_grad():
        same(other(video, side), model(video, side), 0)
        same(other(video), model(video), 0)
    assert clone(other).keys() == clone(model).keys()


@pytest.mark.parametrize("key", ["caa", "full", "mmca", "late"])
def test_a_second_step_starts_from_the_file_of_the_first(key, video, side, tmp_path):  # noqa: F811
    method, overrides = METHODS[key]
    first = CM3T(tiny(), parse_method(method, **overrides).vision, HEADS).double()
    enliven(first).eval()
    path = first.save_plugins(tmp_path / "first.safetensors")
    second = build(key)
    before = {name: p.clone() for name, p in second.side.state_dict().items()}
    second.load_plugins(path)
    same(second(video), first(video), 0)
    assert all(torch.equal(p, second.side.state_dict()[name]) for name, p in before.items())
    pt = CM3T(tiny(), "pt", HEADS).double().save_plugins(tmp_path / "pt.safetensors")
    with pytest.raises(WeightsError, match='method is .*"pt".* in the file'):
        second.load_plugins(pt)


@pytest.mark.parametrize("key", [key for key in some if key != "mmca"])
def test_one_modality_comes_back_exactly_and_leaves_the_others(key, video, side, tmp_path):  # noqa: F811
    model = build(key)
    if key not in ("pt", "full"):  # whose up-projection is the fusion's: these train together
        model.train_stage("audio")
        enliven(model)
    path = model.save_modality("audio", tmp_path / "audio.safetensors")
    other = build(key, add=("flow",))
    before = clone(other)
    other.load_modality(path)
    after = other.plugin_state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert other.modalities == ("flow", "audio")
    model.train_stage("all")
    same(other.eval()(video, side), model.eval()(video, side), 0)


def test_what_modalities_share_is_a_file_of_its_own(video, side, tmp_path):  # noqa: F811
    model = build("caa")
    model.train_stage("cross")
    enliven(model)
    parts = [model.save_modality(name, tmp_path / f"{name}.safetensors") for name in (*WIDTHS, "fusion")]
    vision = tmp_path / "vision.safetensors"
    bare = CM3T(tiny(), "mhva+pt", HEADS).double()
    enliven(bare).save_plugins(vision)
    other = build("caa", add=(), lively=False)
    other.load_plugins(vision)
    with pytest.raises(WeightsError, match="holds what modalities share, and .* none: add the modalities first$"):
        other.load_modality(parts[-1])
    for path in parts:
        other.load_modality(path)
    same(other.eval()(video, side), model(video, side), 0)


@pytest.mark.parametrize("part, stage", [("audio", "audio"), ("fusion", "cross")])
@torch.no_grad()
def test_copies_of_the_heads_that_a_file_has_not_are_dropped(part, stage, video, side, tmp_path):  # noqa: F811
    model, other = build("caa"), build("caa")
    other.train_stage(stage)
    enliven(other).train_stage("all")
    kept = clone(other)
    other.eval().load_modality(model.save_modality(part, tmp_path / "part.safetensors"), heads=False)
    assert clone(other).keys() == kept.keys(), "without heads its own stay"
    other.load_modality(tmp_path / "part.safetensors")
    same(other(video, side), model(video, side), 0)
    if part == "fusion":
        with pytest.raises(ValueError, match="what modalities share, which has no other name; leave out name='flow'"):
            other.load_modality(tmp_path / "part.safetensors", name="flow")


def test_a_modality_of_another_backbone_or_of_other_weights_is_refused(tmp_path):
    model, other = build("caa"), build("caa", add=())
    path = model.save_modality("audio", tmp_path / "audio.safetensors")
    with torch.no_grad():
        next(other.backbone.parameters()).add_(1)
    with pytest.raises(WeightsError, match=r"other weights of this backbone, .*check_weights=False loads anyway"):
        other.load_modality(path)
    assert other.modalities == ()
    other.load_modality(path, check_weights=False)
    assert other.modalities == ("audio",)
    stranger = build("caa", add=())
    stranger.backbone.name = "another"
    with pytest.raises(WeightsError, match='backbone is "tiny" in the file, "another" here'):
        stranger.load_modality(path)


def test_what_a_chain_shares_knows_the_order_of_its_modalities(tmp_path):
    model, other = build("mmca"), build("mmca", add=("flow", "audio"))
    path = model.save_modality("fusion", tmp_path / "fusion.safetensors")
    with pytest.raises(WeightsError, match="trained on audio, flow in this order; here are flow, audio"):
        other.load_modality(path)
    build("mmca").load_modality(path)


def test_a_fusion_says_which_modality_it_has_not_met(tmp_path):
    model, other = build("caa"), build("caa")
    path = model.save_modality("fusion", tmp_path / "fusion.safetensors")
    other.add_modality("words", 3)
    with pytest.warns(UserWarning, match=r'trained on audio, flow and has not met words: .*train_stage\("fusion"\)'):
        other.load_modality(path)
    other.remove_modality("words")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_modality(path)


def test_a_modality_is_reused_under_another_name_and_for_other_classes(video, side, tmp_path):  # noqa: F811
    model = build("add")
    model.train_stage("audio")
    enliven(model)
    path = model.save_modality("audio", tmp_path / "audio.safetensors")
    other = CM3T(tiny(), parse_method("mhva+pt+caa", caa_join="add"), {"traits": 3}).double()
    with pytest.raises(WeightsError, match='heads is .*"verb": 5.* in the file, .*"traits": 3.* here'):
        other.load_modality(path)
    assert other.modalities == ()
    other.load_modality(path, name="speech", heads=False)
    assert other.modalities == ("speech",) and not other.side["speech"].heads
    state = model.side["audio"].cross.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.side["speech"].cross.state_dict().items())
    assert other(video, {"speech": side["audio"]})["traits"].shape == (4, 3)


def test_files_that_do_not_fit_are_refused_by_what_differs(tmp_path):
    model = build("caa")
    audio = model.save_modality("audio", tmp_path / "audio.safetensors")
    whole = model.save_plugins(tmp_path / "whole.safetensors")
    narrow = build("caa", add=())
    narrow.add_modality("audio", 9)
    with pytest.raises(WeightsError, match=r'audio is \{"width": 6.* in the file, \{"width": 9.* here'):
        narrow.load_modality(audio)
    with pytest.raises(WeightsError, match=r"remove_modality\('audio'\) and load the file anew") as refused:
        narrow.load_modality(audio)
    assert "heads=False" not in str(refused.value), "no remedy: the heads agree"
    narrow.remove_modality("audio")
    narrow.load_modality(audio)
    with pytest.raises(WeightsError, match='cross.form is "double" in the file, "token_gate" here'):
        build("gate").load_modality(audio)
    with pytest.raises(WeightsError, match="read it with load_modality"):
        model.load_plugins(audio)
    with pytest.raises(WeightsError, match="read it with load_plugins"):
        model.load_modality(whole)
    with pytest.raises(
        WeightsError, match="(?s)modalities is .*flow.* in the file.*with add_modality.'audio', width=6"
    ):
        build("caa", add=("audio",)).load_plugins(whole)
    with pytest.raises(WeightsError, match="the file fits cm3t.CM3T.*, caa_form='token_gate'.*'flow', width=4"):
        model.load_plugins(build("gate").save_plugins(tmp_path / "gate.safetensors"))
    with pytest.raises(ValueError, match="no modality 'speech' to save; there are audio, flow, fusion"):
        model.save_modality("speech", tmp_path / "speech.safetensors")
    rigid = build("mmca").save_plugins(tmp_path / "mmca.safetensors")
    with pytest.raises(WeightsError, match="modalities is .*audio.*flow.* in the file, .*flow.*audio.* here"):
        build("mmca", add=("flow", "audio")).load_plugins(rigid)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_remedy_for_a_file_of_a_preset_makes_a_model_that_takes_it(tmp_path, preset):
    saved = CM3T(tiny(), parse_method("mhva+pt+caa", preset=preset, caa_form="standard"), HEADS)
    file = saved.save_plugins(tmp_path / "preset.safetensors")
    with pytest.raises(WeightsError) as error:
        CM3T(tiny(), "pt", HEADS).load_plugins(file)
    (call,) = re.findall(r"the file fits (cm3t.CM3T\(.*\)) on your BACKBONE 'tiny'", str(error.value))
    assert ("preset=" in call) == (preset != "default") and "caa_form='standard'" in call
    eval(call, {"cm3t": cm3t, "BACKBONE": tiny()}).load_plugins(file)


def test_the_remedy_for_a_network_of_cm3ts_is_create(tmp_path):
    saved = cm3t.create("vivit_mini", method="mhva", heads=HEADS, weights=None, cells=3)
    with pytest.raises(WeightsError) as error:
        CM3T(tiny(), "pt", HEADS).load_plugins(saved.save_plugins(tmp_path / "named.safetensors"))
    (given,) = re.findall(r"the file fits cm3t.create\((.*)\)", str(error.value))
    assert eval(f"cm3t.create({given}, weights=None)").method == saved.method


def test_the_remedy_for_a_wrapped_network_wraps_it(tmp_path):
    def wrapped(name):
        return backbones.wrap(timm.create_model(name, depth=1, img_size=32), frames=2)

    saved = CM3T(wrapped("vit_tiny_patch16_224"), "pt", HEADS).save_plugins(tmp_path / "vit.safetensors")
    words = (
        r"fits cm3t.CM3T\(cm3t.backbones.wrap\(timm.create_model\('vit_tiny_patch16_224'\), frames=8\), 'pt', {'verb'"
    )
    with pytest.raises(WeightsError, match=words):
        CM3T(wrapped("vit_tiny_patch16_384"), "pt", HEADS).load_plugins(saved)


def test_a_refused_state_lists_its_keys_and_changes_nothing(tmp_path):
    model = build("caa")
    state = clone(model)
    state["side.audio.cross.7.query.weight"] = state.pop("side.audio.cross.1.query.weight")
    state["fusion.0.up.bias"] = torch.zeros(9)
    state["joint_heads.verb.bias"] = torch.zeros(5)
    before = clone(model)
    with pytest.raises(WeightsError) as error:
        model.load_plugin_state_dict(state)
    for line in (
        "missing key side.audio.cross.1.query.weight",
        "unexpected key side.audio.cross.7.query.weight",
        "fusion.0.up.bias has shape (9,), the model's is (8,)",
        "missing key joint_heads.verb.weight",
    ):
        assert line in str(error.value)
    assert before.keys() == clone(model).keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in clone(model).items())


def test_a_modality_whose_keys_do_not_fit_is_not_left_half_added(tmp_path, monkeypatch):
    model = build("caa")
    part = model._part("audio")
    monkeypatch.setattr(model, "_part", lambda name: {k: v for k, v in part.items() if "query" not in k})
    path = model.save_modality("audio", tmp_path / "audio.safetensors")
    other = build("caa", add=("flow",))
    with pytest.raises(WeightsError, match="6 keys(.|\n)*missing key cross.0.query.weight"):
        other.load_modality(path)
    assert other.modalities == ("flow",)


def test_files_from_before_there_were_modalities_still_load(video, tmp_path, monkeypatch):  # noqa: F811
    model = CM3T(tiny(), "mhva+pt", HEADS).double()
    about = model._description()
    assert "cross" not in about["method"]
    monkeypatch.setattr(model, "_description", lambda: {k: v for k, v in about.items() if k != "modalities"})
    path = model.save_plugins(tmp_path / "old.safetensors")
    CM3T(tiny(), "mhva+pt", HEADS).double().load_plugins(path)


def test_training_goes_on_after_loading(video, side, tmp_path):  # noqa: F811
    model = build("caa")
    path = model.save_plugins(tmp_path / "all.safetensors")
    other = build("caa", lively=False)
    other.train_stage("cross")
    other.load_plugins(path)  # drops the copy of the heads, which the file has not
    assert not other.joint_heads
    other.train_stage("cross")
    before = clone(other)
    step(other, video, side)
    moved = {k.split(".")[0] for k, v in other.plugin_state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"side", "fusion", "joint_heads"}

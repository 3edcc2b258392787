"""CM3T: identity at step 0, what trains, disabling, strict files that reach a fresh process, and what it refuses."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import cm3t
from cm3t import backbones
from cm3t.assembly.attach import cells_of, map_sides, matched
from cm3t.backbones.contract import ContractError
from cm3t.backbones.video_swin import VideoSwin
from cm3t.backbones.weights import WeightsError
from cm3t.methods import parse_method
from cm3t.model import CM3T

HEADS = {"verb": 5, "noun": 7}
PLUGIN_METHODS = ["adaptformer", "adaptformer+pt", "pt", "mhva", "mhva+pt", "adaptformer+cells"]


def tiny(**options) -> VideoSwin:
    """Three blocks of widths 8, 16, 32 on maps of 6, 3 and 2 tokens a side (3 merges to 2 by padding)."""
    torch.manual_seed(0)
    sizes = dict(patch_size=(2, 4, 4), window=(2, 3, 3), embed_dim=8, depths=[1, 1, 1], num_heads=[2, 2, 2])
    return VideoSwin(name="tiny", clip=(4, 24, 24), prefix_length=2, **sizes, **options)


def build(method: str, **overrides) -> CM3T:
    return CM3T(tiny(), parse_method(method, **overrides), HEADS)


@pytest.fixture
def video() -> torch.Tensor:
    return torch.randn(2, 3, 4, 24, 24, generator=torch.Generator().manual_seed(1))


def step(model: CM3T, video: torch.Tensor, lr: float = 0.1) -> None:
    """One step of plain gradient descent on the sum of squared logits."""
    model.train()
    sum((logits - 1).square().sum() for logits in model(video).values()).backward()
    with torch.no_grad():
        for p in model.trainable_parameters().values():
            if p.grad is not None:
                p -= lr * p.grad
    model.zero_grad()


@pytest.mark.parametrize("method", ["mhva", "adaptformer", "adaptformer+cells+scale+norm", "linear", "full"])
def test_step_0_is_the_backbone_bit_for_bit(method, video):
    model = build(method).eval()
    assert torch.equal(model.features(video), model.backbone(video))


@pytest.mark.parametrize("method", PLUGIN_METHODS)
def test_training_changes_the_features_and_disabling_takes_that_back_bit_for_bit(method, video):
    model = build(method)
    before = model.backbone(video)
    for _ in range(2):
        step(model, video)
    model.eval()
    assert not torch.equal(model.features(video), before)
    with model.disabled():
        assert torch.equal(model.features(video), before)
        assert torch.equal(model(video)["verb"], model.heads["verb"](before))
    assert not torch.equal(model.features(video), before)


@pytest.mark.parametrize("method", [*PLUGIN_METHODS, "linear"])
def test_gradient_reaches_plugins_and_heads_only(method, video):
    model = build(method)
    digest = model.backbone_digest()
    step(model, video)  # moves the zero up-projections, so that the next gradient reaches all else
    sum(logits.square().sum() for logits in model(video).values()).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == set(model.trainable_parameters())
    assert not any(name.startswith("backbone.") for name in reached)
    assert model.backbone_digest() == digest


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_full_fine_tuning_and_scratch_train_everything(method, video):
    model = build(method)
    sum(logits.square().sum() for logits in model(video).values()).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == set(dict(model.named_parameters()))


def test_a_frozen_backbone_stays_in_eval_mode_and_batch_norms_do_in_every_method():
    model = build("mhva").train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.adapters.training and model.heads.training
    full = cm3t.create("video_swin_mini", method="full", heads=HEADS, weights=None).train()
    norms = [m for m in full.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert full.backbone.training and norms and not any(m.training for m in norms)


def test_the_ladder_ends_at_mhva(video):
    ladder, mhva = build("adaptformer+cells+scale+norm", reduction=4), build("mhva")
    state = {k: torch.randn_like(v) for k, v in mhva.plugin_state_dict().items()}
    for model in (ladder, mhva):
        model.load_plugin_state_dict(state)
    assert torch.equal(ladder(video)["noun"], mhva(video)["noun"])
    assert str(ladder.summary()).splitlines()[1:] == str(mhva.summary()).splitlines()[1:]


def test_a_prefix_is_seen_by_every_window_and_two_prefixes_differ(video):
    one, two = build("pt").eval(), build("pt", prefix_length=5).eval()
    assert [len(p.embedding) for p in one.prefixes] == [2] * 3
    assert [len(p.embedding) for p in two.prefixes] == [5] * 3
    change = one.backbone.blocks[0].attention(one.backbone.embed(video))
    prefix = one.prefixes[0](one.backbone.blocks[0].attn.project_prefix)
    change = change - one.backbone.blocks[0].attention(one.backbone.embed(video), prefix)
    assert (change.abs().amax(-1) > 0).all()


@pytest.mark.slow
def test_cells_fall_back_to_one_where_they_do_not_divide_the_map():
    backbone = tiny()
    assert map_sides(backbone, (4, 24, 24)) == [(6, 6), (3, 3), (2, 2)]
    assert cells_of(backbone, 2, (4, 24, 24)) == [2, 1, 2]
    assert cells_of(backbone, 3, (4, 24, 24)) == [3, 3, 1]
    with torch.device("meta"):
        swin = cm3t.create("video_swin_b", method="mhva")
    assert [a.cells for a in swin.adapters] == [2] * 22 + [1] * 2


def test_a_shared_adapter_can_match_the_parameters_of_the_cells():
    cells = cm3t.create("video_swin_mini", method="mhva", learnable_scale=False, weights=None).summary()
    shared = cm3t.create(
        "video_swin_mini", method="mhva", learnable_scale=False, cells=1, match_cells=2, weights=None
    ).summary()
    assert shared.trainable == pytest.approx(cells.trainable, rel=0.005)
    assert matched(48, 12, 1) == 12


def test_cells_that_divide_no_map_are_an_error_with_the_remedy():
    with pytest.raises(ValueError, match=r"cells=5 .*6 x 6 by \[1, 2, 3, 6\]"):
        build("mhva", cells=5)


def test_another_clip_size_settles_its_own_cells(video):
    model = CM3T(tiny(), "mhva", HEADS, clip=(4, 32, 32))
    assert [a.cells for a in model.adapters] == [2, 2, 2]
    assert model(torch.zeros(1, 3, 4, 32, 32))["verb"].shape == (1, 5)
    with pytest.raises(ValueError, match="cells=2 does not divide the 3 x 3 token map"):
        model(video)


@pytest.mark.parametrize("method", [*PLUGIN_METHODS, "linear", "full"])
def test_saved_plugins_load_into_another_model_exactly(method, video, tmp_path):
    model = build(method)
    step(model, video)
    path = model.save_plugins(tmp_path / "plugins.safetensors")
    other = build(method)
    other.load_plugins(path)
    assert torch.equal(other.eval()(video)["noun"], model.eval()(video)["noun"])
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["cm3t"])["cm3t"] == cm3t.__version__
        assert any(key.startswith("backbone.") for key in file.keys()) == (method == "full")


@pytest.mark.slow  # a fresh process imports torchvision
def test_saved_plugins_reach_a_fresh_process(video, tmp_path):
    """The other process knows the two files alone: the backbone's weights, the plugins."""
    model = build("mhva+pt")
    step(model, video)
    model.save_plugins(tmp_path / "plugins.safetensors")
    save_file(model.backbone.state_dict() | {"video": video}, tmp_path / "backbone.safetensors")
    code = (
        "import sys, torch; from safetensors.torch import load_file, save_file\n"
        "sys.path.insert(0, sys.argv[2]); torch.set_num_threads(1); from test_model import build\n"
        "state = load_file(sys.argv[1] + '/backbone.safetensors'); video = state.pop('video')\n"
        "model = build('mhva+pt').eval(); model.backbone.load_state_dict(state)\n"
        "model.load_plugins(sys.argv[1] + '/plugins.safetensors')\n"
        "save_file({k: v.detach().contiguous() for k, v in model(video).items()}, sys.argv[1] + '/out.safetensors')\n"
    )
    here = str(__import__("pathlib").Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), here], check=True)
    out = load_file(tmp_path / "out.safetensors")
    assert torch.equal(out["verb"], model.eval()(video)["verb"])


def test_every_key_that_does_not_fit_is_listed_in_one_error():
    model = build("mhva")
    state = model.plugin_state_dict()
    state["adapters.9.down"] = state.pop("adapters.1.down")
    state["heads.verb.bias"] = torch.zeros(6)
    before = model.heads["noun"].weight.clone()
    state["heads.noun.weight"] = before + 1
    with pytest.raises(WeightsError) as error:
        model.load_plugin_state_dict(state)
    for line in (
        "3 keys",
        "missing key adapters.1.down",
        "unexpected key adapters.9.down",
        "heads.verb.bias has shape (6,), the model's is (5,)",
    ):
        assert line in str(error.value)
    assert torch.equal(model.heads["noun"].weight, before), "a refused state must change nothing"


def test_a_pickle_is_refused(tmp_path):
    model = build("mhva")
    torch.save(model.plugin_state_dict(), tmp_path / "plugins.pt")
    with pytest.raises(WeightsError, match="refused"):
        model.load_plugins(tmp_path / "plugins.pt")


def test_a_cut_off_file_and_one_of_bare_tensors_are_refused(tmp_path):
    model = build("mhva")
    whole = model.save_plugins(tmp_path / "plugins.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="a safetensors file"):
        model.load_plugins(tmp_path / "cut.safetensors")
    save_file(model.plugin_state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="does not say what it holds"):
        model.load_plugins(tmp_path / "bare.safetensors")


def test_plugins_of_another_method_backbone_or_weights_are_refused_by_name(tmp_path, video):
    path = build("mhva").save_plugins(tmp_path / "plugins.safetensors")
    remedy = r"the file fits cm3t.CM3T\(BACKBONE, 'mhva', {'verb': 5, 'noun': 7}\) on your BACKBONE 'tiny'"
    with pytest.raises(WeightsError, match=f'(?s)method is "mhva" in the file, "mhva.pt" here.*{remedy}'):
        build("mhva+pt").load_plugins(path)
    with pytest.raises(WeightsError, match='adapter.input is "norm" in the file, "raw" here'):
        build("mhva", adapter_input="raw").load_plugins(path)  # the same keys and shapes
    with pytest.raises(WeightsError, match='backbone is "tiny" in the file, "video_swin_mini" here'):
        cm3t.create("video_swin_mini", method="mhva", heads=HEADS, weights=None).load_plugins(path)
    other = build("mhva")
    torch.nn.init.normal_(other.backbone.norm.weight)
    with pytest.raises(WeightsError, match="other weights"):
        other.load_plugins(path)
    other.load_plugins(path, check_weights=False)


def test_a_failed_save_leaves_the_older_file(tmp_path, monkeypatch):
    model = build("mhva")
    path = model.save_plugins(tmp_path / "plugins.safetensors")
    before = path.read_bytes()

    def full_disk(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("cm3t.assembly.plugin_file.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save_plugins(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_summary_prints_the_papers_share_and_names_its_denominator():
    with torch.device("meta"):
        text = str(cm3t.create("video_swin_b", method="mhva+pt", heads={"verb": 97, "noun": 300}).summary())
    assert "share of video_swin_b with its 400-class head (88,048,984 parameters)" in text
    assert "10,865,944   12.3 %" in text and "385,024" in text
    assert "trained, without heads      11,250,968   12.8 %" in text
    assert f"{397 * 1025:,}" in text, "heads are listed, outside the share"


@pytest.mark.slow
def test_the_summary_of_full_fine_tuning_says_what_its_100_percent_are():
    with torch.device("meta"):
        model = cm3t.create("video_swin_b", method="full+caa", heads={"verb": 97})
        model.add_modality("audio", width=1024)
    lines = str(model.summary()).splitlines()
    assert "share of video_swin_b with its 400-class head (88,048,984 parameters)" in lines[0]
    shares = {line[:26].strip(): float(line.split()[-2]) for line in lines if line.endswith(" %")}
    total = shares.pop("trained, without heads")
    assert shares["backbone"] == 100.0 and total == pytest.approx(sum(shares.values()), abs=0.2)
    assert lines[-1] == "  a backbone that trains counts as 100 %, though its pretraining head is replaced"


def test_byte_videos_and_closed_backbones_are_refused(video):
    with pytest.raises(TypeError, match="normalise"):
        build("mhva")(video.to(torch.uint8))
    closed = tiny()
    for block in closed.blocks:
        block.attn = torch.nn.Identity()
    with pytest.raises(ContractError, match="block 0 .* prefix tuning cannot open"):
        CM3T(closed, "mhva+pt", HEADS)
    assert len(CM3T(closed, "mhva", HEADS).adapters) == 3


def test_the_prefix_drops_out_in_training_alone_and_files_tell_it(video, tmp_path):
    torch.manual_seed(0)
    model = CM3T(tiny(), parse_method("pt", prefix_dropout=0.5), HEADS)
    assert [prefix.dropout for prefix in model.prefixes] == [0.5] * 3
    assert cm3t.create("vivit_mini", method="pt", prefix_dropout=0.1, weights=None).prefixes[0].dropout == 0.1
    with torch.no_grad():
        assert not torch.equal(model(video)["verb"], model(video)["verb"])
        model.eval()
        assert torch.equal(model(video)["verb"], model(video)["verb"])
    with pytest.raises(WeightsError, match=r"prefix.dropout is 0.5 in the file, 0.0 here(.|\n)*prefix_dropout=0.5"):
        CM3T(tiny(), "pt", HEADS).load_plugins(model.save_plugins(tmp_path / "p.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_plugins_are_made_in_the_backbones_precision(dtype, video):
    video = video.to(dtype)
    model = CM3T(tiny().to(dtype), "mhva+caa", HEADS).eval()
    model.add_modality("audio", width=6)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(model.features(video), model.backbone(video))  # step 0, bit for bit
    side = {"audio": torch.randn(2, 3, 6, dtype=dtype)}
    assert torch.equal(model.features(video, side), model.backbone(video))
    out = CM3T(tiny().to(dtype), "mhva+pt", HEADS).eval()(video)["verb"]
    assert out.dtype == dtype and out.isfinite().all()
    vit = timm.models.VisionTransformer(img_size=24, patch_size=6, embed_dim=24, depth=2, num_heads=2)
    wrapped = CM3T(backbones.wrap(vit.to(dtype), frames=4), "mhva+pt", HEADS).eval()
    assert wrapped(video)["noun"].dtype == dtype


def test_a_video_on_another_device_is_refused_with_the_remedy(video):
    model = build("mhva+caa")
    model.add_modality("audio", width=6)
    words = r"tiny: video is on meta, the weights are on cpu; hand in video.to\('cpu'\), or move .*model.to\('meta'\)"
    for given in ({}, {"side": {"audio": torch.zeros(2, 3, 6)}}):
        with pytest.raises(TypeError, match=words):
            model(video.to("meta"), **given)
    for network in (model.backbone, cm3t.backbone("vivit_mini")):
        with pytest.raises(TypeError, match="video is on meta, the weights are on cpu"):
            network(video.to("meta"))


def test_with_one_seed_every_method_starts_from_the_same_heads():
    first, *others = (build(method) for method in (*PLUGIN_METHODS, "linear", "full"))
    assert all(torch.equal(first.heads["verb"].weight, other.heads["verb"].weight) for other in others)


def test_scratch_ignores_pretrained_weights_and_head_dropout_acts_in_training(video):
    assert cm3t.create("video_swin_mini", method="scratch", weights="no such file").method.trains == "scratch"
    model = CM3T(tiny(), "linear", HEADS, head_dropout=0.5)
    assert not torch.equal(model(video)["verb"], model(video)["verb"])
    assert torch.equal(model.eval()(video)["verb"], model(video)["verb"])


def test_random_weights_by_mistake_are_told_and_by_wish_are_not(recwarn):
    with pytest.warns(
        UserWarning, match="video_swin_mini has random weights.*weights='default'.*weights=None if"
    ) as told:
        cm3t.create("video_swin_mini", method="linear")
    assert told[0].filename == __file__
    recwarn.clear()
    for given in ({"weights": None}, {"method": "scratch"}, {"weights": "default"}):
        cm3t.create("video_swin_mini", **({"method": "linear"} | given))
    with torch.device("meta"):
        cm3t.create("video_swin_b", method="linear")  # shapes without memory: no weights to speak of
    assert not [one for one in recwarn if one.category is UserWarning and "weights" in str(one.message)]


@pytest.mark.parametrize(
    "heads, kind, words",
    [
        ({"verb": "97"}, TypeError, "heads={'verb': '97'}: a word and an integer are needed; give {name: number of"),
        ({"verb": 2.5}, TypeError, "an integer"),
        ({1: 5}, TypeError, "a word"),
        (["verb"], TypeError, "heads is a list, .* such as {'verb': 97, 'noun': 300}"),
        (97, TypeError, "heads is an int"),
        ({"verb": 0}, ValueError, "at least 1 class"),
        ({"keys": 5}, ValueError, "a plain word"),
    ],
)
def test_heads_that_are_none_are_refused_with_an_example(heads, kind, words):
    with pytest.raises(kind, match=words):
        CM3T(tiny(), "linear", heads)


BUILT = r"built for clips of \(T, H, W\) = \(4, 24, 24\), these are .*: resize or sample them"


def test_a_clip_that_does_not_fit_is_told_what_the_model_was_built_for(video):
    remedy = r", or build a model for them: create\(..., clip=\(4, 28, 28\)\), of a wrapped .*clip=\(4, 28, 28\)\)$"
    with pytest.raises(ValueError, match="cells=2 does not divide the 7 x 7 token map.*" + BUILT + remedy):
        build("mhva")(torch.zeros(1, 3, 4, 28, 28))
    for size in (28, 32):  # and so it is: 7 x 7 merges to 4 x 4
        video = torch.zeros(1, 3, 4, size, size)
        assert CM3T(tiny(), "mhva", HEADS, clip=(4, size, size))(video)["noun"].shape == (1, 7)
    with pytest.raises(ValueError, match="channel-last") as error:  # no clip at all: the remedy is another
        build("mhva")(video.movedim(1, -1))
    assert "built for" not in str(error.value)


def test_where_no_model_could_be_built_for_a_clip_none_is_proposed():
    with pytest.raises(ValueError, match="cells=3 does not divide the 4 x 4 token map.*" + BUILT + "$"):
        build("mhva", cells=3)(torch.zeros(1, 3, 4, 16, 16))  # maps of 4, 2 and 1
    vivit = cm3t.create("vivit_mini", method="mhva", heads=HEADS, weights=None)
    for clip in ((7, 96, 96), (8, 100, 96), (0, 96, 96)):
        with pytest.raises(ValueError, match=r"does not divide into patches.* these are .*: resize or sample them$"):
            vivit(torch.zeros(1, 3, *clip))
    eight = CM3T(tiny(), parse_method("mhva", preset="eight"), HEADS)
    with pytest.raises(ValueError, match="time_cells=2 does not divide the 1 frames.*" + BUILT + "$"):
        eight(torch.zeros(1, 3, 2, 24, 24))

"""Side modalities in a model: missing ones, adding and removing, stages of training, and what is refused."""

import pytest
import torch
from test_model import HEADS, tiny

from cm3t.methods import parse_method
from cm3t.model import CM3T, create

WIDTHS = {"audio": 6, "flow": 4}
LENGTHS = {"audio": 7, "flow": 1}
METHODS = {
    "caa": ("mhva+pt+caa", {}),
    "add": ("mhva+pt+caa", {"caa_join": "add"}),
    "generic": ("mhva+caa", {"caa_source": "generic"}),
    "standard": ("adaptformer+caa", {"caa_form": "standard"}),
    "gate": ("mhva+caa", {"caa_form": "token_gate"}),
    "stages": ("mhva+caa", {"caa_stages": (2, 3)}),
    "pt": ("pt+caa", {}),
    "linear": ("linear+caa", {"caa_join": "add"}),
    "full": ("full+caa", {}),
    "mmca": ("mhva+pt+mmca", {}),
    "late": ("mhva+pt+late", {}),
    "linear+late": ("linear+late", {}),
}
PRESENT = {"audio": torch.tensor([True, False, True, False]), "flow": torch.tensor([True, True, False, False])}
QUICK = ("caa", "mmca", "late")  # the others are slow only for being many
some = [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in METHODS]
each_method = pytest.mark.parametrize("key", some)


def build(key: str, *, add: tuple[str, ...] = ("audio", "flow"), lively: bool = True) -> CM3T:
    """A model of METHODS in float64; lively: no weight that its training could move is left at its start."""
    method, overrides = METHODS[key]
    model = CM3T(tiny(), parse_method(method, **overrides), HEADS).double()
    for name in add:
        encoder = "transformer" if name == "audio" else None
        model.add_modality(name, WIDTHS[name], length=LENGTHS[name] if encoder else None, encoder=encoder, embed=8)
    return enliven(model).eval() if lively else model.eval()


def enliven(model: CM3T) -> CM3T:
    """Random plugins and heads; the same for the same set of names, in whatever order they were added."""
    for name, tensor in sorted(model.named_parameters()):
        if not name.startswith("backbone."):
            rng = torch.Generator().manual_seed(sum(map(ord, name)))
            tensor.data = 0.3 * torch.randn(tensor.shape, generator=rng, dtype=tensor.dtype)
    for name, modality in model.side.items():
        modality.mean.fill_(0.1 * len(name)), modality.spread.fill_(0.2 * len(name))
    return model


@pytest.fixture
def video() -> torch.Tensor:
    return torch.randn(4, 3, 4, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def side() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    return {n: torch.randn(4, LENGTHS[n], WIDTHS[n], generator=rng, dtype=torch.float64) for n in WIDTHS}


def broken(side: dict, garbage: float = float("nan")) -> dict:
    """The side tokens with garbage where PRESENT says that a modality is absent."""
    return {name: torch.where(PRESENT[name][:, None, None], tokens, garbage) for name, tokens in side.items()}


def same(a: dict, b: dict, tolerance: float = 1e-10) -> None:
    for name in HEADS:
        torch.testing.assert_close(a[name], b[name], atol=tolerance, rtol=0)


def step(model: CM3T, video, side, present=None, lr: float = 0.05) -> None:
    model.train()
    model.zero_grad()
    sum((logits - 1).square().mean() for logits in model(video, side, present).values()).backward()
    with torch.no_grad():
        for p in model.trainable_parameters().values():
            if p.grad is not None:
                p -= lr * p.grad
    model.eval()


def test_a_calibrated_modality_hands_on_what_its_training_tokens_do_not_share(side):
    """(m - mean) / spread of each channel: the training tokens themselves get mean 0 and spread 1."""
    (flow,) = build("caa", add=("flow",)).side.values()
    tokens = side["flow"] * torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.tensor([5.0, 0.0, -5.0, 9.0])
    flow.calibrate(tokens)
    expected = (tokens - tokens.mean((0, 1))) / tokens.std((0, 1), correction=0)
    torch.testing.assert_close(flow(tokens), expected, atol=1e-5, rtol=1e-5)
    assert expected.mean((0, 1)).abs().max() < 1e-9


def trained(key: str, stages: tuple[str, ...], **options) -> CM3T:
    """A model of METHODS whose heads were copied, and trained, at these stages."""
    model = build(key, **options)
    for stage in stages:
        model.train_stage(stage)
    model.train_stage("all")
    return enliven(model).eval()


STEPS = [(key, ()) for key in QUICK] + [("caa", ("cross",)), ("mmca", ("cross",)), ("caa", ("audio", "flow"))]
STEPS += [pytest.param(key, (), marks=pytest.mark.slow) for key in METHODS if key not in QUICK]


@pytest.mark.parametrize("key, stages", STEPS)
@torch.no_grad()
def test_a_sample_of_a_mixed_batch_equals_the_model_without_what_it_lacks(key, stages, video, side):
    model = trained(key, stages)
    mixed = model(video, broken(side), PRESENT)
    assert len(model.joint_heads) == len(HEADS) * ("cross" in stages)
    for b in range(4):
        without = trained(key, stages)
        there = {name: tokens[b : b + 1] for name, tokens in side.items() if PRESENT[name][b]}
        for name in set(WIDTHS) - set(there):
            without.remove_modality(name)
        same({name: logits[b : b + 1] for name, logits in mixed.items()}, without(video[b : b + 1], there))


@pytest.mark.parametrize("key", QUICK)
@torch.no_grad()
def test_in_float32_a_sample_keeps_to_1e_6_of_the_model_without_what_it_lacks(key, side):
    """On the backbone and in the precision of the study's runs; elsewhere here it is a toy, in float64."""
    model = create("video_swin_mini", method=METHODS[key][0], heads=HEADS, weights=None)
    for name, width in WIDTHS.items():
        model.add_modality(name, width, length=LENGTHS[name], encoder="transformer")
    for p in model.trainable_parameters().values():
        p.normal_(std=0.05)
    model.eval()
    video = torch.randn(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    tokens = {name: given.float() for name, given in side.items()}
    mixed, vision = model(video, broken(tokens), PRESENT), model(video)
    assert (mixed["verb"][0] - vision["verb"][0]).abs().max() > 1e-3, "what is there is heard"
    for b in range(4):
        without = model(video, {name: given for name, given in tokens.items() if PRESENT[name][b]})
        same({name: logits[b] for name, logits in mixed.items()}, {n: logits[b] for n, logits in without.items()}, 1e-6)


@each_method
@torch.no_grad()
def test_of_three_modalities_a_sample_hears_those_that_it_has(key):
    """All eight ways of having three, in one batch, each against a model that never had the others."""
    widths = WIDTHS | {"transcript": 5}
    rng = torch.Generator().manual_seed(5)
    video = torch.randn(8, 3, 4, 24, 24, generator=rng, dtype=torch.float64)
    given = {name: torch.randn(8, 3, width, generator=rng, dtype=torch.float64) for name, width in widths.items()}
    has = {name: torch.arange(8) // 2**i % 2 == 1 for i, name in enumerate(widths)}

    def model(names):
        made = build(key, add=())
        for name in names:
            made.add_modality(name, widths[name])
        return enliven(made).eval()

    mixed = model(widths)(video, {n: torch.where(has[n][:, None, None], t, torch.nan) for n, t in given.items()}, has)
    for b in range(8):
        there = [name for name in widths if has[name][b]]
        alone = model(there)(video[b : b + 1], {name: given[name][b : b + 1] for name in there})
        same({name: logits[b : b + 1] for name, logits in mixed.items()}, alone)


@each_method
@torch.no_grad()
def test_a_modality_absent_from_the_whole_batch_and_none_present(key, video, side):
    model, alone = build(key), build(key, add=("audio",))
    same(model(video, {"audio": side["audio"]}), alone(video, side := {"audio": side["audio"]}), 0)
    nobody = {"audio": torch.zeros(4, dtype=torch.bool)}
    vision = build(key, add=())(video)
    for out in (model(video), model(video, side, nobody), alone(video, {"audio": side["audio"] * torch.nan}, nobody)):
        same(out, vision, 0)
    model.train_stage("vision")
    with pytest.warns(UserWarning, match="audio: handed over and not heard, .* stage 'vision'; train_stage"):
        same(model(video, side), vision, 0)


@each_method
def test_what_is_absent_reaches_no_gradient(key, video, side):
    found = []
    for garbage in (0.0, float("nan")):
        model = build(key)
        sum(x.square().sum() for x in model(video, broken(side, garbage), PRESENT).values()).backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert all(grad.isfinite().all() for grad in found[-1].values())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@each_method
@torch.no_grad()
def test_a_fresh_modality_changes_nothing_bit_for_bit(key, video, side):
    model = build(key, add=(), lively=False)
    for p in model.adapters.parameters():
        p.normal_(std=0.3)
    before = model(video)
    for name in WIDTHS:
        model.add_modality(name, WIDTHS[name])
        same(model(video, {name: side[name]}), before, 0)
    same(model(video, side), before, 0)
    model.train_stage("cross")
    same(model(video, broken(side), PRESENT), before, 0)


def test_a_newcomer_beside_a_trained_fusion_starts_from_vision_and_leaves_the_others(video, side):
    model = build("caa", add=("audio",))
    with torch.no_grad():
        vision, heard = build("caa", add=())(video), model(video, {"audio": side["audio"]})
        model.add_modality("flow", WIDTHS["flow"])
        model.train_stage("flow")
        same(model(video, {"flow": side["flow"]}), vision, 0)  # whatever the fusion has learned of audio
    step(model, video, {"flow": side["flow"]})
    with torch.no_grad():
        assert (model(video, {"flow": side["flow"]})["verb"] - vision["verb"]).abs().max() > 1e-3
        assert model.fusion_weights(video, {"flow": side["flow"]}) == {}
        model.train_stage("all")
        same({name: model(video, {"audio": side["audio"]})[name] for name in HEADS}, heard, 0)


@pytest.mark.parametrize("key", [key for key in some if key != "mmca"])
@torch.no_grad()
def test_the_order_in_which_modalities_come_does_not_matter(key, video, side):
    one, other = build(key), build(key, add=("flow", "audio"))
    assert one.modalities == ("audio", "flow") and other.modalities == ("flow", "audio")
    same(one(video, side), other(video, {name: side[name] for name in ("flow", "audio")}), 0)


@torch.no_grad()
def test_sequential_attention_is_rigid_its_order_matters(video, side):
    one, other = build("mmca"), build("mmca", add=("flow", "audio"))
    assert (one(video, side)["verb"] - other(video, side)["verb"]).abs().max() > 1e-6


@each_method
@torch.no_grad()
def test_adding_and_removing_one_leaves_the_others_bit_equal(key, video, side):
    model = build(key, add=("audio",))
    state, out = model.plugin_state_dict(), model(video, {"audio": side["audio"]})
    state = {name: tensor.clone() for name, tensor in state.items()}
    model.add_modality("flow", 4)
    same(model(video, {"audio": side["audio"]}), out, 0)
    model.remove_modality("flow")
    assert state.keys() == model.plugin_state_dict().keys()
    assert all(torch.equal(tensor, model.plugin_state_dict()[name]) for name, tensor in state.items())
    model.remove_modality("audio")
    assert not model.side and not any("side" in name or "fusion" in name for name in model.plugin_state_dict())


TRAINED = {
    "vision": ("adapters.", "prefixes.", "heads."),
    "cross": ("side.", "fusion.", "joint_heads."),
    "fusion": ("fusion.", "joint_heads."),
    "audio": ("side.audio.",),
    "all": ("adapters.", "prefixes.", "heads.", "side.", "fusion."),
}


@pytest.mark.filterwarnings("ignore:.*handed over and not heard")
@pytest.mark.parametrize("stage", TRAINED)
def test_a_stage_moves_what_it_names_and_nothing_else(stage, video, side):
    model = build("caa", lively=False)
    model.train_stage(stage)
    assert {name.split(".")[0] for name in model.trainable_parameters()} == {n.split(".")[0] for n in TRAINED[stage]}
    assert all(name.startswith(TRAINED[stage]) for name in model.trainable_parameters())
    enliven(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        step(model, video, side)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and moved <= set(model.trainable_parameters())
    model.train()
    for part in ("adapters.", "fusion."):
        found = {module.training for module in getattr(model, part[:-1]).modules()}
        assert found == {part in TRAINED[stage]}
    assert not any(m.training for m in model.backbone.modules())
    vision = model(video)
    if stage not in ("vision", "all"):
        model.train_stage("vision")
        same(model(video), vision, 0)


@pytest.mark.parametrize("key", ["caa", "add", "generic", "standard"])
@torch.no_grad()
def test_figure_2_by_hand(key, video, side):
    """attention (+) prefix, then MLP (+) s * adapter (+) fused cross-attention, block by block."""
    model = build(key)
    x = model.backbone.embed(video)
    heard = {name: model.side[name](side[name]) for name in WIDTHS}
    present = torch.stack([PRESENT[name] for name in WIDTHS])
    for i, block in enumerate(model.backbone.blocks):
        x = model.backbone.advance(i, x)
        prefix = model.prefixes[i](block.attn.project_prefix) if model.prefixes else None
        x = x + block.attention(x, prefix)
        z = block.norm2(x)
        seen = x if model.method.adapter.input == "raw" else z
        source = z.flatten(1, 3) if key == "generic" else model.adapters[i].branch(seen)[2]
        said = [model.side[name].cross[str(i)](source, tokens) for name, tokens in heard.items()]
        query, hidden, out = (torch.stack(part) for part in zip(*said, strict=True))
        if model.fusion:
            y = model.fusion[str(i)](query, hidden, out, present)[0]
        else:
            y = (out * present[:, :, None, None]).sum(0)
        x = x + block.mlp(z) + model.adapters[i](seen) + y.reshape(x.shape)
    torch.testing.assert_close(model.features(video, side, PRESENT), model.backbone.pool(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("order", [("audio", "flow"), ("flow", "audio")])
@torch.no_grad()
def test_sequential_attention_by_hand(order, video, side):
    """Behind each block, MLP and adapter included: x <- x + XAttn(x, s) for one modality after the other."""
    model = build("mmca", add=order)
    x = model.backbone.embed(video)
    for i, block in enumerate(model.backbone.blocks):
        x = model.backbone.advance(i, x)
        x = x + block.attention(x, model.prefixes[i](block.attn.project_prefix))
        z = block.norm2(x)
        x = x + block.mlp(z) + model.adapters[i](z)
        for name in order:
            step = model.sequential[str(i)](x.flatten(1, 3), model.side[name](side[name]))
            x = x + (step * PRESENT[name][:, None, None]).reshape(x.shape)
    torch.testing.assert_close(model.features(video, side, PRESENT), model.backbone.pool(x), atol=1e-10, rtol=0)


@torch.no_grad()
def test_late_fusion_by_hand(video, side):
    """Logits of vision, and those of each modality's mean token where there is one."""
    model = build("late")
    expected = {head: layer(model.features(video)) for head, layer in model.heads.items()}
    for name, modality in model.side.items():
        pooled = modality(side[name]).mean(1)
        for head in expected:
            expected[head] = expected[head] + PRESENT[name][:, None] * modality.classifiers[head](pooled)
    same(model(video, side, PRESENT), expected)


def test_joint_training_reaches_the_vision_adapter_through_the_cross_attention(video, side):
    model = build("caa")
    model.train_stage("all")
    with torch.no_grad():
        for adapter in model.adapters:
            adapter.up.zero_()  # the adapter's own way out is shut
            adapter.scale.zero_()
    model(video, side)["verb"].square().sum().backward()
    assert all(adapter.down.grad.any() for adapter in model.adapters)
    model.zero_grad(set_to_none=True)
    model.train_stage("cross")
    model(video, side)["verb"].square().sum().backward()
    assert all(adapter.down.grad is None for adapter in model.adapters)
    assert all(model.side["audio"].cross[i].query.weight.grad.any() for i in "012")


@pytest.mark.filterwarnings("ignore:.*handed over and not heard")
def test_modalities_trained_apart_join_by_addition_and_a_fusion_starts_there(video, side):
    apart = build("caa", lively=False)
    for name in WIDTHS:
        apart.train_stage(name)
        for _ in range(2):
            step(apart, video, side)  # the other is in the batch, and not heard
        alone = apart(video, side)
        same(alone, apart(video, {name: side[name]}), 0)
    apart.train_stage("all")
    with torch.no_grad():
        joined = apart(video, side)
        sample = apart(video, {"flow": side["flow"]})
    same(sample, alone, 1e-12)
    apart.train_stage("fusion")
    same(apart(video, side), joined, 1e-10)
    assert not torch.allclose(joined["verb"], alone["verb"], atol=1e-6)


def test_without_a_modality_present_a_batch_can_still_be_stepped(video):
    model = build("caa")
    model.train_stage("cross")
    step(model, video, None)


def test_disabled_hears_nothing(video, side):
    model = build("caa")
    model.train_stage("cross")
    with model.disabled():
        assert torch.equal(model.features(video, side), model.backbone(video))
        assert torch.equal(model(video, side)["verb"], model.heads["verb"](model.backbone(video)))


def test_fusion_weights_are_a_share_for_every_block_modality_sample_and_token(video, side):
    model = build("stages")
    weights = model.fusion_weights(video, broken(side), PRESENT)
    assert {i: {name: tuple(w.shape) for name, w in found.items()} for i, found in weights.items()} == {
        1: {"audio": (4, 2, 3, 3), "flow": (4, 2, 3, 3)},
        2: {"audio": (4, 2, 2, 2), "flow": (4, 2, 2, 2)},
    }
    total = sum(weights[1].values())
    assert total[:3].allclose(torch.ones_like(total[:3])) and not total[3].any()
    assert 0 < weights[1]["audio"][0].min() < weights[1]["audio"][0].max() < 1
    assert (weights[1]["flow"][1] == 1).all() and not weights[1]["audio"][1].any()  # the second sample has flow alone
    assert build("add").fusion_weights(video, side) == {}


def test_what_is_no_tensor_is_refused_by_its_name(video, side):
    model = build("caa")
    with pytest.raises(TypeError, match=r"present\['audio'\] is a list; give a tensor, bool \(B,\)"):
        model(video, side, {"audio": [True] * 4})
    with pytest.raises(TypeError, match=r"side\['flow'\] is a ndarray; give a tensor"):
        model(video, side | {"flow": side["flow"].numpy()})


def test_more_tokens_than_the_encoder_was_built_for_are_of_a_named_modality(video, side):
    more = side | {"audio": side["audio"].repeat(1, 2, 1)}
    with pytest.raises(ValueError, match=r"audio: 14 tokens came, at most 7 .*add_modality\('audio', length=7\)"):
        build("caa")(video, more)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m, v, s: m(v, {"audo": s["audio"]}), "no modality 'audo'; did you mean 'audio'"),
        (lambda m, v, s: m(v, s, {"speech": PRESENT["audio"]}), "no modality 'speech'"),
        (lambda m, v, s: m(v, {}, PRESENT), "says that clips have it, and side has no"),
        (lambda m, v, s: m(v, {"flow": s["audio"]}), r"flow tokens are \(4, 7, 6\); this model takes \(4, L, 4\)"),
        (lambda m, v, s: m(v, {"flow": s["flow"][:, :0]}), r"flow tokens are \(4, 0, 4\)"),
        (lambda m, v, s: m(v, {"flow": s["flow"][:3]}), r"this model takes \(4, L, 4\)"),
        (lambda m, v, s: m(v, s, {"flow": torch.ones(4)}), r"present\['flow'\] is torch.float32 \(4,\); give bool"),
        (lambda m, v, s: m.add_modality("audio", 6), "'audio' is there already"),
        (lambda m, v, s: m.add_modality("cross", 6), "'cross' cannot name a modality"),
        (lambda m, v, s: m.add_modality("side", 6), "'side' cannot name a modality"),  # no_side would be two controls
        (lambda m, v, s: m.add_modality("keys", 6), "'keys' cannot name a modality"),
        (lambda m, v, s: m.add_modality("training", 6), "'training' cannot name a modality"),
        (lambda m, v, s: m.add_modality("joint_heads", 6), "'joint_heads' cannot name a modality"),
        (lambda m, v, s: m.add_modality(None, 6), "None cannot name a modality"),
        (lambda m, v, s: m.add_modality("words", True), "width must be an integer of at least 1; got True"),
        (lambda m, v, s: m.add_modality("speech", 0), "width must be an integer of at least 1; got 0"),
        (lambda m, v, s: m.add_modality("speech", 6, encoder="linear"), "give length="),
        (lambda m, v, s: m.remove_modality("speech"), "no modality 'speech' to remove; there are audio, flow"),
        (lambda m, v, s: m.train_stage("step2"), "unknown stage 'step2'; use all, vision, cross, fusion, audio, flow"),
        (lambda m, v, s: build("add").train_stage("fusion"), "without a fusion to train"),
        (lambda m, v, s: build("mmca").train_stage("audio"), "one module for all modalities"),
        (lambda m, v, s: build("pt").train_stage("audio"), "caa_join='add'"),
        (lambda m, v, s: build("caa", add=()).train_stage("cross"), "add_modality comes first"),
        (lambda m, v, s: CM3T(tiny(), "mhva+pt", HEADS).add_modality("audio", 6), "write mhva\\+pt\\+caa"),
        (lambda m, v, s: CM3T(tiny(), parse_method("pt+caa", caa_stages=(4,))), "tiny has stages 1 to 3"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call, words, video, side):
    model = build("caa")
    with pytest.raises(ValueError, match=words):
        call(model, video, side)
    assert model.modalities == ("audio", "flow") and len(model.fusion) == 3


def test_side_tokens_without_a_name_are_refused(video, side):
    with pytest.raises(TypeError, match=r"side is a Tensor; give {name of a modality: tokens \(B, L, d\)}"):
        build("caa")(video, side["audio"])


def test_every_classifier_is_counted_among_the_heads_and_in_no_share():
    plain, late = build("late", add=()).summary(), build("late").summary()
    classifiers = {n: p.numel() for n, p in build("late").named_parameters() if ".classifiers." in n}
    assert classifiers and late.heads == plain.heads + sum(classifiers.values())
    assert not any("classif" in part for part in late.parts)


@pytest.mark.parametrize("key", ["caa", "mmca"])
def test_what_a_modality_trains_is_counted_by_its_parts(key):
    model = build(key)
    modality, parts = model.side["audio"], model.summary().parts
    for part, what in (("encoder", "side encoder"), ("projection", "side projection"), ("cross", "cross-attention")):
        module = getattr(modality, part)
        size = sum(p.numel() for p in module.parameters()) if module is not None else 0
        assert parts.get(f"{what} (audio)", 0) == size, part
    assert ("side projection (audio)" in parts) == (key == "mmca") and parts["side encoder (audio)"] > 0
    trained = sum(p.numel() for name, p in model.trainable_parameters().items() if "heads" not in name)
    assert model.summary().trainable == trained, "buffers, as of calibration, are no parameters"


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda t: t[:, 0], r"training tokens \(n, L, 6\), at least one; got shape \(5, 6\)"),
        (lambda t: t[..., :1], r"got shape \(5, 2, 1\)"),
        (lambda t: t[:0], r"got shape \(0, 2, 6\)"),
        (lambda t: t.index_fill(0, torch.tensor([3]), torch.nan), r"1 of 5 clips hold NaN or infinity \(first: 3\)"),
        (lambda t: t / 0.0, "5 of 5 clips hold NaN or infinity"),
    ],
)
def test_tokens_that_would_spoil_a_calibration_are_refused(spoil, words):
    modality = build("caa").side["audio"]
    before = modality.mean.clone(), modality.spread.clone()
    with pytest.raises(ValueError, match=words):
        modality.calibrate(spoil(torch.randn(5, 2, 6)))
    assert torch.equal(modality.mean, before[0]) and torch.equal(modality.spread, before[1])


@pytest.mark.slow
def test_checkpointing_changes_memory_and_no_gradient():
    torch.manual_seed(0)
    model = create("video_swin_mini", method="mhva+pt+caa", heads={"verb": 3}, weights=None)
    model.add_modality("audio", width=6, length=4, encoder="transformer")
    video, side = torch.randn(2, 3, 8, 96, 96), {"audio": torch.randn(2, 4, 6)}
    found = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(video, side)["verb"].square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-5)

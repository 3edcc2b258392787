"""Training in steps: what starts from what, what is kept, what is trusted, and how each task is learned."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toys import Behaviours, Dark, Toy, Traits, clip_set, quiet, small_world

from cm3t import train
from cm3t.config import ConfigError, config_hash, local_dir, resolve, run_id, vision_run
from cm3t.data import normalise
from cm3t.rates import tuning_key
from cm3t.records import load_run
from cm3t.training import loop, sets, steps
from cm3t.training.controls import others, shuffled
from cm3t.training.sets import decode
from cm3t.training.steps import plugins_path

slow = pytest.mark.slow
CAA = dict(method="mhva+pt+caa", side="audio")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Toys for data, a tiny backbone."""
    small_world(monkeypatch)


def settings(**given):
    common = dict(weights=None, lr=1e-2, epochs=1, train_clips=16, eval_clips=8, batch_size=8)
    return resolve("smoke", **(common | CAA | given))


def ran(**given):
    return train.run(settings(**given), log=quiet)


def file_of(record, modality=None):
    return plugins_path(local_dir("smoke"), record.run_id, modality)


def first_of(config):
    """The record of a run's first step."""
    return load_run(local_dir("smoke") / f"{run_id(vision_run(config))}.json")


def test_the_second_step_starts_from_the_first_and_leaves_it_alone():
    record = ran(side="audio,flow")
    first = first_of(settings(side="audio,flow"))
    vision, cross = record.train_info["steps"]
    assert (vision["stage"], vision["run_id"], vision["epochs"]) == ("vision", first.run_id, 1)
    assert cross["stage"] == "cross" and [row["stage"] for row in record.train_info["epochs"]] == ["cross"]
    assert vision["trainable"] + cross["trainable"] == record.train_info["trainable"]
    assert vision["share"] + cross["share"] == pytest.approx(record.train_info["share"])
    assert record.train_info["epochs_to_converge"] == 2  # of one epoch each
    before, after = load_file(file_of(first)), load_file(file_of(record))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    scores = record.train_info["metrics"]["validation"]
    assert scores["no_side"] == {k: v for k, v in first.train_info["metrics"]["validation"]["all"].items()}
    assert {"shuffled_audio", "muted_flow", "no_flow", "unseen", "gap1"} <= set(scores)
    assert record.meta_info["hardware"]["threads"] == 1


def test_a_record_holds_whom_the_fusion_listens_to():
    """Mean weights of the clips that have every modality; the others are no part of it."""
    record = ran(side="audio,flow")
    config = settings(side="audio,flow")
    model, clips = train.restore(config), decode(sets.open_sets(config)["validation"], config.side)
    complete = clips.present["flow"].nonzero()[:, 0]
    assert 0 < len(complete) < len(clips)
    with torch.no_grad():
        video = normalise(clips.video[complete], *model.backbone.pixels)
        weights = model.fusion_weights(video, **clips.inputs(complete, complete.device))
    for name, own in record.train_info["fusion"].items():
        assert own.keys() == {str(block + 1) for block in weights}
        for block, shares in own.items():
            expected = weights[int(block) - 1][name].mean((0, 2, 3))
            assert shares == pytest.approx(expected.tolist(), abs=1e-6)
    assert set(record.train_info["fusion"]) == {"audio", "flow"}
    assert "fusion" not in ran(side="audio").train_info


@slow
def test_runs_share_their_first_step(monkeypatch):
    fitted, fit = [], steps.fit
    monkeypatch.setattr(train, "fit", lambda *a, **k: fitted.append("vision") or loop.fit(*a, **k))
    monkeypatch.setattr(steps, "fit", lambda *a, **k: fitted.append("cross") or fit(*a, **k))
    for given in ({}, {"side": "flow"}, {"caa_form": "standard"}, {"method": "mhva+pt+late"}):
        ran(**given)
    assert fitted == ["vision"] + ["cross"] * 4
    monkeypatch.setattr(train, "_train_and_score", lambda *a: pytest.fail("it ran again"))
    assert ran().status == "ok"


@pytest.mark.slow
def test_sound_is_learned_where_pictures_say_nothing(monkeypatch):
    small_world(monkeypatch, Dark)
    scores = ran(epochs=10, train_clips=48, eval_clips=40).train_info["metrics"]["validation"]
    verb = {name: found["verb_top1"] for name, found in scores.items()}
    assert verb["all"] > 90 and verb["no_audio"] < 70 and verb["shuffled_audio"] < 70 and verb["muted_audio"] < 70


@slow
@pytest.mark.parametrize(
    "given, found",
    [
        ({"regime": "joint"}, ["all"]),
        ({"regime": "apart", "side": "audio,flow"}, ["vision", "audio", "flow", "fusion"]),
        pytest.param(
            {"regime": "apart", "side": "audio,flow", "caa_join": "add"}, ["vision", "audio", "flow"], marks=slow
        ),
        pytest.param({"method": "full+caa"}, ["vision", "cross"], marks=slow),
        ({"method": "full+caa", "regime": "joint"}, ["all"]),
        ({"method": "mhva+pt+mmca", "side": "audio,flow"}, ["vision", "cross"]),
        pytest.param({"method": "linear+late"}, ["vision", "cross"], marks=slow),
        pytest.param({"side_encoder": "none", "modality_dropout": 0.5}, ["vision", "cross"], marks=slow),
    ],
)
def test_regimes(given, found):
    record = ran(**given)
    info = record.train_info
    assert [step["stage"] for step in info["steps"]] == found
    assert [row["stage"] for row in info["epochs"]] == [stage for stage in found if stage != "vision"]
    assert all(step["trainable"] or step["stage"] in ("vision", "cross") for step in info["steps"])
    assert len(list(local_dir("smoke").glob("*.json"))) == 1 + ("vision" in found)
    assert info["share"] > (1 if given.get("method") == "full+caa" else 0)


@slow
def test_exchanged_modalities_are_another_clips_in_training_and_in_scoring(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "others", lambda data, seed: seen.append(seed) or others(data, seed))
    plain, exchanged = (ran(side="flow", exchanged=by, epochs=2) for by in (False, True))
    assert seen == [1, 2] and plain.run_info["config_hash"] != exchanged.run_info["config_hash"]
    scores = [r.train_info["metrics"]["validation"] for r in (plain, exchanged)]
    assert plain.train_info["epochs"][1]["loss"] != exchanged.train_info["epochs"][1]["loss"]
    model = train.restore(settings(side="flow", exchanged=True, epochs=2))
    clips = decode(train.open_sets(settings(side="flow"))["validation"], ("flow",))
    assert loop.evaluate(model, shuffled(clips, "flow"))["all"] == scores[1]["all"]
    scored = train._clips(train.open_sets(settings(side="flow"))["validation"], settings(side="flow", exchanged=True))
    assert torch.equal(scored.side["flow"], shuffled(clips, "flow").side["flow"])
    assert not torch.equal(scored.side["flow"], clips.side["flow"])
    assert scores[0]["no_side"] == scores[1]["no_side"]


def test_modality_dropout_and_missing_clips_change_training():
    losses = [ran(side="flow", modality_dropout=p).train_info["epochs"][0]["loss"] for p in (0.0, 0.5)]
    assert losses[0] != losses[1]


@slow
def test_what_a_run_trained_comes_back():
    config = settings(side="audio,flow")
    with pytest.raises(ConfigError, match=r"does not hold what .*keep=True"):
        train.restore(config)
    record = train.run(config, log=quiet)
    model = train.restore(config)
    data = sets.decode(sets.open_sets(config)["validation"], config.side)
    assert loop.evaluate(model, data)["all"] == record.train_info["metrics"]["validation"]["all"]
    assert model.modalities == ("audio", "flow") and not model.training


@slow
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-4])])
def test_a_first_step_that_lost_its_plugins_is_run_again_in_its_own_place(damage):
    first = train.run(vision_run(settings(study="02")), log=quiet, keep=True)
    damage(file_of(first))
    record = ran(study="04")
    assert record.train_info["steps"][0]["run_id"] == first.run_id and file_of(first).is_file()
    assert steps.is_kept(first_of(settings(study="02")), local_dir("smoke"))
    assert len(list(local_dir("smoke").glob("*.json"))) == 2


@slow
def test_plugins_without_their_record_are_not_trusted(monkeypatch):
    first = train.run(vision_run(settings()), log=quiet, keep=True)
    (local_dir("smoke") / f"{first.run_id}.json").unlink()
    file_of(first).write_bytes(b"from who knows where")
    record = ran()
    assert record.status == "ok" and steps.is_kept(first_of(settings()), local_dir("smoke"))


def test_a_kill_loses_one_run_at_most(monkeypatch):
    """At any moment: within the second step, and between the plugin file and the record."""
    for name in ("fit_stages", "keep"):
        with monkeypatch.context() as patch:
            whole = getattr(steps, name)

            def killed(*arguments, whole=whole):
                whole(*arguments)
                raise KeyboardInterrupt

            patch.setattr(steps, name, killed)
            if name == "fit_stages":
                first = train.run(vision_run(settings()), log=quiet, keep=True)
            with pytest.raises(KeyboardInterrupt):
                ran()
        assert train.finished(settings()) is None and train.finished(vision_run(settings())) == first
    (cancelled,) = local_dir("smoke").glob("*.cancelled.json")
    assert [row["stage"] for row in load_run(cancelled).train_info["epochs"]] == ["cross"]
    assert ran().status == "ok" and not list((local_dir("smoke") / "plugins").glob("*.partial"))


def test_a_run_that_never_needed_its_plugins_does_not_keep_them():
    assert "plugins" not in train.run(vision_run(settings()), log=quiet).train_info
    assert not (local_dir("smoke") / "plugins").exists()


def kinds(monkeypatch, **by_name):
    """Toys of several kinds, by the data set's name."""
    whole = sets.open_data

    def opened(name, split="train", limit=None, **options):
        if name not in by_name:
            return whole(name, split=split, limit=limit, **options)
        found = by_name[name](limit or 24, 5)
        found.split = split
        return found

    monkeypatch.setattr(sets, "open_data", opened)


@slow
@pytest.mark.parametrize("by", ["run", "file"])
def test_a_modality_starts_from_another_data_sets(monkeypatch, by):
    kinds(monkeypatch, **{"rooms-group": Behaviours})
    donor = ran(epochs=2)
    given = donor.run_id if by == "run" else str(file_of(donor, "audio"))
    monkeypatch.setattr(steps, "fit", lambda *a, **k: [])  # nothing is learned: what is kept is what it started from
    kept = [load_file(file_of(ran(data="rooms-group", **more))) for more in ({}, {"init": given})]
    source = load_file(file_of(donor))
    calibration = ("side.audio.mean", "side.audio.spread")
    names = [k for k in source if k.startswith("side.audio.") and ".heads." not in k and k not in calibration]
    assert names and all(torch.equal(kept[1][k], source[k]) for k in names)
    assert all(torch.equal(kept[1][k], kept[0][k]) for k in calibration)  # of the new clips, not of the donor's
    assert not torch.equal(kept[1]["side.audio.mean"], source["side.audio.mean"])
    assert any(not torch.equal(kept[0][k], source[k]) for k in names)
    assert kept[1]["joint_heads.behaviour.weight"].shape[0] == 3


@slow
def test_what_a_run_starts_from_is_in_its_record_and_in_its_resumption():
    donor = ran()
    config = settings(init=str(file_of(donor, "audio")), seed=1)
    record = train.run(config, log=quiet)
    assert record.meta_info["digests"]["init"].startswith("audio:") and train.finished(config) == record
    again = ran(seed=2)
    file_of(donor, "audio").write_bytes(file_of(again, "audio").read_bytes())
    assert train.finished(config) is None


def broken(split, tokens):
    """Toys whose tokens of one split, or of all with None, are made by `tokens(own, present)`."""

    class Broken(Toy):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            self.digest = "broken"  # what was made of others is not read again

        def decode_side(self, name):
            own = super().decode_side(name)
            return tokens(*own) if split in (self.split, None) else own

    return Broken


@pytest.mark.parametrize(
    "split, tokens, message",
    [
        ("validation", lambda own, present: (own * float("nan"), present), "clips holds values that are no numbers"),
        ("tune", lambda own, present: (own, present & False), "no clip of the tune split has audio"),
        ("tune", lambda own, present: (own[..., :-1], present), "audio: the tune split has .* feature_length"),
        ("validation", lambda own, present: (own.repeat(1, 2, 1), present), "audio: the validation split has .* train"),
    ],
)
@pytest.mark.parametrize("start", [train.run, lambda config, log: train.run_all([config], log=log)])
def test_modalities_that_cannot_be_used_are_told_before_anything_trains(monkeypatch, split, tokens, message, start):
    small_world(monkeypatch, broken(split, tokens))
    with pytest.raises((ValueError, LookupError), match=message):
        start(settings(), log=quiet)
    assert not list(local_dir("smoke").glob("*.json"))


def test_a_stage_that_the_backbone_lacks_is_told_before_anything_trains():
    with pytest.raises(ValueError, match=r"caa_stages names \[9\]"):
        train.run(settings(caa_stages=(9,)), log=quiet)
    assert not list(local_dir("smoke").glob("*.json"))


def test_a_file_to_start_from_that_does_not_fit_is_told_before_anything_trains(monkeypatch):
    donor = train.run(settings(), log=quiet)
    small_world(monkeypatch, broken(None, lambda own, present: (own[..., :-1], present)))
    config = settings(seed=1, init=str(file_of(donor, "audio")))
    with pytest.raises(ConfigError, match=r"init: .*\n *audio is .*in the file(.*\n)+.*decide what audio is: side_enc"):
        train.run(config, log=quiet)
    assert not (local_dir("smoke") / f"{run_id(vision_run(config))}.json").exists()


@slow
def test_a_run_on_vision_at_another_learning_rate_is_another_run(monkeypatch):
    config = settings()
    record = train.run(config, log=quiet)
    assert train.finished(config) == record and record.digests["vision"] == config_hash(vision_run(config))
    key = tuning_key(vars(vision_run(config)))
    monkeypatch.setattr("cm3t.config.released", lambda: {key: {"lr": 0.02}})
    assert train.finished(config) is None
    again = train.run(config, log=quiet)
    assert again.run_id == record.run_id and again.digests["vision"] != record.digests["vision"]


@slow
def test_a_study_may_hold_runs_that_start_from_its_earlier_ones():
    donor = settings()
    records = train.run_all([donor, settings(seed=1, init=run_id(donor))], log=quiet)
    assert [record.status for record in records] == ["ok", "ok"] and "init" in records[1].meta_info["digests"]


@pytest.mark.parametrize(
    "init, message",
    [
        ("nowhere.safetensors", "no such file"),
        ("04--mhva+pt+caa--video_swin_mini--seed0--0123456789ab", "no finished run of this id; run it first"),
        ("flow", "none of the run's modalities: audio"),
    ],
)
def test_a_start_that_is_not_there(init, message):
    if init == "flow":
        init = ran(side="flow").run_id
    before = len(list(local_dir("smoke").glob("*.json")))
    with pytest.raises(ConfigError, match=message):
        ran(init=init, seed=7)
    assert len(list(local_dir("smoke").glob("*.json"))) == before  # told before the first step is trained


@slow
def test_behaviours_are_learned_scored_and_shown(monkeypatch):
    kinds(monkeypatch, **{"rooms-group": Behaviours})
    lines = []
    config = resolve("smoke", data="rooms-group", method="mhva+pt", weights=None, lr=1e-2, epochs=6, train_clips=32)
    info = train.run(config, log=lines.append).train_info
    scores = info["metrics"]["validation"]["all"]
    assert scores["ap_0"] > 95 and scores["ap_1"] is None and scores["classes_averaged"] == 2 and scores["map"] > 95
    assert any("tune map " in line and " % " in line for line in lines) and info["epochs_to_converge"] >= 1
    assert json.loads(json.dumps(scores))["n"] == 16


@slow
def test_traits_are_learned_and_converge_downwards(monkeypatch):
    kinds(monkeypatch, **{"rooms-dyad": Traits})
    lines = []
    config = resolve("smoke", data="rooms-dyad", method="mhva+pt", weights=None, lr=1e-2, epochs=15, train_clips=32)
    info = train.run(config, log=lines.append).train_info
    scores, curve = info["metrics"]["validation"]["all"], [row["tune"]["mse"] for row in info["epochs"]]
    assert scores["mse"] < 0.3 < 5 / 9 and (scores["n"], scores["n_clips"]) == (4, 16)
    assert info["epochs_to_converge"] == 1 + next(i for i, mse in enumerate(curve) if mse <= 1.01 * min(curve))
    assert any("tune mse 0." in line and "%" not in line for line in lines)


@slow
def test_two_modalities_through_a_side_run_of_every_task(monkeypatch):
    kinds(monkeypatch, **{"rooms-group": Behaviours, "rooms-dyad": Traits})
    for data, headline in (("rooms-group", "map"), ("rooms-dyad", "mse")):
        scores = ran(data=data).train_info["metrics"]["validation"]
        assert all(headline in scores[name] for name in ("all", "no_audio", "shuffled_audio", "muted_audio", "no_side"))


def test_scores_do_not_depend_on_how_many_clips_stand_side_by_side(monkeypatch):
    model = train.build(settings(), Toy(2, 0), clip_set(Toy(12, 0), ("audio",)))
    data = clip_set(Toy(12, 0), ("audio",))
    whole = loop.predict(model, data)["verb"]
    monkeypatch.setattr(loop, "EVAL_BATCH", 5)
    assert whole == pytest.approx(loop.predict(model, data)["verb"], abs=1e-5)


def test_a_wrong_side_on_the_command_line(capsys):
    assert train.main("--method mhva+pt+caa --side smell".split()) == 2
    assert "rooms-kitchen has no modality 'smell'; known: audio, flow" in capsys.readouterr().err


def test_a_modality_is_calibrated_on_the_training_clips_that_have_it():
    clips = clip_set(Toy(16, 0), ("flow",))
    clips.side["flow"][~clips.present["flow"]] = torch.nan
    model = train.build(settings(side="flow"), Toy(2, 0), clips)
    flow = clips.side["flow"][clips.present["flow"]]
    assert torch.allclose(model.side["flow"].mean, flow.mean((0, 1)), atol=1e-6)
    assert torch.allclose(model.side["flow"].spread[:3], flow.std((0, 1), correction=0)[:3], atol=1e-6)
    assert model.side["flow"].spread[3] > 0  # a channel that never varies

"""The loop and the run around it: it learns, repeats itself, resumes, and leaves a record however it ends."""

import math

import pytest
import torch
from toys import SMALL_SWIN, Behaviours, Toy, clip_set, quiet, small_world

from cm3t import train
from cm3t.backbones import weights
from cm3t.backbones.video_swin import VideoSwin
from cm3t.config import config_hash, local_dir, resolve
from cm3t.model import create
from cm3t.records import find_record, load_run
from cm3t.training import loop, sets
from cm3t.training.loop import TrainingDiverged, epochs_to_converge, fit, parameter_groups, rate

TINY = dict(weights=None, data="rooms-kitchen", lr=1e-2)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Toys for data, a tiny backbone."""
    small_world(monkeypatch)


def settings(**given):
    return resolve("smoke", **(TINY | {"epochs": 2, "train_clips": 16, "eval_clips": 8} | given))


@pytest.mark.parametrize("method", ["mhva+pt", pytest.param("full", marks=pytest.mark.slow)])
def test_the_loop_learns_a_toy_task(method):
    torch.manual_seed(0)
    config = settings(method=method, epochs=12, batch_size=8)
    model = create("video_swin_mini", method=config.plugins, heads={"verb": 2, "noun": 3}, weights=None)
    history = fit(model, clip_set(Toy(48, 0)), config, tune=clip_set(Toy(24, 1)), log=quiet)
    assert history[0]["loss"] == pytest.approx(math.log(2) + math.log(3), rel=0.35)
    assert history[-1]["loss"] < history[0]["loss"] / 3
    assert history[-1]["tune"]["action_top1"] > 80
    assert history[-1]["lr"] < history[3]["lr"] / 10


def test_one_seed_repeats_itself_and_another_differs(tmp_path):
    numbers = {}
    for key, seed in (("first", 0), ("again", 0), ("other", 1)):
        record = train.run(settings(seed=seed), tmp_path / key, quiet)
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in record.train_info["epochs"]]
        numbers[key] = (rows, record.train_info["metrics"])
    assert numbers["first"] == numbers["again"]
    assert numbers["first"][0] != numbers["other"][0]


def test_a_record_holds_what_was_found():
    lines = []
    config = settings()
    record = train.run(config, log=lines.append)
    info = record.train_info
    assert info["status"] == "ok" and [row["epoch"] for row in info["epochs"]] == [1, 2]
    assert set(info["metrics"]) == {"validation"}
    assert set(info["metrics"]["validation"]) == {"all", "unseen", "gap1"}
    assert info["metrics"]["validation"]["all"]["n"] == 8
    assert 0 < info["share"] < 1 and info["trainable"] > 0 and "head" in info["denominator"]
    assert info["epochs_to_converge"] in (1, 2) and info["seconds"] > 0 and info["peak_memory_mb"] > 0
    assert record.meta_info["digests"] == {"data": "toy", "weights": "random"}
    assert any("epoch   1/2" in line and "left" in line for line in lines)
    assert find_record(local_dir("smoke"), config_hash(config)) == record


def test_what_loading_did_to_the_weights_is_said_and_recorded(tmp_path):
    """A file for longer windows: its tables of relative positions are interpolated, and a run must not hide that."""
    longer = VideoSwin(name="longer", clip=(2, 24, 24), **SMALL_SWIN | dict(window=(2, 3, 3)))
    own = VideoSwin(name="own", clip=(2, 24, 24), num_classes=4, **SMALL_SWIN)
    for model, remarkable in ((longer, True), (own, False)):
        lines, path = [], tmp_path / f"{model.name}.safetensors"
        weights.save(model, path, metadata={})
        config = settings(method="linear", epochs=1, weights=str(path))
        if remarkable:
            with pytest.warns(UserWarning, match=r"windows of \(2, 3, 3\), video_swin_mini of \(1, 3, 3\)"):
                record = train.run(config, log=lines.append)
        else:
            record = train.run(config, log=lines.append)
        said = [line for line in lines if line.startswith("weights ")]
        assert len(said) == remarkable and all("interpolated (2): features.0.0" in line for line in said)
        loaded = record.meta_info["weights"]
        assert loaded["digest"] == record.meta_info["digests"]["weights"] == weights.digest(path)
        assert len(loaded["interpolated"]) == 2 * remarkable and loaded["mapped"] > 20
        assert loaded["dropped"] == ([] if remarkable else ["head.bias", "head.weight"])


def test_scoring_tune_never_opens_validation(monkeypatch):
    config = settings(score_split="tune", method="linear")
    monkeypatch.setattr(sets, "open_data", refuse_validation(sets.open_data))
    assert set(train.run(config, log=quiet).train_info["metrics"]) == {"tune"}


def refuse_validation(open_data):
    def opened(name, split="train", **options):
        assert split != "validation"
        return open_data(name, split=split, **options)

    return opened


def test_a_finished_run_is_found_and_not_run_again(monkeypatch):
    first = train.run(settings(method="linear"), log=quiet)
    monkeypatch.setattr(train, "fit", lambda *a, **k: pytest.fail("it ran again"))
    assert train.run(settings(method="linear"), log=quiet) == first


def interrupt_after(batches: int):
    """An augmentation that is interrupted at the keyboard in the middle of its work."""
    seen = []

    def augment(video, generator, anchored=True):
        seen.append(video)
        if len(seen) > batches:
            raise KeyboardInterrupt
        return video

    return augment


def test_ctrl_c_in_an_epoch_leaves_a_cancelled_record_and_the_next_run_starts_afresh(monkeypatch):
    config = settings(method="linear", batch_size=4)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "augment", interrupt_after(6))  # of 4 batches an epoch
        with pytest.raises(KeyboardInterrupt):
            train.run(config, log=quiet)
    (path,) = local_dir("smoke").glob("*.json")
    left = load_run(path)
    assert left.status == "cancelled" and [row["epoch"] for row in left.train_info["epochs"]] == [1]
    assert train.finished(config) is None
    assert train.run(config, log=quiet).status == "ok"
    assert train.finished(config).status == "ok"


def test_a_loss_that_is_no_number_is_a_failed_record_and_run_all_goes_on(monkeypatch):
    normalise = loop.normalise
    monkeypatch.setattr(loop, "normalise", lambda video, *_: normalise(video) * float("nan"))
    with pytest.raises(TrainingDiverged, match="loss is nan in epoch 1 of linear at lr 0.01; try a smaller lr"):
        train.run(settings(method="linear"), log=quiet)
    (path,) = local_dir("smoke").glob("*.failed.json")
    assert "TrainingDiverged" in load_run(path).train_info["error"]
    monkeypatch.undo()


def test_run_all_tells_the_time_left_and_survives_a_diverged_run(monkeypatch):
    fitted, lines = train.fit, []

    def fit_or_diverge(model, data, config, **options):
        if config.lr == 10:
            raise TrainingDiverged("too fast")
        return fitted(model, data, config, **options)

    monkeypatch.setattr(train, "fit", fit_or_diverge)
    configs = [settings(method="linear", seed=0), settings(method="linear", lr=10), settings(method="linear", seed=1)]
    records = train.run_all([*configs, configs[0]], log=lines.append)
    assert [record.run_info["config"]["seed"] for record in records] == [0, 1]
    assert lines[0] == "3 runs, 0 of them found, 3 to do"
    assert "diverged: too fast" in lines
    assert "run 3/3: linear on rooms-kitchen, video_swin_mini, seed 1" in lines
    assert any(line.startswith("2 of 3 runs done, ") and line.endswith("left") for line in lines)
    again = []
    assert train.run_all(configs[:1], log=again.append) == records[:1]
    assert again == ["1 run, 1 of them found, 0 to do"]


def test_a_changed_backbone_is_a_failed_run(monkeypatch):
    def fit_and_thaw(model, data, config, **options):
        model.backbone.norm.weight.data += 1

    monkeypatch.setattr(train, "fit", fit_and_thaw)
    with pytest.raises(RuntimeError, match="changed the frozen backbone"):
        train.run(settings(), log=quiet)


def test_methods_share_decoded_clips_and_unanchored_scores_are_the_same_twice(monkeypatch):
    decoded = []
    whole = Toy.decode_all
    monkeypatch.setattr(Toy, "decode_all", lambda self: decoded.append(self) or whole(self))
    for method in ("linear", "mhva"):
        train.run(settings(method=method, anchored=False), log=quiet)
    assert len(decoded) == 4  # train, tune, validation, gap1
    model = create("video_swin_mini", method="linear", heads={"verb": 2, "noun": 3}, weights=None).eval()
    data = clip_set(Toy(8, 0))
    assert loop.evaluate(model, data, anchored=False) == loop.evaluate(model, data, anchored=False)


def test_no_decay_for_biases_scales_and_prefixes():
    model = create("video_swin_mini", method="mhva+pt", heads={"verb": 2}, weights=None)
    names = {id(p): name for name, p in model.named_parameters()}
    with_decay, without = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 0.05))
    assert with_decay | without == set(model.trainable_parameters()) and not with_decay & without
    assert {name.rsplit(".", 1)[1] for name in with_decay} == {"down", "up", "weight"}
    assert {name.rsplit(".", 1)[1] for name in without} == {"down_bias", "up_bias", "scale", "embedding", "bias"}


def test_rate_warms_up_then_falls_to_zero():
    rates = [rate(i / 100, 0.1) for i in range(101)]
    assert rates[5] == pytest.approx(0.5) and rates[10] == 1 and rates[100] == pytest.approx(0)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rate(0.0, 0.0) == 1


@pytest.mark.parametrize("scores, epoch", [([10, 39.7, 40], 2), ([50, 20, 30], 1), ([0, 0, 0], 1), ([], None)])
def test_epochs_to_converge_is_the_first_within_one_percent_of_the_best(scores, epoch):
    history = [{"epoch": i, "tune": {"action_top1": score}} for i, score in enumerate(scores, 1)]
    assert epochs_to_converge(history) == epoch


def test_the_command_runs_one_configuration_and_explains_mistakes(tmp_path, capsys):
    words = "--method linear --weights none --epochs 1 --train-clips 8 --eval-clips 8".split()
    assert train.main([*words, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*linear*seed0*.json"))) == 1
    assert train.main(["--method", "mvha"]) == 2
    assert "mhva" in capsys.readouterr().err
    assert train.main(["--weights-clip", "8,96,96", "--out", str(tmp_path)]) == 2
    assert "weights_clip=(8, 96, 96): video_swin_mini has no position embeddings" in capsys.readouterr().err


def test_a_run_names_the_classes_that_it_cannot_learn_or_score(monkeypatch):
    small_world(monkeypatch, Behaviours)
    lines = []
    train.run(settings(method="linear", data="rooms-group", epochs=1), log=lines.append)
    assert "no training clip shows class 1: no model can learn it" in lines
    assert any(" over 2 of 3 classes " in line for line in lines if line.startswith("epoch"))
    (end,) = [line for line in lines if line.startswith("validation map ")]
    assert " over 2 of 3 classes  map_micro " in end and end.endswith(" %: no clip shows class 1")


def test_an_empty_split_says_so(monkeypatch):
    monkeypatch.setattr(sets, "open_data", lambda name, **options: Toy(0, 0))
    with pytest.raises(ValueError, match="train split .* is empty"):
        train.run(settings(), log=quiet)

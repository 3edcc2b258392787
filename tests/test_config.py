"""`resolve` lets through what can be right, and says what to write instead of what cannot."""

import dataclasses
import json
import subprocess
import sys

import pytest

from cm3t import config
from cm3t.config import PROFILES, ConfigError, config_hash, resolve, run_id, seeds_for, vision_run
from cm3t.methods import PRESETS, AdapterSpec, parse_method
from cm3t.rates import UNTUNED_LR
from cm3t.records import command_line
from cm3t.sides import SOUNDS


def test_profiles_grow_from_smoke_to_full():
    smoke, quick, full = (PROFILES[name] for name in ("smoke", "quick", "full"))
    assert len(smoke.seeds) < len(quick.seeds) < len(full.seeds) == 5
    assert smoke.epochs * smoke.train_clips < quick.epochs * quick.train_clips == 2000
    assert smoke.threads == 1 and smoke.deterministic
    assert full.train_clips is None and full.eval_clips is None


SPOKEN = {"method": "mhva+pt+caa", "side": "transcript"}


def test_text_becomes_values():
    given = resolve("smoke", lr="1e-3", anchored="false", epochs="7", cells="4", claims="['a', 'b']", size="None")
    assert (given.lr, given.anchored, given.epochs, given.cells) == (1e-3, False, 7, 4)
    assert given.claims == ("a", "b") and given.size is None


def test_open_settings_come_from_the_profile():
    for name, profile in PROFILES.items():
        found = resolve(name)
        assert (found.epochs, found.batch_size) == (profile.epochs, profile.batch_size)
        assert (found.train_clips, found.eval_clips) == (profile.train_clips, profile.eval_clips)
    assert resolve("full", epochs=3).epochs == 3


def test_the_group_takes_as_many_steps_as_the_kitchen_where_all_clips_are_used():
    kitchen, group = 1334, 320
    for profile in ("smoke", "quick", "full"):
        seen = [min(clips, PROFILES[profile].train_clips or clips) for clips in (kitchen, group)]
        epochs = [resolve(profile, data=data).epochs for data in ("rooms-kitchen", "rooms-group")]
        assert epochs[0] == PROFILES[profile].epochs == resolve(profile, data="rooms-dyad").epochs
        # Whole multiples only: at `quick` 400 clips stand against 320.
        assert epochs[0] * seen[0] == pytest.approx(epochs[1] * seen[1], rel=0.26)
    assert resolve("full", data="rooms-group", stretch=2).epochs == 96
    assert resolve("full", data="rooms-group", epochs=12).epochs == 12
    assert resolve("full", data="mpiigi", root="somewhere").epochs == PROFILES["full"].epochs


@pytest.mark.parametrize(
    "given, words",
    [
        ({"metod": "pt"}, ["metod", "did you mean 'method'"]),
        ({"method": "mvha+pt"}, ["mvha", "did you mean 'mhva'"]),
        ({"method": "full+pt"}, ["stand alone"]),
        ({"method": "mhva+adaptformer"}, ["choose one"]),
        ({"method": "mhva+scale"}, ["modify adaptformer"]),
        ({"method": "pt+pt"}, ["twice"]),
        ({"method": "pt", "cells": 2}, ["cells=2", "no adapter", "leave"]),
        ({"method": "mhva", "activation": "tanh"}, ["no prefix"]),
        ({"method": "mhva", "prefix_dropout": 0.1}, ["prefix_dropout=0.1", "no prefix"]),
        ({"prefix_dropout": 1}, ["prefix_dropout=1.0 is out of range", "0.9"]),
        ({"epochs": "two"}, ["epochs='two'", "int", "8"]),
        ({"epochs": -1}, ["out of range", "from 1"]),
        ({"epochs": 0}, ["epochs=0 is out of range", "from 1"]),
        ({"lr": 0}, ["lr=0.0 is out of range"]),
        ({"batch_size": 0, "train_clips": 0}, ["batch_size=0 is out of range"]),
        ({"eval_clips": "0"}, ["eval_clips=0 is out of range"]),
        ({"seed": True}, ["seed=True", "int"]),
        ({"seed": 1.5}, ["seed=1.5"]),
        ({"lr": "nan"}, ["lr='nan'"]),
        ({"anchored": "maybe"}, ["anchored='maybe'", "true"]),
        ({"gap": 4}, ["gap=4", "0 to 3"]),
        ({"gap": 1, "data": "rooms-dyad"}, ["rooms-dyad was filmed once"]),
        ({"data": "udiva", "encoding": "latin-0"} | SPOKEN, ["latin-0", "no text encoding", "latin-1"]),
        ({"data": "epik"}, ["epik", "did you mean 'epic'"]),
        ({"profile": "smok"}, ["smok", "did you mean 'smoke'"]),
        ({"method": None}, ["method=None"]),
        ({"side": "audio"}, ["('audio',)", "does not say how", "mhva+pt+caa", "mhva+pt+late"]),
        ({"method": "mhva+pt+caa"}, ["none is given", "side=", "audio, flow"]),
        ({"method": "mhva+caa", "side": "sound"}, ["rooms-kitchen has no modality 'sound'", "audio, flow"]),
        ({"method": "mhva+caa", "side": "flow", "data": "udiva"}, ["'flow'", "audio, landmarks, transcript"]),
        ({"method": "mhva+caa", "side": "flow", "regime": "step"}, ["did you mean 'steps'"]),
        ({"method": "mhva+late", "side": "flow", "regime": "apart"}, ["'apart'", "mhva+late"]),
        ({"regime": "joint"}, ["regime='joint'", "side=..."]),
        ({"modality_dropout": 0.5}, ["modality_dropout=0.5", "leave it out"]),
        ({"method": "mhva+caa", "side": "flow", "modality_dropout": 1}, ["out of range", "0.9"]),
        ({"init": "some.safetensors"}, ["init='some.safetensors'", "side"]),
        ({"caa_form": "double"}, ["caa_form", "leave it out"]),
        ({"method": "mhva+caa", "side": "flow", "caa_form": "doble"}, ["did you mean 'double'"]),
        ({"method": "mhva+caa", "side": "flow", "caa_stages": "three"}, ["caa_stages='three'", "int"]),
        ({"weights_clip": "32,112"}, ["weights_clip=(32, 112)", "frames, height and width", "32,224,224"]),
        ({"weights_clip": "32,112,half"}, ["weights_clip='32,112,half'", "int"]),
        ({"weights_clip": "32,0,112"}, ["weights_clip=(32, 0, 112)", "frames, height"]),
        ({"data": "rooms-diad"}, ["did you mean 'rooms-dyad'"]),
    ],
)
def test_a_wrong_setting_names_itself_and_the_remedy(given, words):
    with pytest.raises(ConfigError) as error:
        resolve(**given)
    assert all(word in str(error.value) for word in words), error.value


def test_the_ladder_reaches_mhva_one_factor_at_a_time():
    steps = [parse_method(words).adapter for words in ("adaptformer", "adaptformer+cells", "adaptformer+cells+scale")]
    steps += [parse_method("adaptformer+cells+scale+norm").adapter]
    mhva = parse_method("mhva").adapter
    factors = ("cells", "learnable_scale", "input")
    for lower, upper in zip(steps, steps[1:], strict=False):
        changed = [f.name for f in dataclasses.fields(AdapterSpec) if getattr(lower, f.name) != getattr(upper, f.name)]
        assert len(changed) == 1 and changed[0] in factors
    assert [getattr(steps[-1], name) for name in factors] == [getattr(mhva, name) for name in factors]


def test_words_in_any_order_are_one_method():
    assert parse_method("PT + mhva") == parse_method("mhva+pt")
    assert resolve(method="pt+mhva").method == "mhva+pt"
    assert parse_method("linear").trains == "head" and parse_method("scratch").trains == "scratch"


def test_bottlenecks():
    assert [parse_method("mhva").adapter.width(c) for c in (128, 1024)] == [32, 256]
    assert [parse_method("adaptformer").adapter.width(c) for c in (48, 96, 1024)] == [24, 48, 64]
    assert parse_method("mhva", bottleneck=100).adapter.width(128) == 100
    assert parse_method("adaptformer", reduction=8).adapter.width(1024) == 128


def test_the_hash_sees_numbers_and_nothing_else():
    base = resolve("quick", method="mhva+pt")
    assert config_hash(base) == config_hash(resolve("quick", method="pt+mhva", cells=2, study="02", claims=("x",)))
    moved = [{"seed": 1}, {"cells": 4}, {"lr": 0.5}, {"gap": 1}, {"anchored": False}, {"score_split": "tune"}]
    hashes = {config_hash(resolve("quick", **change)) for change in moved}
    assert len(hashes | {config_hash(base)}) == len(moved) + 1


def test_the_hash_of_released_settings_never_changes():
    """A new setting is off by default and its default is not hashed, so published records stay findable."""
    assert config_hash(resolve("full", method="mhva+pt", seed=3, lr=1e-3)) == "a1033940f176"


def test_the_hashes_of_published_runs_are_found_from_their_settings():
    paths = sorted(config.records_dir("full").glob("*.json"))[::40]
    assert len(paths) >= 5
    for path in paths:
        about = json.loads(path.read_text())["run_info"]
        assert config_hash(resolve(**about["config"])) == about["config_hash"] == path.stem.rsplit("--", 1)[-1]


def test_the_clip_of_a_weights_file_is_a_setting():
    found = resolve(backbone="vivit_b", weights="my.safetensors", weights_clip="32,112,112")
    assert found.weights_clip == (32, 112, 112) == vision_run(found).weights_clip
    assert found == resolve(backbone="vivit_b", weights="my.safetensors", weights_clip=[32, 112, 112])
    assert config_hash(found) != config_hash(resolve(backbone="vivit_b", weights="my.safetensors"))
    assert "--weights-clip 32,112,112" in command_line(found) and resolve().weights_clip is None


def test_the_prefixs_dropout_is_a_setting_that_leaves_old_hashes_alone():
    dropped = resolve("full", method="mhva+pt", prefix_dropout="0.1")
    assert dropped.plugins.prefix.dropout == 0.1 == vision_run(dropped).prefix_dropout
    assert config_hash(dropped) != config_hash(resolve("full", method="mhva+pt"))
    assert config_hash(resolve(prefix_dropout=0)) == config_hash(resolve())
    assert "--prefix-dropout 0.1" in command_line(dropped)


def test_modalities_are_a_sorted_set_and_enter_the_hash():
    both = resolve(method="mhva+pt+caa", side="flow, audio", caa_stages="4,3")
    assert both.side == ("audio", "flow") and both.caa_stages == (3, 4) and both.regime == "steps"
    given = dict(method="mhva+pt+caa", side="audio")
    moved = [{}, {"side": "flow"}, {"regime": "joint"}, {"modality_dropout": 0.2}, {"caa_form": "standard"}]
    moved += [{"caa_join": "add"}, {"caa_stages": [4]}, {"init": "x"}, {"method": "mhva+pt+mmca"}]
    assert len({config_hash(resolve(**(given | change))) for change in moved}) == len(moved)
    assert run_id(resolve(**given)).startswith("adhoc--mhva+pt+caa--audio--video_swin_mini--seed0--")


def test_the_first_step_is_the_run_with_pictures_alone():
    given = dict(seed=3, epochs=5, score_split="tune", data="rooms-group")
    cross = dict(side="audio", caa_form="standard", modality_dropout=0.1, init="x", lr=0.02, claims=("a",))
    first = vision_run(resolve("quick", method="mhva+pt+caa", **given, **cross))
    assert first == resolve("quick", method="mhva+pt", **given)
    assert vision_run(resolve(method="full+caa", side="flow", regime="joint")).method == "full"


def test_a_preset_is_a_setting_and_leaves_the_first_step_alone_where_it_says_nothing_of_vision():
    runs = {name: resolve("quick", method="mhva+pt+caa", side="audio", preset=name) for name in PRESETS}
    assert len({config_hash(run) for run in runs.values()}) == len(PRESETS) and "--preset eight" in command_line(
        runs["eight"]
    )
    firsts = {name: vision_run(run) for name, run in runs.items()}
    assert firsts["decoupled"] == firsts["default"] and firsts["eight"].plugins.adapter.time_cells == 2
    with pytest.raises(ConfigError, match="did you mean 'eight'"):
        resolve(preset="eigth")


def test_the_hash_is_the_same_in_another_process():
    code = "from cm3t.config import *; print(config_hash(resolve('full', seed=3)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == config_hash(resolve("full", seed=3))


def test_a_run_id_is_a_file_name_that_reads():
    name = run_id(resolve("smoke", study="02", method="adaptformer+pt", seed=3))
    assert name.startswith("02--adaptformer+pt--video_swin_mini--seed3--") and "/" not in name


def test_the_released_tuning_is_used_and_can_be_overruled(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    table = {"rooms-kitchen/video_swin_mini/mhva+pt": {"lr": 0.0042}}
    (tmp_path / "results" / "tuning.json").write_text(json.dumps(table))
    assert resolve(method="mhva+pt").lr == 0.0042
    assert resolve(method="mhva+pt", lr=0.1).lr == 0.1
    assert resolve(method="linear").lr == UNTUNED_LR["head"]


def test_what_was_not_tuned_itself_inherits_from_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    kitchen = "rooms-kitchen/video_swin_mini"
    table = {
        f"{kitchen}/mhva+pt": 0.03,
        f"{kitchen}/mhva+pt+caa": 0.002,
        f"{kitchen}/mhva+pt+caa caa_form=standard": 0.5,
    }
    (tmp_path / "results" / "tuning.json").write_text(json.dumps({key: {"lr": lr} for key, lr in table.items()}))
    side = dict(method="mhva+pt+caa", side="flow")
    as_usual = ({}, {"caa_form": "token_gate"}, {"caa_join": "add"}, {"regime": "apart"}, {"regime": "joint"})
    assert {resolve(**side, **given).lr for given in as_usual} == {0.002}
    assert resolve(**side, caa_form="standard").lr == 0.5
    late = dict(side="flow", method="mhva+pt+late")  # without an entry of its own
    assert resolve(**late, regime="joint").lr == vision_run(resolve(**late)).lr == 0.03
    assert resolve(weights="contrastive", backbone="clip_mini").lr == UNTUNED_LR["plugins"]


def test_a_second_step_learns_at_the_rate_of_plugins_whatever_the_first_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "ROOT", tmp_path)  # without the released rates
    rates = {regime: resolve(method="full+caa", side="flow", regime=regime).lr for regime in ("steps", "joint")}
    assert rates == {"steps": UNTUNED_LR["plugins"], "joint": UNTUNED_LR["all"]}
    assert vision_run(resolve(method="full+caa", side="flow")).lr == UNTUNED_LR["all"]


def test_the_command_of_a_record_is_the_run():
    given = resolve("quick", method="mhva+pt+caa", side="flow,audio", caa_stages=[3, 2], modality_dropout=0.2, seed=4)
    words = command_line(given).split()[3:]
    flags = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    assert resolve(**flags) == given


def test_seeds_are_given_or_the_profiles():
    assert seeds_for("quick") == (0, 1) and seeds_for("quick", "[3, 4]") == (3, 4)
    with pytest.raises(ConfigError):
        seeds_for("quick", "all")


def test_a_stretched_run_has_a_multiple_of_the_profiles_epochs():
    plain, long = resolve("quick"), resolve("quick", stretch=2)
    assert long.epochs == 2 * plain.epochs and config_hash(long) != config_hash(plain)
    assert resolve("quick", stretch=2, epochs=3).epochs == 3


def test_how_data_are_read_is_asked_of_who_knows_it():
    found = resolve(data="epic", source="frames", head="action", workers="2", jitter="yes", transform="crop+flip")
    assert (found.source, found.head, found.workers, found.jitter) == ("frames", "action", 2, True)
    for given, words in (
        ({"view": 1}, ["view=1 is for mpiigi, rooms-group; rooms-kitchen knows tune, source"]),
        ({"data": "udiva", "head": "action"}, ["head='action' is for epic", "udiva knows", "windows"]),
        ({"data": "epic", "source": "mp4"}, ["source='mp4'", "frames, video"]),
        ({"jitter": True}, ["jitter draws every clip anew", "workers=0"]),
        ({"transform": "flip"}, ["transform draws"]),
        ({"data": "mpiigi", "behaviours": 16}, ["out of range"]),
        ({"features": "audio", "side": "audio", "method": "mhva+caa"}, ["features='audio'", "MODALITY=FILE"]),
    ):
        with pytest.raises(ConfigError) as error:
            resolve(**given)
        assert all(word in str(error.value) for word in words), str(error.value)


def test_modalities_of_features_are_modalities():
    given = dict(data="epic", method="mhva+pt+caa", features="gaze=some/gaze.h5, audio=a")
    found = resolve(side="gaze,flow", **given)
    assert found.side == ("flow", "gaze") and config.features_of(found) == {"gaze": "some/gaze.h5", "audio": "a"}
    assert vision_run(found).features is None
    found = resolve(side="gaze", feature_length=8, feature_rate="2.5", **given)
    assert vision_run(found) == resolve(data="epic", method="mhva+pt")
    with pytest.raises(ConfigError, match="feature_length is of features.*none are given"):
        resolve(data="epic", method="mhva+pt+caa", side="flow", feature_length=8)
    with pytest.raises(ConfigError, match="no modality 'depth'.*gaze"):
        resolve(side="depth", **given)


def test_what_only_a_side_needs_is_left_out_without_one_and_workers_move_no_number():
    assert config_hash(resolve(data="epic", audio="archive", flow="files")) == config_hash(resolve(data="epic"))
    assert config_hash(resolve(workers=0)) == config_hash(resolve(workers=4)) == config_hash(resolve())
    moved = [{}, {"source": "frames"}, {"head": "action"}, {"sampling": "dense"}, {"tune": "P01"}]
    assert len({config_hash(resolve(data="epic", **change)) for change in moved}) == len(moved)


def test_the_paper_profile_names_data_backbone_and_weights():
    found = resolve("paper")
    assert (found.data, found.backbone, found.weights, found.workers) == ("epic", "video_swin_b", "kinetics400", 8)
    assert resolve("paper", backbone="clip_b").weights == "openai"
    mine = resolve("paper", data="udiva", backbone="video_swin_mini", weights=None, workers=0)
    assert (mine.data, mine.weights, mine.workers) == ("udiva", None, 0)
    assert resolve("paper", backbone="video_swin_mini").weights == "default"
    assert resolve("full").workers is None and resolve("full").data == "rooms-kitchen"


def test_how_sound_is_read_is_a_setting_of_runs_that_hear():
    joined = dict(method="mhva+pt+caa")
    assert {resolve("smoke", data=room, side="audio", **joined).sound for room in SOUNDS} == {"small"}
    assert resolve("smoke", side="audio", sound="epic", **joined).sound == "epic"
    assert resolve("smoke", side="flow", **joined).sound is resolve("smoke", sound="small").sound is None
    assert resolve("smoke", data="epic", side="audio", **joined).sound is None
    with pytest.raises(ConfigError, match="sound='small' is for epic.*udiva knows"):
        resolve("smoke", data="udiva", side="audio", sound="small", **joined)

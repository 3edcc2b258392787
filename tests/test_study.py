"""The plan of runs: complete, without doubles, fair to every method, and in step with the claims it tests."""

import json
import subprocess
import sys

import pytest

from cm3t import config as settings_of
from cm3t import plans
from cm3t import study as plan
from cm3t.coerce import ConfigError
from cm3t.config import PROFILES, released, resolve, vision_run
from cm3t.model import create
from cm3t.paper import CLAIMS
from cm3t.rates import tuned_lr, tuning_key
from cm3t.records import load_all, records_dir, save_record, to_frame
from cm3t.stats import Interval, select


def test_every_profile_has_a_plan_whose_groups_exist():
    for name, by_profile in plans.PLAN.items():
        assert set(by_profile) == set(PROFILES)
        assert all(plan.groups_for(name, profile) for profile in PROFILES)
        assert all(group in plans.STUDIES[name] for groups in by_profile.values() for group in groups)


@pytest.mark.parametrize("number", plans.STUDIES)
@pytest.mark.parametrize("profile", PROFILES)
def test_no_run_is_planned_twice_and_seeds_come_in_rounds(profile, number):
    configs = plan.configs(number, profile)
    assert len({settings_of.config_hash(c) for c in configs}) == len(configs)
    assert [c.seed for c in configs] == sorted(c.seed for c in configs)
    assert {c.seed for c in configs} == set(PROFILES[profile].seeds)


def test_smoke_is_three_runs_and_quick_two_seeds_of_seven_variants():
    assert len(plan.configs("02", "smoke")) == 3
    assert len(plan.configs("02", "quick")) == 2 * 7


@pytest.mark.slow
@pytest.mark.parametrize("number", plans.STUDIES)
def test_every_planned_variant_is_found_again_by_its_own_settings(number, make_record):
    wanted = plan.configs(number, "full", seeds=[0])
    frame = to_frame([make_record(**c.__dict__) for c in wanted])
    for group in plans.PLAN[number]["full"]:
        for variant in plans.STUDIES[number][group]:
            assert len(select(frame, **variant.settings)) == 1, variant.label


def test_a_run_that_reuses_adapters_names_the_donor_of_its_own_seed():
    for config in plan.configs("09", "full", groups=["reuse"], seeds=[0, 3]):
        if config.init:
            assert f"seed{config.seed}" in config.init and config.init.split("--")[1:3] == ["mhva+pt+caa", "audio"]
            donors = [c for c in plan.configs("09", "full", groups=["reuse"], seeds=[config.seed]) if not c.init]
            assert config.init in {settings_of.run_id(c) for c in donors}


def test_every_claim_of_a_notebook_has_both_its_sides_in_its_plan():
    for claim in (c for c in CLAIMS if c.notebook in plans.STUDIES and c.ours):
        groups = [g for g in plans.STUDIES[claim.notebook] if g != "tuning"]
        known = [plan._conditions(v.settings) for g in groups for v in plans.STUDIES[claim.notebook][g]]
        for side in filter(None, (claim.ours, claim.against, *(claim.beyond or ()))):
            assert plan._conditions(side) in known, claim.id
            assert claim.id in plan.claims_of(side)


def test_the_sweep_gives_every_tuned_method_the_same_rates_on_tune_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_of, "ROOT", tmp_path)  # nothing is released yet
    sweep = plan.configs("02", "full", groups=["tuning"])
    rates = {}
    for c in sweep:
        rates.setdefault(tuning_key(vars(c)), []).append(c.lr)
        assert (c.score_split, c.seed) == ("tune", 0)
    assert len(rates) == len(plans.TUNED)
    assert all(tuple(tried) == plans.RATES for tried in rates.values())
    compared = {tuning_key(vars(c)) for c in plan.configs("02", "full", groups=["core", "main", "ladder"])}
    assert compared <= set(rates)


@pytest.mark.parametrize("study", [name for name, groups in plans.STUDIES.items() if "tuning" in groups])
def test_a_sweep_tries_each_rate_of_a_method_once(study):
    tried = [(tuning_key(vars(c)), c.lr) for c in plan.configs(study, "full", groups=["tuning"])]
    assert len(set(tried)) == len(tried)


def test_full_fine_tuning_with_modalities_is_tuned_over_as_many_epochs_as_both_steps():
    sweep = plan.configs("04", "full", groups=["tuning"])
    taken = {(c.method, c.regime): c.epochs + (0 if c.regime == "joint" else vision_run(c).epochs) for c in sweep}
    assert set(taken.values()) == {PROFILES["full"].epochs} and ("full+caa", "joint") in taken
    keys = {tuning_key(vars(c)) for c in sweep}
    assert len(keys) == len(plans.STUDIES["04"]["tuning"]) and len(sweep) == len(keys) * len(plans.RATES)


def test_what_trains_modalities_is_swept_itself_or_inherits_cm3ts_rate():
    """As notebooks 04, 05 and 09 say before their tables."""
    swept = (plans.CM3T, plans.MMCA, plans.LATE, *plans.READINGS[1:], plans.REGIME[2], plans.FULL_CAA)
    assert {v.label for v in swept} == {v.label for v in plans.STUDIES["04"]["tuning"]}
    of_cm3t = {tuning_key(vars(resolve("full", **plans.CM3T.settings))): {"lr": 0.123}}
    groups = (group for number in ("04", "05", "09") for group in plans.STUDIES[number].values())
    heard = {
        v.label: v.settings for group in groups for v in group if "side" in v.settings and "data" not in v.settings
    }
    inherit = {label for label in heard if label not in {v.label for v in swept}}
    found = {label: tuned_lr(vars(resolve("full", **heard[label])), of_cm3t) for label in inherit}
    assert len(found) > 10 and set(found.values()) == {0.123}, found
    group = resolve("full", **plans.SCARCE[0].settings)
    assert tuning_key(vars(group)) == tuning_key(vars(resolve("full", **plans.on(plans.CM3T, "rooms-group").settings)))


def test_ladder_steps_differ_from_adaptformer_in_one_factor_each():
    configs = [settings_of.resolve(**v.settings).plugins.adapter for v in plans.LADDER]
    first = configs[0]

    def changed(spec):
        return {name for name in ("cells", "learnable_scale", "input") if getattr(spec, name) != getattr(first, name)}

    assert [len(changed(spec)) for spec in configs] == [0, 1, 1, 1, 3]
    assert {spec.width(96) for spec in configs} == {24}


def test_the_equal_adapter_has_mhvas_parameters_to_within_its_biases():
    shared, mhva = (
        create("video_swin_mini", **v.settings, weights=None).summary().trainable for v in (plans.EQUAL, plans.MHVA)
    )
    assert abs(shared - mhva) / mhva < 0.02


@pytest.mark.slow
def test_winners_of_the_sweep_are_written_and_used(tmp_path, monkeypatch, make_record):
    monkeypatch.setattr(settings_of, "ROOT", tmp_path)
    for c in plan.configs("02", "full", groups=["tuning"]):
        score = 50 - abs(c.lr - (3e-3 if c.match_cells else 1e-1)) * 100
        record = make_record(score=score, **c.__dict__)
        save_record(record, records_dir("full"))
    winners = plan.release_rates(to_frame(load_all(records_dir("full"))))
    assert len(winners) == len(plans.TUNED)
    assert winners["rooms-kitchen/video_swin_mini/mhva"]["due"] == [0.3]
    assert winners["rooms-kitchen/video_swin_mini/mhva"]["tied"] == []
    assert json.loads((tmp_path / "results" / "tuning.json").read_text()) == winners
    rates = {c.match_cells: c.lr for c in plan.configs("02", "smoke")}
    assert rates == {None: 1e-1, 2: 3e-3}


def test_unequal_tuning_is_refused_by_name(make_record):
    few = [make_record(**c.__dict__) for c in plan.configs("02", "full", groups=["tuning"])[:-1]]
    with pytest.raises(ValueError, match="unequal tuning.*match_cells=2: 0.1 is missing"):
        plan.best_rates(to_frame(few))
    with pytest.raises(ValueError, match="run the sweep"):
        plan.best_rates(to_frame([]))


def test_the_sweep_goes_on_beyond_a_best_rate_at_its_edge_and_no_further(tmp_path, monkeypatch, make_record):
    monkeypatch.setattr(settings_of, "ROOT", tmp_path)
    key = "rooms-kitchen/video_swin_mini/mhva+pt"

    def swept() -> list[float]:
        return sorted(c.lr for c in plan.configs("02", "full", groups=["tuning"]) if tuning_key(vars(c)) == key)

    def made(scores: dict[float, float]):
        return to_frame([make_record(lr=lr, score=score, score_split="tune") for lr, score in scores.items()])

    scores = dict(zip(plans.RATES, (60.0, 40.0, 30.0, 20.0, 10.0, 5.0), strict=True))
    assert swept() == list(plans.RATES)
    assert plan.release_rates(made(scores))[key]["due"] == [1e-4] and swept() == [1e-4, *plans.RATES]
    scores[1e-4] = 70.0
    assert plan.release_rates(made(scores))[key]["lr"] == 1e-4 and swept() == [3e-5, 1e-4, *plans.RATES]
    scores[3e-5] = 50.0
    assert plan.release_rates(made(scores))[key]["due"] == [] and swept() == [3e-5, 1e-4, *plans.RATES]
    scores[3e-1] = 99.0  # above the rates that all tried, where nothing spoke for it
    with pytest.raises(ValueError, match="mhva\\+pt: 0.3 is one too many"):
        plan.release_rates(made(scores))


@pytest.mark.parametrize("best, more", [(1e-1, [0.3]), (0.3, [1.0]), (3e-4, [1e-4]), (1e-4, [3e-5]), (3e-3, [])])
def test_the_next_rate_is_half_a_decade_on(best, more):
    tried = dict.fromkeys({*plans.RATES, best}, 1.0) | {best: 2.0}
    assert list(plan._further("rooms-kitchen/video_swin_mini/pt", tried)) == more


def test_a_best_rate_that_only_learns_the_constant_was_too_high():
    key = "rooms-dyad/video_swin_mini/full"
    tried = dict(zip(plans.RATES, (1.18, 1.41, 1.29, 1.01, 0.996, 1.0006), strict=True))
    assert plan._further(key, tried) == (1e-4,)
    assert plan._further(key, tried | {1e-3: 0.9}) == ()
    assert plan._further(key, tried | {1e-4: 0.95}) == (3e-5,)
    assert plan._further(key, tried | {1e-1: 0.995}) == (0.3, 1e-4)  # the outermost besides


def test_of_rates_that_tie_the_lowest_wins_and_the_others_are_named(make_record):
    scores = dict(zip(plans.RATES, (30.0, 40.0, 50.0, 50.0, 50.0, 20.0), strict=True))
    made = [make_record(lr=lr, score=score, score_split="tune") for lr, score in scores.items()]
    (winner,) = plan.best_rates(to_frame(made)).values()
    assert (winner["lr"], winner["tied"], winner["due"]) == (3e-3, [1e-2, 3e-2], [])


def test_a_variant_may_name_its_rate():
    tied, plain = plans.TIED, plans.MAIN[3]
    runs = [c for c in plan.configs("02", "full", groups=["rates"], seeds=[0]) if c.method == plain.settings["method"]]
    assert {c.lr for c in runs} == {1e-2, tied.settings["lr"]}
    assert plan.claims_of(plain.settings) and not plan.claims_of(tied.settings)
    assert tied.settings["lr"] in released()[tuning_key(vars(runs[0]))]["tied"]  # as the published sweep found


def test_a_comparison_pairs_by_seed_and_leaves_out_what_was_not_run(study):
    study("full", [("mhva", 45.0)])
    table = plan.compare(to_frame(load_all(records_dir("full"))), plans.MAIN, {"- PT": plan.variant("02", "PT")})
    assert list(table["method"]) == ["MHVA"]
    assert table["score"].iloc[0].n == 5 and table["- PT"].iloc[0] is None


def test_an_interaction_is_the_difference_of_paired_differences(make_record):
    def runs(variant, scores):
        return [make_record("full", score=y, seed=seed, **variant.settings) for seed, y in enumerate(scores)]

    shared, mhva, shared_moved, mhva_moved = plans.ANCHORING
    records = runs(shared, [40, 41]) + runs(mhva, [45, 47]) + runs(shared_moved, [30, 32]) + runs(mhva_moved, [31, 33])
    frame = to_frame(records)
    found = plan.interaction(frame, (mhva, shared), (mhva_moved, shared_moved))
    assert (found.mean, found.n) == (4.5, 2)
    assert plan.interaction(to_frame(records[:6]), (mhva, shared), (mhva_moved, shared_moved)) is None
    assert plan.interaction(to_frame([]), (mhva, shared), (mhva_moved, shared_moved)) is None


def test_what_a_notebook_leaves_open_is_the_profiles_own():
    open_ = dict(data="", root="", backbone="", weights="")
    assert [c.__dict__ for c in plan.configs("02", "smoke", **open_)] == [
        c.__dict__ for c in plan.configs("02", "smoke")
    ]
    for study in ("02", "07", "09"):
        for c in plan.configs(study, "paper", **(open_ if study == "02" else {"backbone": "", "weights": ""})):
            assert (c.backbone, c.weights) == ("video_swin_b", "kinetics400") and c.data in plans.STAND_INS.values()
    (own, *_) = plan.configs("02", "paper", data="epic", root="kitchens", backbone="video_swin_mini", weights="none")
    assert (own.data, own.root, own.backbone, own.weights) == ("epic", "kitchens", "video_swin_mini", None)
    with pytest.raises(ConfigError, match="unknown setting 'wieghts'"):
        settings_of.resolve(wieghts="")


def test_a_study_of_three_tasks_runs_on_the_real_sets_whose_folders_are_given():
    roots = {"mpiigi": "groups", "udiva": "dyads", "epic": "kitchens"}
    configs = plan.configs("07", "paper", roots=roots)
    assert [(c.data, c.root) for c in configs[::4]] == [("epic", "kitchens"), ("mpiigi", "groups"), ("udiva", "dyads")]
    assert len(configs) == 12 and {c.profile for c in configs} == {"paper"}
    (only,) = {c.data for c in plan.configs("07", "smoke", roots={"udiva": "dyads"})}
    assert only == "udiva"
    with pytest.raises(ConfigError, match="roots: 'epik' is no real data set; did you mean 'epic'"):
        plan.configs("07", "smoke", roots={"epik": "kitchens"})


def test_real_adapters_are_reused_from_the_real_kitchen_or_not_at_all():
    roots = {"mpiigi": "groups", "epic": "kitchens"}
    configs = {settings_of.run_id(c): c for c in plan.configs("09", "paper", groups=["reuse"], roots=roots)}
    reused = [c for c in configs.values() if c.init]
    assert len(reused) == 2 and all(configs[c.init].data == "epic" for c in reused)
    assert not [c for c in plan.configs("09", "paper", roots={"mpiigi": "groups"}) if c.init]


def test_a_table_finds_the_runs_on_real_data_by_the_same_variants(make_record):
    roots = {"epic": "kitchens", "mpiigi": "groups"}
    frame = to_frame([make_record(**c.__dict__) for c in plan.configs("07", "paper", roots=roots)])
    for room in plans.ROOMS[:2]:
        variants = plan.placed(plans.TASKS[f"table 4, {room}"], "paper", roots)
        assert len(plan.compare(frame, variants, {})) == 4
        assert all("rooms" not in v.label for v in variants)
    assert plan.placed(plans.TASKS["table 4, rooms-dyad"], "paper", roots) == ()
    assert plan.placed(plans.TABLE_4, "full") == plans.TABLE_4


def test_words_for_a_difference_claim_no_more_than_the_interval():
    assert plan.verdict(Interval(2.0, 1.0, 5)).endswith("higher")
    assert plan.verdict(Interval(-2.0, 1.0, 5)).endswith("lower")
    assert "undecided" in plan.verdict(Interval(0.5, 1.0, 5))
    assert "decides nothing" in plan.verdict(Interval(9.0, float("nan"), 1))
    assert plan.verdict(None) == "not run yet"


def test_unknown_names_are_errors_with_the_nearest_one():
    with pytest.raises(ConfigError, match="laddder.*ladder"):
        plan.configs("02", "full", groups=["laddder"])
    with pytest.raises(ConfigError, match="MHVA"):
        plan.variant("02", "MHAV")
    with pytest.raises(ConfigError, match="plans no runs"):
        plan.configs("20", "smoke")


@pytest.mark.slow
def test_planning_needs_no_torch():
    code = "import sys; from cm3t import study; study.configs('02', 'full'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

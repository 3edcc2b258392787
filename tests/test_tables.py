"""Tables of a page: from which profile, at which learning rates, and what one's own runs came to."""

import pandas as pd
import pytest

from cm3t import plans, stats, study
from cm3t.config import records_dir
from cm3t.pages import tables
from cm3t.records import load_all, results, save_record, to_frame

MAIN = [("mhva+pt", 42.0), ("full", 50.0), ("linear", 20.0)]
PAIR = (plans.MHVA_PT, plans.FULL)


def spaced(text):
    return text.replace("\u00a0", " ")


@pytest.fixture
def both(study):
    """`full` has one of the two rows, `quick` both."""
    study("full", MAIN[:1])
    study("quick", MAIN)


def test_a_table_is_of_the_largest_profile_with_two_of_its_rows(both):
    found = tables.frames()
    assert list(found) == ["full", "quick"]
    assert tables.pick(found, PAIR)[0] == "quick"
    assert tables.pick(found, PAIR[:1])[0] == "full"
    assert tables.pick(found, (plans.PT,))[0] == "full"  # none of them: the largest


def test_rows_that_lack_seeds_do_not_count(both, make_record):
    save_record(make_record("full", score=50.0, method="full", seed=0), records_dir("full"))
    assert tables.pick(tables.frames(), PAIR)[0] == "quick"


def test_nothing_published_is_an_empty_table(study):
    study("full", [])
    text = tables.recorded(tables.frames(), PAIR, PAIR[1:])
    assert " Not run yet: MHVA + PT (`python -m cm3t.run 03 --profile smoke`); full fine-tuning (`" in text
    assert "Profile" not in text and "synthetic" in text


def test_what_has_not_run_has_no_row_and_no_column_and_is_named_below(both):
    variants = (*PAIR, plans.PT, plans.LONGER)
    text = tables.recorded(tables.frames(), variants, (plans.FULL, plans.LONGER))
    assert "| minus full fine-tuning | n |" in text and text.count("twice as long") == 1 and "| PT |" not in text
    assert "Not run yet at `quick`: PT (`python -m cm3t.run 03 --profile quick`); MHVA + PT, twice as long (`" in text
    assert text.endswith("`python -m cm3t.run 04 --profile quick`).")
    heard = plans.TABLE_6["vivit"][4]  # quick does not plan it
    text = tables.recorded(tables.frames(), (*PAIR, heard))
    assert text.endswith("CM3T, vivit (`python -m cm3t.run 06 --profile full`).")


def test_an_interval_is_not_broken_over_lines():
    assert tables.markdown(pd.DataFrame({"score": ["1.0 ± 0.5"]})).endswith("| 1.0\u00a0±\u00a00.5 |")


def test_a_recorded_table_says_its_profile_and_rates(both):
    text = tables.recorded(tables.frames(), PAIR, (plans.FULL,))
    assert "| minus full fine-tuning | n |" in text and "Profile `quick`" in text
    assert text.endswith("Learning rates, never swept: 0.001 (MHVA + PT), 0.0003 (full fine-tuning).")


def test_table_4_has_shares_and_epochs(both):
    head = tables.recorded(tables.frames(), PAIR, epochs=True).splitlines()[0]
    assert head == "| method | action top-1 (%) | trained, heads apart (%) | epochs to converge | n |"


def test_a_first_step_that_was_made_again_is_said(make_record):
    def page(fallen):
        heard = make_record(score=50.0, method="mhva+pt+caa", side=("audio", "flow"))
        heard.train_info["metrics"]["validation"]["no_side"] = {"action_top1": fallen}
        return tables.recorded({"smoke": to_frame([make_record(score=40.0), heard])}, (plans.MHVA_PT, plans.CM3T))

    assert page(38.5).endswith(
        "Joined to a second execution of MHVA + PT, made later with the same settings and seeds, which scores 38.5: "
        "CM3T. Two executions of the same seed lie points apart: only *minus its own first step* "
        "compares a run with its own vision."
    )
    assert "second execution" not in page(40.0)


def test_modalities_are_held_against_the_very_run_they_were_joined_to(make_record):
    made = []
    for seed, (own, joined) in enumerate(((30.0, 41.0), (50.0, 63.0))):
        heard = make_record(score=joined, method="mhva+pt+caa", side=("audio", "flow"), seed=seed)
        heard.train_info["metrics"]["validation"]["no_side"] = {"action_top1": own}
        made += [make_record(score=40.0, seed=seed), heard]
    frame = to_frame(made)
    table = study.compare(frame, (plans.MHVA_PT, plans.CM3T), {}).set_index("method")
    assert table.loc["MHVA + PT", study.FIRST] is None
    found = table.loc["CM3T", study.FIRST]
    assert (found.mean, found.n) == (12.0, 2) and found.half == pytest.approx(12.706, abs=1e-3)
    assert study.FIRST not in study.compare(frame, (plans.MHVA_PT,), {})
    text = tables.recorded({"smoke": frame}, (plans.MHVA_PT, plans.CM3T), (plans.MHVA_PT,))
    assert text.splitlines()[0].endswith("| action top-1 (%) | minus its own first step | minus MHVA + PT | n |")
    joint = make_record(score=50.0, method="mhva+pt+caa", side=("audio", "flow"), regime="joint")
    joint.train_info["metrics"]["validation"]["no_side"] = {"action_top1": 40.0}
    ours = plans.CM3T.settings | {"regime": "joint"}
    assert stats.over_first_step(to_frame([joint]), ours) is None and stats.over_first_step(to_frame([]), ours) is None


def test_scores_seed_by_seed(both):
    rows = tables.by_seed(tables.frames(), PAIR).splitlines()
    assert (
        rows[0] == "| action top-1 (%) | seed 0 | seed 1 |" and rows[2].startswith("| MHVA + PT | 4") and len(rows) == 4
    )
    assert tables.by_seed({}, PAIR) == "Not run yet."


def test_where_a_rate_comes_from(monkeypatch):
    key = "rooms-kitchen/video_swin_mini/mhva+pt"
    monkeypatch.setattr(study, "released", lambda: {key: {"lr": 3e-2, "due": []}})
    sources = [study.rate_source(v.settings) for v in (plans.MHVA_PT, plans.ACTIVATION[1], plans.FULL, plans.SECOND)]
    assert sources == ["swept", "inherited", "never swept", "given"]
    monkeypatch.setattr(study, "released", lambda: {key: {"lr": 3e-2, "due": [0.1]}})
    assert study.rate_source(plans.MHVA_PT.settings) == "sweep not finished"


def test_ones_own_runs_are_a_table_but_those_of_smoke(both):
    runs = results("quick")
    text = tables.own_runs(runs, "02", "quick", against=(plans.FULL, plans.PT))
    title, _, head, _, *rows = text.splitlines()
    assert title == "**Your own runs, rooms-kitchen**" and "minus full fine-tuning | n |" in head and len(rows) == 3
    lower = next(row for row in rows if row.startswith("| MHVA + PT |"))  # by about 8 of 50 points
    assert float(lower.split(" | ")[3].split("\u00a0±")[0]) < -4
    assert tables.own_runs(runs, "02", "smoke") == tables.TOO_FEW
    assert tables.own_runs(to_frame([]), "02", "quick") == "None of these runs was scored on validation."


def test_ones_own_modalities_stand_beside_their_controls(make_record):
    sides = {"method": "mhva+pt+caa", "side": ("audio", "flow")}
    made = [make_record("quick", **kind, seed=seed) for kind in ({"method": "mhva+pt"}, sides) for seed in (0, 1)]
    for record in made[2:]:
        subsets = record.train_info["metrics"]["validation"]
        subsets |= {name: subsets["all"] for name in ("no_audio", "shuffled_audio", "muted_audio")}
    text = tables.own_runs(to_frame(made), "04", "quick", against=(plans.MHVA_PT,))
    assert "| CM3T |" in text and "| audio | 40.0 ± 0.0 | 40.0 ± 0.0 | 40.0 ± 0.0 | 40.0 ± 0.0 |" in spaced(text)
    assert "| flow | 40.0 ± 0.0 | not run yet |" in spaced(text)


def test_one_sets_rows_go_into_one_table(make_record):
    """The rooms differ in their measure; a real set that no variant names is the only one there is."""
    group = make_record("quick", method="mhva+pt", data="rooms-group")
    group.train_info["metrics"]["validation"]["all"]["map"] = 33.0
    text = tables.own_runs(to_frame([make_record("quick", method="mhva+pt"), group]), "07", "quick")
    assert "Your own runs, rooms-kitchen" in text and "Your own runs, rooms-group" in text and "macro mAP" in text
    epic = to_frame([make_record("quick", method="mhva+pt", data="epic")])
    assert "Your own runs, epic" in tables.own_runs(epic, "02", "quick")


def test_what_page_06_concludes_of_three_frozen_networks_is_what_was_recorded():
    found = to_frame(load_all(records_dir("full")))
    behind, added = [], {}
    for name, (_, full, _, vision, joined, *_) in plans.TABLE_6.items():
        behind.append(stats.paired(found, full.settings, vision.settings))
        added[name] = stats.over_first_step(found, joined.settings)
    assert all(gap.n == 5 and gap.mean > 0 for gap in behind)
    assert all(gain.n == 5 and gain.mean > gain.half for gain in added.values())
    assert added["swin"].mean < added["vivit"].mean < added["clip"].mean

"""Intervals and paired differences against numbers worked by hand, and selections that do not mix studies."""

import math

import pytest

from cm3t.records import results, save_record
from cm3t.stats import Interval, interval, paired, rounded, select, summary


def test_an_interval_worked_by_hand():
    found = interval([1.0, 2.0, 3.0])  # s = 1, t(2, 0.975) = 4.3027
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)


def test_one_run_has_no_interval_and_none_is_an_error():
    assert math.isnan(interval([5.0]).half) and interval([5.0]).text() == "5.0"
    with pytest.raises(ValueError, match="run the study"):
        interval([])
    assert Interval(1.234, 0.5, 3).text(signed=True) == "+1.23 ± 0.50" and Interval(1.234, 0.5, 3).text() == "1.2 ± 0.5"
    assert interval([5.0]).ends() == ""


@pytest.mark.parametrize(
    "value, digits, signed, expected",
    [
        (75.05, 1, False, "75.1"),  # its nearest double lies below
        (2.65, 1, True, "+2.7"),
        (-2.65, 1, True, "-2.7"),
        (0.15 + 0.15 + 0.15, 1, False, "0.5"),  # sums of scores are off by a last bit
        (-0.0073, 1, True, "0.0"),
        (-0.0073, 2, True, "-0.01"),
        (float("nan"), 1, False, "NaN"),
    ],
)
def test_numbers_are_rounded_as_in_decimals(value, digits, signed, expected):
    assert rounded(value, digits, signed) == expected


def test_a_difference_is_paired_by_seed(tmp_path, study, make_record):
    from cm3t.config import records_dir

    study("quick", [])
    for seed, (ours, theirs) in enumerate([(50.0, 40.0), (30.0, 21.0), (44.0, 33.0)]):
        for method, score in (("mhva+pt", ours), ("adaptformer+pt", theirs)):
            save_record(make_record("quick", method=method, seed=seed, score=score), records_dir("quick"))
    save_record(make_record("quick", method="mhva+pt", seed=8, score=0.0), records_dir("quick"))  # no partner
    found = paired(results("quick"), {"method": "pt+mhva"}, {"method": "adaptformer+pt"})
    assert (found.mean, found.n) == (10.0, 3)
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # far below the spread between seeds
    assert paired(results("quick"), {"method": "mhva+pt"}, {"method": "linear"}) is None


def test_sweeps_and_gaps_stay_out_of_a_plain_selection(study):
    study("quick", [("mhva+pt", 40.0)])
    study("quick", [("mhva+pt", 35.0)], bottleneck=16)
    study("quick", [("mhva+pt", 20.0)], gap=2)
    study("quick", [("mhva+pt", 60.0)], score_split="tune")
    frame = results("quick")
    assert len(frame) == 8 and len(select(frame, method="mhva+pt")) == 2
    assert set(select(frame, method="mhva+pt", bottleneck=any)["bottleneck"].fillna(0)) == {0, 16}
    assert len(select(frame, method="mhva+pt", gap=2)) == 2
    assert select(frame.iloc[:0], method="mhva+pt").empty


def test_a_summary_has_a_row_a_group(study):
    study("quick", [("mhva+pt", 40.0), ("linear", 20.0)])
    table = summary(select(results("quick")), ["method"])
    assert list(table["method"]) and list(table["n"]) == [2, 2]
    assert table.set_index("method")["mean"]["linear"] == pytest.approx(20.0, abs=0.7)


def test_of_several_rates_the_released_one_counts(study):
    study("quick", [("mhva+pt", 40.0)])
    study("quick", [("mhva+pt", 50.0)], lr=0.5)
    found = select(results("quick"), method="mhva+pt")
    assert len(found) == 2 and 0.5 not in set(found["lr"])
    assert len(select(results("quick"), method="mhva+pt", lr=0.5)) == 2
    study("quick", [("pt", 20.0)], lr=0.25)
    study("quick", [("pt", 30.0)], lr=0.5)
    with pytest.raises(ValueError, match="runs of pt share"):  # not dropped because another method has its own rate
        select(results("quick"), method=any)


def test_stale_runs_are_not_averaged_with_new_ones(study):
    study("quick", [("mhva+pt", 40.0)], lr=0.25)
    study("quick", [("mhva+pt", 50.0)], lr=0.5)
    with pytest.raises(ValueError, match="differ in lr"):
        select(results("quick"), method="mhva+pt")
    study("quick", [("mhva+pt", 40.0)])
    study("quick", [("mhva+pt", 50.0)], batch_size=5)
    with pytest.raises(ValueError, match="differ in batch_size"):
        select(results("quick"), method="mhva+pt")

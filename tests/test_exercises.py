"""The exercises' checkers: solutions pass, empty answers and near misses do not, planted faults are real."""

import numpy as np
import pytest
import torch

from cm3t.pages import exercises
from cm3t.stats import interval


def shares_cells(model):
    adapter = model.adapters[0].requires_grad_(True)
    adapter(torch.randn(1, 1, 4, 4, adapter.width)).sum().backward()
    return adapter.up.grad[1:].abs().sum().item() == 0


def drops_scale(model):
    adapter, x = model.adapters[0], torch.randn(1, 1, 4, 4, model.adapters[0].width)
    before = adapter(x)
    with torch.no_grad():
        adapter.scale.mul_(2)
    return torch.equal(adapter(x), before)


def trains_frozen(model):
    return any(p.requires_grad for p in model.backbone.parameters())


each_fault = pytest.mark.parametrize(
    "fault", [name if name == "shared" else pytest.param(name, marks=pytest.mark.slow) for name in exercises.FAULTS]
)
SOLUTIONS = {"shared": shares_cells, "unscaled": drops_scale, "unfrozen": trains_frozen}


@each_fault
def test_a_detector_finds_its_fault_and_no_other(fault):
    for name, solution in SOLUTIONS.items():
        found = exercises.check_detector(solution, fault)
        assert found.startswith("found" if name == fault else "not yet"), found


@each_fault
def test_an_empty_answer_does_not_pass(fault):
    assert exercises.check_detector(lambda model: False, fault).startswith("not yet")
    assert exercises.check_detector(lambda model: True, fault).startswith("not yet")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["shared", "unscaled"])
def test_the_faults_change_what_a_model_computes(fault):
    video = torch.randn(1, 3, 8, 96, 96)
    with torch.no_grad():
        assert not torch.equal(exercises.planted(fault).features(video), exercises.planted().features(video))


@pytest.mark.slow
def test_a_faulty_model_has_the_parameters_of_a_healthy_one():
    counts = {exercises.planted(fault).summary().trainable for fault in (None, "shared", "unscaled")}
    assert len(counts) == 1


def test_unknown_faults_are_refused():
    with pytest.raises(KeyError, match="unfrozen"):
        exercises.planted("frozen")


def test_numbers_are_checked_without_giving_them_away():
    assert exercises.check_number(None, 7).startswith("not yet")
    assert exercises.check_number(7, 7) == "right"
    for answer in (7.5, "7", [7], float("nan"), float("inf"), True):
        assert exercises.check_number(answer, 7).startswith("not yet: write a whole number")
    assert exercises.check_number(7.0, 7) == exercises.check_number(np.int64(7), 7) == "right"
    assert exercises.check_number(6, 7).endswith("too low") and exercises.check_number(8, 7).endswith("too high")


def test_pairing_needs_common_seeds_and_the_spread_of_differences():
    def solution(ours, against):
        found = interval(ours[seed] - against[seed] for seed in set(ours) & set(against))
        return found.mean, found.half

    def unpaired(ours, against):
        return sum(ours.values()) / 5 - sum(against.values()) / 5, 1.0

    def too_wide(ours, against):
        return solution(ours, against)[0], 5.0

    assert exercises.check_paired(solution).startswith("right")
    for wrong in (unpaired, too_wide, lambda ours, against: None):
        assert exercises.check_paired(wrong).startswith("not yet")


def test_the_stale_record_is_told_by_its_digest_not_its_score():
    def by_digest(records):
        seen = [record.meta_info["digests"]["data"] for record in records]
        return next(record.run_id for record, digest in zip(records, seen, strict=True) if seen.count(digest) == 1)

    def by_score(records):
        return max(records, key=lambda r: r.train_info["metrics"]["validation"]["all"]["action_top1"]).run_id

    assert exercises.check_stale(by_digest).startswith("found")
    assert exercises.check_stale(by_score).startswith("not yet")
    assert exercises.check_stale(lambda records: None).startswith("not yet")

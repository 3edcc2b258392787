"""Curves and pictures of modalities: they draw what the records hold, and say so where there are none."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cm3t import plans, study
from cm3t.config import data_dir
from cm3t.data.epic import EpicKitchens
from cm3t.pages import curves, show_side
from cm3t.records import to_frame
from cm3t.training.tasks import TASKS, task_of

EMPTY = to_frame([])
SUBSETS = {f"validation.{part}.action_top1": words for part, words in show_side.TAKEN.items()}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_figure_says_when_there_is_nothing_to_draw():
    for figure in (
        curves.training_curves([], plans.ACTIVATION),
        curves.against_size(EMPTY),
        show_side.without_modalities(EMPTY, plans.MISSING, SUBSETS, "%"),
    ):
        assert texts(figure) == ["no published runs yet"]
    assert show_side.controls_table(EMPTY, plans.CM3T, plans.BOTH).empty
    assert show_side.taken_table(EMPTY, plans.MISSING, SUBSETS).empty


def test_training_curves_are_means_over_seeds(make_record):
    records = [make_record("full", seed=seed, **plans.MHVA_PT.settings) for seed in (0, 1)]
    for record, score in zip(records, (10.0, 30.0), strict=True):
        rows = [{"epoch": 1, "loss": 1.0, "lr": 0.1, "seconds": 1.0, "tune": {"action_top1": score}}]
        record.train_info["epochs"][:] = rows
    (line,) = curves.training_curves(records, (plans.MHVA_PT,)).axes[0].lines
    assert list(line.get_ydata()) == [20.0] and line.get_label() == "MHVA + PT (n=2)"


def test_accuracy_against_size_ends_at_all_of_the_kitchens_clips(make_record):
    few, every = (
        make_record("full", score=s, **plans.FULL.settings | c) for s, c in ((40, plans.sized(150)), (50, {}))
    )
    (bars,) = curves.against_size(to_frame([few, every])).axes[0].containers
    assert bars.lines[0].get_xdata().tolist() == [150, plans.KITCHEN_CLIPS]
    assert bars.lines[0].get_ydata().tolist() == [40, 50]
    assert len(EpicKitchens(data_dir() / "rooms-kitchen", split="train")) == plans.KITCHEN_CLIPS


def test_tables_of_controls_and_of_what_was_taken_read_the_subsets(make_record):
    record = make_record("full", score=50, **plans.CM3T.settings)
    for subset, score in {"no_audio": 45.0, "shuffled_audio": 40.0, "no_flow": 35.0, "no_side": 30.0}.items():
        record.train_info["metrics"]["validation"][subset] = {"action_top1": score, "n": 400}
    frame = to_frame([record])
    row = show_side.controls_table(frame, plans.CM3T, ("audio",)).iloc[0].to_dict()
    assert row == {
        "modality": "audio",
        "as it is": "50.0",
        "without": "45.0",
        "another clip's": "40.0",
        "silent, or still": "",
    }
    row = show_side.taken_table(frame, (plans.CM3T,), SUBSETS).iloc[0].to_dict()
    assert [row[words] for words in show_side.TAKEN.values()] == ["50.0", "45.0", "35.0", "30.0"]
    figure = show_side.without_modalities(frame, (plans.CM3T,), SUBSETS, "%")
    assert figure.axes[0].containers[0].lines[0].get_ydata().tolist() == [50, 45, 35, 30]


def test_pictures_of_modalities_draw():
    rng = np.random.default_rng(0)
    frames, mels = rng.integers(0, 255, (2, 16, 16, 3), np.uint8), rng.normal(size=(2, 40, 8))
    assert len(show_side.gallery(frames, mels, rng.normal(size=(2, 8, 8, 2)), ["a", "b"]).axes) == 6
    weights = {"audio": np.full((8, 4), 0.25), "flow": np.full((8, 4), 0.75)}
    titles = [axes.get_title(loc="left") for axes in show_side.fusion_over_clip(weights).axes]
    assert titles[:2] == ["audio", "flow"]
    assert len(show_side.growth({"CAA": [1, 2, 3]}).axes[0].lines) == 1


def test_budgets_are_the_records_shares_and_epochs(make_record):
    frame = to_frame([make_record("full", seed=seed, **plans.MHVA_PT.settings) for seed in (0, 1)])
    table = study.budgets(frame, (plans.MHVA_PT, plans.FULL))
    assert table["method"].tolist() == ["MHVA + PT"]
    assert table["trained (%)"].iloc[0] == f"{100 * frame['share'].iloc[0]:.1f}"
    assert table["epochs"].iloc[0] == f"{frame['epochs_to_converge'].mean():.1f}"


def test_headlines_of_the_plans_are_those_of_the_tasks():
    kinds = {"rooms-kitchen": "actions", "rooms-group": "behaviours", "rooms-dyad": "traits", "folder": "labels"}
    for room, kind in kinds.items():
        task = task_of(type("data", (), {"task": kind}))
        assert plans.HEADLINES[room] == task.headline
        assert (task.headline in plans.LOWER) is not task.higher_is_better
    assert TASKS["pairs"].headline == plans.HEADLINES["epic"]  # the same actions, by a head of their own
    assert {*kinds.values(), "pairs"} == set(TASKS)

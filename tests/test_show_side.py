"""Curves and pictures of modalities: they draw what the records hold, and say so where there are none."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cm3t import plans
from cm3t.config import data_dir
from cm3t.data.epic import EpicKitchens
from cm3t.pages import curves, figures, show_side, tables
from cm3t.records import to_frame
from cm3t.study import NOT_RUN
from cm3t.training.controls import partly
from cm3t.training.tasks import TASKS, task_of

EMPTY = to_frame([])
SUBSETS = {f"validation.{part}.action_top1": words for part, words in show_side.TAKEN.items()}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure):
    (found,) = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for text in found.get_texts()]


def test_every_figure_says_when_there_is_nothing_to_draw_and_names_what_was_planned():
    for figure, lines in (
        (curves.training_curves([], plans.ACTIVATION), 4),
        (curves.against_size(EMPTY), 4),
        (curves.against_length(EMPTY), 2),
        (show_side.as_clips_lose(EMPTY, plans.MISSING), 4),
    ):
        assert set(texts(figure)) == {"no published runs yet"}
        assert len(legend(figure)) == lines and all(words.endswith(f"({NOT_RUN})") for words in legend(figure))
        assert NOT_RUN in figures.describe(figure)
    controls = show_side.controls_table(EMPTY, plans.CM3T, plans.BOTH)
    assert controls.iloc[:, 0].tolist() == ["audio", "flow"] and set(controls.iloc[:, 1:].to_numpy().flat) == {NOT_RUN}
    taken = show_side.scores_table(EMPTY, plans.MISSING, SUBSETS)
    assert taken.empty and list(taken) == ["design", *show_side.TAKEN.values(), "n"]
    assert set(curves.curves_table([])[["ReLU", "tanh"]].to_numpy().flat) == {NOT_RUN}


def epochs(record, *losses, score=20.0):
    rows = [{"epoch": e, "loss": loss, "tune": {"action_top1": score}} for e, loss in enumerate(losses, start=1)]
    record.train_info["epochs"][:] = rows
    return record


def test_training_curves_are_means_over_seeds(make_record):
    records = [make_record("full", seed=seed, **plans.MHVA_PT.settings) for seed in (0, 1)]
    for record, score in zip(records, (10.0, 30.0), strict=True):
        epochs(record, score / 10, score=score)
    figure = curves.training_curves(records, (plans.MHVA_PT,))
    assert [list(axes.lines[0].get_ydata()) for axes in figure.axes] == [[2.0], [20.0]]
    assert legend(figure) == ["MHVA + PT (n=2)"] and figure.axes[0].get_ylabel() == "training loss"


def test_roughness_is_of_jumps_and_no_slope_and_is_paired_by_seed(make_record):
    assert curves.roughness([3, 2, 1, 0]) == 0 and curves.roughness([0, 1, 0, 1]) == 1
    relu, tanh = plans.ACTIVATION[:2]
    smooth = [epochs(make_record("full", seed=seed, **relu.settings), 3, 2, 1) for seed in (0, 1)]
    rough = [epochs(make_record("full", seed=seed, **tanh.settings), 1, 2 + seed, 1) for seed in (0, 1)]
    variant, measure, *row = curves.curves_table(smooth + rough).iloc[0].tolist()
    assert (variant, measure) == ("MHVA + PT", "roughness of the loss")
    assert (
        row[0] == "0.000 ± 0.000" and row[1].startswith("1.500 ± ") and row[2].startswith("-1.500 ± ") and row[3] == 2
    )
    table = curves.curves_table(smooth)
    assert table.iloc[0].tolist()[3:] == [NOT_RUN, "", ""]
    rows = table[table[""] == "MHVA + PT"].set_index("training curve")["ReLU"]
    assert rows["loss, mean of all epochs"] == "2.000 ± 0.000" and rows["loss, last epoch"] == "1.000 ± 0.000"
    assert rows["action top-1 on tune, last epoch (%)"] == "20.0 ± 0.0"
    assert curves.MEASURES["roughness of its logarithm"]({"loss": np.exp([1, 0, 1])}) == pytest.approx(1)


def test_accuracy_against_size_ends_at_all_of_the_kitchens_clips(make_record):
    few, every, heard = (
        make_record("full", score=s, **v.settings | c)
        for s, v, c in ((40, plans.FULL, plans.sized(150)), (50, plans.FULL, {}), (60, plans.CM3T, plans.sized(300)))
    )
    figure = curves.against_size(to_frame([few, every, heard]))
    cm3t, full = (bars.lines[0] for bars in figure.axes[0].containers[2:])
    assert full.get_xdata().tolist() == pytest.approx([150, plans.KITCHEN_CLIPS], rel=0.1)
    assert cm3t.get_xdata().tolist() == pytest.approx([300], rel=0.1) and cm3t.get_ydata().tolist() == [60]
    assert full.get_ydata().tolist() == [40, 50]
    assert legend(figure)[3] == f"full fine-tuning (n=1; {NOT_RUN}: 300, 600)"
    assert full.get_linestyle() == "None", "points are not joined across what has not been run"
    assert len(EpicKitchens(data_dir() / "rooms-kitchen", split="train")) == plans.KITCHEN_CLIPS


def test_differences_by_size_are_of_that_size_and_paired(make_record):
    scores = {plans.MHVA_PT: (40, 61), plans.CM3T: (53, 70), plans.FULL: (50, 62)}
    records = [
        make_record("full", score=score, **v.settings | size)
        for v, both in scores.items()
        for score, size in zip(both, (plans.sized(150), {}), strict=True)
    ]
    for record in records:
        metrics = record.train_info["metrics"]["validation"]
        metrics["no_side"] = metrics["all"] | {"action_top1": 45.5}
    table = curves.size_table(to_frame(records)).set_index("action top-1 (points)")
    assert table.columns.tolist() == ["150 clips", "300 clips", "600 clips", "1334 clips"]
    assert table.loc["MHVA + PT - full fine-tuning"].tolist() == ["-10.00", NOT_RUN, NOT_RUN, "-1.00"]
    assert table.loc["CM3T - full fine-tuning"].tolist() == ["+3.00", NOT_RUN, NOT_RUN, "+8.00"]
    assert table.loc["CM3T - its own first step"].tolist() == ["+7.50", NOT_RUN, NOT_RUN, "+24.50"]
    assert (curves.size_table(EMPTY).iloc[:, 1:] == NOT_RUN).all(axis=None)


def test_those_of_one_size_stand_beside_each_other(make_record):
    records = [make_record("full", score=50, **v.settings) for v in (plans.MHVA_PT, plans.CM3T, plans.FULL)]
    bars = curves.against_size(to_frame(records)).axes[0].containers[1:]
    places = [each.lines[0].get_xdata()[0] for each in bars]
    assert places == sorted(places) and all(b / a > 1.04 for a, b in zip(places[:-1], places[1:], strict=True))


@pytest.mark.filterwarnings("error")
def test_a_single_size_draws_without_a_warning(make_record):
    figure = curves.against_size(to_frame([make_record("full", score=50, **plans.FULL.settings)]))
    assert figure.axes[0].get_xlim()[0] < plans.SIZES[0] < plans.KITCHEN_CLIPS < figure.axes[0].get_xlim()[1]


def test_accuracy_against_prefix_length_starts_without_a_prefix(make_record):
    variants = (plans.MAIN[0], *plans.LENGTH[: len(plans.LENGTHS)])
    records = [make_record("full", score=10 * k, **v.settings) for k, v in enumerate(variants, start=1)]
    figure = curves.against_length(to_frame(records))
    axes = figure.axes[0]
    (line, beside) = (bars.lines[0] for bars in axes.containers)
    assert line.get_ydata().tolist() == [10, 20, 30, 40, 50] and not len(beside.get_ydata())
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0: none", "1", "4", "16", "36"]
    assert figure.legends and axes.get_legend() is None, "inside, its marks look like points"
    assert "prefix length" in axes.get_xlabel() and line.get_linestyle() == "-"


def deprived(make_record, variant=plans.CM3T, **found):
    record = make_record("full", score=50, **variant.settings)
    for subset, score in found.items():
        record.train_info["metrics"]["validation"][subset] = {"action_top1": score, "n": 400}
    return record


def test_tables_of_controls_and_of_what_was_taken_read_the_subsets(make_record):
    frame = to_frame([deprived(make_record, no_audio=45.0, shuffled_audio=40.0, no_flow=35.0, no_side=30.0)])
    row, change = show_side.controls_table(frame, plans.CM3T, ("audio",)).to_dict("records")
    assert list(change.values()) == ["audio, minus as it is", "", "-5.00", "-10.00", NOT_RUN]
    assert row == {
        "action top-1 (%), by modality": "audio",
        "as it is": "50.0",
        "without": "45.0",
        "another's": "40.0",
        "silent, still or wordless": NOT_RUN,
    }
    row = show_side.scores_table(frame, (plans.CM3T,), SUBSETS).iloc[0].to_dict()
    assert row == {
        "design": "CM3T",
        "with both": "50.0",
        "without sound": "45.0",
        "without motion": "35.0",
        "with neither": "30.0",
        "n": 1,
    }


def test_one_modality_is_taken_away_or_exchanged_under_several_metrics(make_record):
    frame = to_frame([deprived(make_record, no_audio=45.0, shuffled_audio=40.0)])
    found = show_side.by_control(frame, plans.CM3T, "audio", {"action_top1": "action"})
    controls = ["as it is", "without", "another's", "silent, still or wordless"]
    assert found["CM3T, audio"].tolist() == [*controls, *(f"{words}, minus as it is" for words in controls[1:3])]
    assert found["action"].tolist() == ["50.0", "45.0", "40.0", NOT_RUN, "-5.00", "-10.00"]


def test_losses_are_paired_by_run_and_designs_by_seed(make_record):
    def run(variant, seed, whole, *fallen):
        record = deprived(make_record, variant, no_audio=fallen[0], no_flow=fallen[1])
        record.train_info["metrics"]["validation"]["all"]["action_top1"] = whole
        record.run_info["config"]["seed"] = seed
        return record

    ours = [run(plans.CM3T, seed, 50.0 + seed, 48.0 + seed, 40.0 + seed) for seed in (0, 30)]
    others = [run(plans.MMCA, seed, 52.0 + seed, 49.0 + seed, 45.0 + seed) for seed in (0, 30)]
    table = show_side.losses_table(to_frame(ours + others), (plans.CM3T, plans.MMCA, plans.LATE), plans.CM3T)
    first, second = table.to_dict("records")
    assert list(first.values()) == ["CM3T", "-2.00 ± 0.00", "-10.00 ± 0.00", "", ""]
    assert list(second.values()) == ["MMCA", "-3.00 ± 0.00", "-7.00 ± 0.00", "+1.00 ± 0.00", "+5.00 ± 0.00"]
    assert list(first)[1::2] == ["without sound, minus as it is", "without sound, minus CM3T"]
    assert show_side.losses_table(EMPTY, (plans.CM3T,), plans.CM3T).empty


def test_each_score_is_held_against_the_first_steps_own(make_record):
    variant = plans.on(plans.CM3T, "rooms-dyad")
    record = make_record("full", **variant.settings)
    own = {"all": {"mse": 0.9, "mse_extraversion": 0.8}, "no_side": {"mse": 1.0, "mse_extraversion": 0.6}}
    record.train_info["metrics"]["validation"] = own
    columns = {"validation.all.mse_extraversion": "E"}
    (row,) = show_side.over_first_step_row(to_frame([record]), variant, columns, 3).to_dict("records")
    assert row == {"design": "CM3T, rooms-dyad, minus its own first step", "E": "+0.200", "n": 1}
    assert show_side.over_first_step_row(EMPTY, variant, columns, 3).empty


def test_of_other_rooms_too_their_own_measure_and_what_it_is_made_of(make_record):
    variant = plans.on(plans.CM3T, "rooms-dyad")
    record = make_record("full", **variant.settings)
    record.train_info["metrics"]["validation"] = {
        "all": {"mse": 0.9, "mse_extraversion": 0.81239},
        "no_transcript": {"mse": 1.01},
    }
    frame = to_frame([record])
    row = show_side.controls_table(frame, variant, ("transcript",), "mse").iloc[0].to_dict()
    assert row["mean MSE, by modality"] == "transcript" and (row["as it is"], row["without"]) == ("0.900", "1.010")
    (row,) = show_side.scores_table(frame, (variant,), {"validation.all.mse_extraversion": "E"}, 3).to_dict("records")
    assert row == {"design": "CM3T, rooms-dyad", "E": "0.812", "n": 1}


def test_a_curve_of_what_clips_lose_reads_the_shares_between(make_record):
    between = {f"no_audio_{share}": 50.0 - share / 5 for share in (25, 50, 75)}
    new = deprived(make_record, no_audio=30.0, no_flow=35.0, no_side=20.0, **between)
    old = deprived(make_record, plans.MMCA, no_audio=40.0, no_flow=35.0, no_side=20.0)
    figure = show_side.as_clips_lose(to_frame([new, old]), (plans.CM3T, plans.MMCA, plans.LATE))
    upper, lower = figure.axes[0], figure.axes[len(show_side.LOST)]
    own, others, none = (bars.lines[0] for bars in upper.containers)
    mmca, late = (bars.lines[0] for bars in lower.containers)
    assert mmca.get_ydata().tolist() == [0, 10] and not len(late.get_ydata()) and "CM3T" in lower.get_ylabel()
    assert own.get_ydata().tolist() == [50, 45, 40, 35, 30] and own.get_linestyle() == "-"
    assert others.get_ydata().tolist() == [50, 40] and others.get_linestyle() == "None"
    assert not len(none.get_ydata())
    assert legend(figure) == ["CM3T (n=1)", f"MMCA (n=1; {NOT_RUN}: 25 %, 50 %, 75 %)", f"late fusion ({NOT_RUN})"]


def test_the_shares_of_the_page_are_those_that_runs_are_scored_at():
    own = {"verb": np.zeros((8, 2))}
    scored = [name for name, _ in partly(own, {"no_audio": own})]
    assert scored == [show_side.part("no_audio", share) for share in show_side.SHARES[1:-1]]
    assert [show_side.part("no_audio", share) for share in (0, 100)] == ["all", "no_audio"]
    assert {v.label for v in plans.MISSING} <= set(show_side.LOOKS)


def test_pictures_of_modalities_draw():
    rng = np.random.default_rng(0)
    frames, mels = rng.integers(0, 255, (2, 16, 16, 3), np.uint8), rng.normal(size=(2, 40, 8))
    *panels, bar = show_side.gallery(frames, mels, rng.normal(size=(2, 8, 8, 2)), ["a", "b"], seconds=1.5).axes
    assert len(panels) == 6 and "loud" in bar.get_ylabel() and "pixels" in panels[1].get_xlabel()
    assert panels[5].get_xlabel() == "time (s)" and panels[5].get_xlim() == (0, 1.5)
    named = show_side.gallery(frames, mels, rng.normal(size=(2, 8, 8, 2)), ["a", "b"], kilohertz={3: 0.5, 6: 2}).axes[2]
    assert named.get_ylabel() == "mel band (kHz)" and list(named.get_yticks()) == [3, 6]
    assert [label.get_text() for label in named.get_yticklabels()] == ["0.5", "2"]
    weights = {"audio": np.full((8, 4), 0.25), "flow": np.full((8, 4), 0.75)}
    titles = [axes.get_title(loc="left") for axes in show_side.fusion_over_clip(weights).axes]
    assert titles[:2] == ["audio", "flow"]
    assert len(show_side.growth({"CAA": [1, 2, 3]}).axes[0].lines) == 1


def test_fusion_weights_are_told_in_numbers_and_as_distance_from_equal_ones():
    nearly = {"audio": np.full((2, 4), 0.502), "flow": np.full((2, 4), 0.498)}
    figure = show_side.fusion_over_clip(nearly)
    assert texts(figure) == ["0.502", "0.502", "mean", "0.498", "0.498", "mean"]
    assert figure.axes[0].images[0].get_clim() == pytest.approx((0.4, 0.6)), "noise is not painted as a preference"
    far = show_side.fusion_over_clip({name: np.full((2, 4), w) for name, w in zip("abc", (0.8, 0.1, 0.1), strict=True)})
    assert far.axes[0].images[0].get_clim() == pytest.approx((2 / 3 - 0.8, 0.8))


def test_who_is_listened_to_is_the_mean_over_runs_by_block(make_record):
    records = [make_record("full", seed=seed, **plans.CM3T.settings) for seed in (0, 1, 2)]
    for record, share in zip(records, (0.4, 0.6, None), strict=True):
        if share:  # the third was made before runs were watched
            audio, flow = ({"1": [w, w + 0.2], "2": [0.5, 0.5]} for w in (share, 0.8 - share))
            record.train_info["fusion"] = {"audio": audio, "flow": flow}
    figure = show_side.fusion_by_block(records, plans.CM3T)
    audio, flow = (bars.lines[0].get_ydata().tolist() for bars in figure.axes[0].containers)
    assert audio == pytest.approx([0.6, 0.5]) and flow == pytest.approx([0.4, 0.5])
    assert legend(figure) == ["audio (n=2)", "flow (n=2)"]
    nothing = show_side.fusion_by_block(records[2:], plans.CM3T)
    assert texts(nothing) == ["no published runs yet"] and len(legend(nothing)) == 2


def test_budgets_are_the_records_shares_and_epochs(make_record):
    frame = to_frame([make_record("full", seed=seed, **plans.MHVA_PT.settings) for seed in (0, 1)])
    table = tables.budgets(frame, (plans.MHVA_PT, plans.FULL))
    assert table["method"].tolist() == ["MHVA + PT"]
    assert table["trained, heads apart (%)"].iloc[0] == f"{100 * frame['share'].iloc[0]:.1f}"
    epochs = f"{frame['epochs_to_converge'].mean():.1f} of {frame['epochs_trained'].iloc[0]}"
    assert table["epochs to converge"].iloc[0] == epochs


def test_headlines_of_the_plans_are_those_of_the_tasks():
    kinds = {"rooms-kitchen": "actions", "rooms-group": "behaviours", "rooms-dyad": "traits", "folder": "labels"}
    for room, kind in kinds.items():
        task = task_of(type("data", (), {"task": kind}))
        assert plans.HEADLINES[room] == task.headline
        assert (task.headline in plans.LOWER) is not task.higher_is_better
    assert TASKS["pairs"].headline == plans.HEADLINES["epic"]  # the same actions, by a head of their own
    assert {*kinds.values(), "pairs"} == set(TASKS)


def test_falling_back_on_vision_is_asked_seed_by_seed(make_record):
    def run(seed, score, fallen, **more):
        record = make_record(seed=seed, score=score, **more)
        if fallen is not None:
            record.train_info["metrics"]["validation"]["no_side"] = {"action_top1": fallen}
        return record

    cm3t = {"method": "mhva+pt+caa", "side": ("audio", "flow")}
    vision = [run(seed, 40.0 + seed, None) for seed in (0, 1)]
    asked = plans.MHVA_PT, plans.CM3T
    heard = [run(seed, 50.0, 40.0 + seed, **cm3t) for seed in (0, 1)]
    assert show_side.falls_back(to_frame(vision + heard), *asked) is True
    wrong = run(1, 50.0, 40.0, **cm3t)  # what the other seed's vision scored
    assert show_side.falls_back(to_frame([*vision, heard[0], wrong]), *asked) is False
    assert show_side.falls_back(to_frame(vision), *asked) is None is show_side.falls_back(EMPTY, *asked)
    assert show_side.falls_back(to_frame(heard), *asked) is None

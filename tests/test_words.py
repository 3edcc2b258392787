"""What pages say in words of recorded results is what the records say: who publishes others, rewrites the sentence."""

import numpy as np
import pytest

from cm3t import plans
from cm3t.claims import MAP, MSE
from cm3t.config import ROOT, resolve
from cm3t.metrics import TRAIT_WORDS
from cm3t.pages import ceilings, curves
from cm3t.records import published, to_frame
from cm3t.stats import SCORE, interval, over_first_step, paired, select
from cm3t.study import interaction, rate_source

_, LONGER, AUDIO, FLOW, BOTH, _ = plans.MODALITIES


@pytest.fixture(scope="module")
def records():
    return published("full")


@pytest.fixture(scope="module")
def full(records):
    return to_frame(records)


def said(number, words):
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    assert words in path.read_text(encoding="utf-8")


def difference(frame, ours, against, metric=SCORE):
    return paired(frame, ours.settings, against.settings, metric)


def by_seed(frame, variant, metric=SCORE):
    return select(frame, **variant.settings).set_index("seed")[metric]


def test_page_04_on_what_each_modality_adds(full):
    said("04", "sound alone adds nothing that five seeds can see, motion does, and so do both; whether sound")
    assert not difference(full, AUDIO, LONGER).decided
    assert difference(full, FLOW, LONGER).low > 0 and difference(full, BOTH, LONGER).low > 0
    assert not difference(full, BOTH, FLOW).decided
    said("04", "better than plain addition, MHVA's bottleneck than generic features, and modalities trained apart")
    said("04", "than together, five seeds leave open")
    found = [difference(full, plans.CM3T, other) for other in (plans.JOIN[1], plans.SOURCE[1], plans.REGIME[1])]
    assert all(each.n == 5 and not each.decided for each in found)


def test_page_04_on_end_to_end(full):
    said("04", "- End to end, for as long as the two steps together, is behind them. One rate, swept for it,")
    joint = plans.REGIME[2]
    assert difference(full, joint, plans.CM3T).n == 5 and difference(full, joint, plans.CM3T).high < 0
    rates = {v: resolve("full", **v.settings).lr for v in (joint, plans.MHVA_PT)}
    assert rates[plans.MHVA_PT] == pytest.approx(30 * rates[joint]) and rate_source(joint.settings) == "swept"


def test_page_04_on_stages(full):
    said(
        "04",
        "- No one stage is seen to be better than all three: sound in the finest alone, and motion in the coarsest",
    )
    said("04", "Sound does better in the coarsest than in the finest, one of the four such comparisons above.")
    said("04", "and motion want *different* stages, as the paper suggests, five seeds leave open.")
    (sound, *heard), (motion, *moved) = plans.STAGES[:4], plans.STAGES[4:]
    less = {v: difference(full, v, whole) for whole, own in ((sound, heard), (motion, moved)) for v in own}
    assert all(found.n == 5 for found in less.values())
    assert {v for v, found in less.items() if found.decided} == {heard[0], moved[2]}
    assert less[heard[0]].high < 0 and less[moved[2]].high < 0
    over = {(own[0], v): difference(full, v, own[0]) for own in (heard, moved) for v in own[1:]}
    assert {pair for pair, found in over.items() if found.decided} == {(heard[0], heard[2])}
    assert over[heard[0], heard[2]].low > 0
    for one, other in ((0, 1), (0, 2), (1, 2)):
        found = interaction(full, (moved[other], moved[one]), (heard[other], heard[one]))
        assert found.n == 5 and not found.decided


def test_page_05_on_the_plainest_design(full):
    said("05", "between CM3T, MMCA and late fusion five seeds decide nothing while both modalities are there")
    pairs = ((plans.CM3T, plans.MMCA), (plans.CM3T, plans.LATE), (plans.MMCA, plans.LATE))
    assert not any(difference(full, *pair).decided for pair in pairs)


def test_page_05_on_the_readings(full):
    said(
        "05",
        "Neither standard attention nor a token gate can be told from double attention, our reading of the paper, by",
    )
    said("05", "Standard attention scores higher than the token gate: one of three comparisons")
    assert difference(full, *plans.READINGS[1:]).low > 0
    found = [difference(full, reading, plans.CM3T) for reading in plans.READINGS[1:]]
    assert [each.n for each in found] == [5, 5] and not any(each.decided for each in found)


def test_page_09_on_what_designs_lose(full):
    said(
        "09", "Every design loses more without motion than without sound. Of the table's six comparisons with CM3T one"
    )
    columns = {part: f"validation.{part}.action_top1" for part in ("no_audio", "no_flow")}
    for variant in plans.MISSING:
        runs = select(full, **variant.settings)
        assert interval(runs[columns["no_flow"]] - runs[columns["no_audio"]]).high < 0, variant.label
    clear = {
        (other.label, part): found.mean > 0
        for other in plans.MISSING[1:]
        for part, column in columns.items()
        if (found := difference(full, other, plans.CM3T, column)).decided
    }
    assert clear == {("MMCA", "no_flow"): True}
    said("09", "Whether it loses less is open, and so is what modality dropout is worth")
    mmca, cm3t = (by_seed(full, v) - by_seed(full, v, columns["no_flow"]) for v in (plans.MMCA, plans.CM3T))
    lost = interval(mmca - cm3t)
    assert lost.n == 5 and lost.low < 0 < lost.high


def test_page_09_on_reused_adapters(full):
    said("09", "Whether the kitchen's audio adapters help in the group, five seeds leave open, with 100 clips and with")
    said("09", "That sound adds anything to the group's vision by adapters, fresh or reused, is not seen there either.")
    found = [difference(full, *pair, MAP) for pair in zip(plans.REUSED, plans.SCARCE, strict=True)]
    found += [over_first_step(full, variant.settings, MAP) for variant in (*plans.REUSED, *plans.SCARCE)]
    assert all(each.n == 5 and not each.decided for each in found)


def test_page_03_on_the_training_curves(records):
    said(
        "03",
        "Smoother by ReLU: five seeds leave it open, by either measure. Easier by ReLU: PT alone has a lower training",
    )
    said("03", "beside MHVA so is all of it")
    frame = curves.measured(records)
    beside, alone = (
        {name: difference(frame, *pair, name) for name in (*curves.MEASURES, SCORE)} for pair in curves.TANH
    )
    assert not any(found.decided for found in beside.values())
    lower = {"loss, mean of all epochs", "loss, last epoch"}
    assert {name for name, found in alone.items() if found.high < 0} == lower
    assert {name for name, found in alone.items() if found.low > 0} == {"action top-1 on tune, last epoch (%)"}


def test_page_03_on_the_first_bend(full, records):
    said("03", "Of the loss itself, it is mostly the first bend")
    for v in (plans.PT, plans.MHVA_PT):
        own = set(select(full, **v.settings)["run_id"])
        losses = [[row["loss"] for row in record.train_info["epochs"]] for record in records if record.run_id in own]
        bends = np.abs(np.diff(losses, 2))
        assert len(bends) == 5 and bends[:, 0].sum() > bends.sum() / 2


def test_page_03_on_the_length_of_the_prefix(full):
    said("03", "at the rate that was swept for four tokens, one token cannot be told from four, and")
    said("03", "is better than none; sixteen hardly learn in three seeds of five, thirty-six in all.")
    said("03", "neither one token nor sixteen nor thirty-six can be told from four")
    one, sixteen, most = (plans.longer(plans.PT, length) for length in (1, 16, 36))
    assert difference(full, one, plans.PT).n == 5 and not difference(full, one, plans.PT).decided
    assert difference(full, one, plans.MAIN[0]).low > 0
    hardly = {v: (by_seed(full, v) < 25).sum() for v in (one, plans.PT, sixteen, most)}
    assert list(hardly.values()) == [0, 0, 3, 5]
    beside = [difference(full, plans.longer(plans.MHVA_PT, length), plans.MHVA_PT) for length in (1, 16, 36)]
    assert [found.n for found in beside] == [5, 5, 5] and not any(found.decided for found in beside)
    rates = {v.settings.get("lr") or resolve("full", **v.settings).lr for v in hardly}
    assert len(rates) == 1


def test_page_03_on_the_rate_of_the_prefix():
    said("03", "the sweep gave it ten times MHVA's")
    pt, mhva = (resolve("full", **v.settings).lr for v in (plans.PT, plans.MHVA))
    assert pt == pytest.approx(10 * mhva)


def test_the_readme_on_small_networks(full):
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "In the kitchen, small networks trained on it alone do better than anything above" in text
    shown = (*plans.MAIN, *plans.MODALITIES, *plans.RIVALS)
    best = max(select(full, **v.settings)[SCORE].mean() for v in shown)
    probes = ceilings.recorded("rooms-kitchen").set_index("small models of the data card")["action top-1 (%)"]
    assert all(float(probes[name].split()[0]) > best for name in ("eight frames", "eight frames, sound and motion"))


def test_page_07_on_the_traits_of_the_dyad(full):
    said("07", "two traits get better by them, and lose most of it with another person's words.")
    said("07", "Extraversion and agreeableness get worse, and so they do where vision alone trains as long")
    cm3t, (longer, _) = plans.on(plans.CM3T, "rooms-dyad"), plans.OTHERS["rooms-dyad"]
    changed = {name: over_first_step(full, cm3t.settings, f"validation.all.mse_{name}") for name in TRAIT_WORDS}
    assert {name for name, found in changed.items() if found.high < 0} == {"openmindedness", "conscientiousness"}
    assert {name for name, found in changed.items() if found.low > 0} == {"extraversion", "agreeableness"}
    runs = select(full, **cm3t.settings)
    for name, found in changed.items():
        if found.high < 0:
            exchanged = runs[f"validation.shuffled_transcript.mse_{name}"] - runs[f"validation.all.mse_{name}"]
            assert interval(exchanged).low > 0 and exchanged.mean() > -found.mean / 2
        elif found.low > 0:
            assert not difference(full, cm3t, longer, f"validation.all.mse_{name}").decided
    assert runs["validation.shuffled_transcript.draws"].min() >= 8


def test_page_07_on_the_group(full):
    said("07", "In the group full fine-tuning is ahead even of MHVA + PT trained twice as long, on validation's twenty")
    said("07", "on whom both rates were chosen, it is behind")
    said("07", "What sound adds to CM3T is open.")
    (longer, exchanged), (whole, _, _, cm3t) = plans.OTHERS["rooms-group"], plans.TASKS["table 4, rooms-group"]
    assert difference(full, longer, whole, MAP).high < 0 < difference(full, longer, whole, "tune.end.map").low
    assert not any(difference(full, cm3t, other, MAP).decided for other in (longer, exchanged))
    assert not over_first_step(full, cm3t.settings, MAP).decided


def test_page_07_on_where_the_kitchen_is_scored(full):
    said(
        "07", "In the kitchen five seeds leave open whether MHVA + PT is behind full fine-tuning, on all of validation,"
    )
    said("07", "Far from training (gaps 2 and 3) it is behind; on rare classes it is ahead.")
    split = {
        name: difference(full, plans.MHVA_PT, plans.FULL, f"validation.{name}.action_top1")
        for name in ("all", "unseen", "gap2", "gap3", "tail")
    }
    assert not split["all"].decided and not split["unseen"].decided
    assert split["gap2"].high < 0 and split["gap3"].high < 0 < split["tail"].low


def test_page_07_on_what_is_learned_by_heart_in_the_dyad(full):
    said(
        "07",
        "CM3T with another's modalities and full fine-tuning + CAA end worse than a constant answer; MHVA + PT and",
    )
    whole, ours, caa, cm3t = plans.TASKS["table 4, rooms-dyad"]
    ends = {
        v: interval(select(full, **v.settings)["tune.end.mse"])
        for v in (whole, ours, caa, cm3t, *plans.OTHERS["rooms-dyad"])
    }
    assert {v for v, found in ends.items() if found.low > 1} == {whole, caa, *plans.OTHERS["rooms-dyad"]}
    assert all(ends[v].high < 1 for v in (ours, cm3t))


def test_page_07_on_full_fine_tuning_with_all_modalities(full):
    said("07", "CM3T is ahead in the dyad, where that answers no better than a")
    said("07", "behind in the group, by most where one seed fails; and in the kitchen five seeds leave the order open")
    pairs = {room: plans.TASKS[f"table 4, {room}"][2:] for room in plans.ROOMS}
    apart = {
        room: difference(full, cm3t, caa, f"validation.all.{plans.HEADLINES[room]}")
        for room, (caa, cm3t) in pairs.items()
    }
    assert apart["rooms-dyad"].high < 0 and apart["rooms-group"].high < 0 and not apart["rooms-kitchen"].decided
    caa, cm3t = (by_seed(full, v, MAP) for v in pairs["rooms-group"])
    assert (cm3t - caa).idxmin() == cm3t.idxmin() and (cm3t - caa).min() < 2 * (cm3t - caa).mean()
    assert select(full, **pairs["rooms-dyad"][0].settings)[MSE].mean() > plans.CONSTANT["mse"]


def test_page_07_on_few_clips(full):
    said(
        "07",
        "With 150, 300 and 600 clips full fine-tuning still trains, and is ahead of MHVA + PT; with 300 by more than",
    )
    said("07", "150 and 600 five seeds leave that open. With 300 it is ahead even of CM3T")
    said("07", "with all clips it is behind.")
    both = plans.MHVA_PT, plans.FULL
    few = {n: [plans.fewer(v, n) for v in both] for n in plans.SIZES}
    assert all(difference(full, *pair).high < 0 for pair in few.values())
    further = {n: interaction(full, pair, both) for n, pair in few.items()}
    assert all(found.n == 5 for found in further.values())
    assert {n for n, found in further.items() if found.decided} == {300} and further[300].high < 0
    assert difference(full, plans.fewer(plans.CM3T, 300), few[300][1]).high < 0
    assert difference(full, plans.CM3T, plans.FULL).low > 0


def test_page_07_on_what_modalities_add_with_few_clips(full):
    said("07", "What CM3T adds to its own first step is less with 300 and with 600 clips than with all")
    gains = {n: added(full, plans.fewer(plans.CM3T, n)) for n in (300, 600)}
    every = added(full, plans.CM3T)
    assert all(interval(every - gain).low > 0 and len(gain) == 5 for gain in gains.values())


def added(frame, variant):
    """By seed: action top-1 less that of its own first step."""
    return by_seed(frame, variant) - by_seed(frame, variant, SCORE.replace(".all.", ".no_side."))


def test_page_04_on_whom_the_fusion_listens_to(full, records):
    said(
        "04",
        "the trained fusion gives motion more weight than sound in the last two of eight blocks, and by little in",
    )
    runs = set(select(full, **plans.CM3T.settings)["run_id"])
    shares = [record.train_info["fusion"]["flow"] for record in records if record.run_id in runs]
    found = {block: interval([np.mean(own[block]) for own in shares]) for block in shares[0]}
    assert len(shares) == 5 and len(found) == 8
    assert all(found[block].low > 0.5 for block in "178") and found["1"].mean < 0.55
    assert all(found[block].low < 0.5 < found[block].high for block in "23456")

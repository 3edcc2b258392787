"""Speed: ratios against a reference in one process, never seconds."""

import pytest
import torch

from cm3t import bench

CPU = torch.device("cpu")


@pytest.mark.slow
def test_attention_is_not_slower_than_torchvisions():
    """A wide margin, for a busy machine: it falls when the fused kernel is lost (measured idle: 1.3 to 1.7)."""
    pairs = {pair.what: pair for pair in bench.attention_pairs(CPU)}
    ratio = bench.compare(pairs["window attention, stage 3, forward"], 5, CPU)
    assert ratio.ratio > 0.9 and ratio.n == 5


def test_plugins_keep_far_fewer_activations_than_full_fine_tuning():
    """Exact on every machine (1.38): it falls when something frozen is kept for a gradient that nobody asks for."""
    ratio = bench.compare_kept("video_swin_mini", (8, 96, 96))
    assert ratio.ratio > 1.25 and ratio.measure == "kept activations"


@pytest.mark.slow
def test_options_of_a_step_are_measured_or_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr(bench, "OPTIONS", ("checkpointing",))
    against_itself, against_full = bench.option_pairs("video_swin_mini", (8, 48, 48), CPU)
    assert bench.compare(against_itself, 1, CPU).ratio < 1.5  # recomputing takes time; it cannot save any
    assert against_full.against == "full fine-tuning, checkpointing"
    assert "minutes" in bench.left_out("compile", CPU)
    assert "already" in bench.left_out("bfloat16", torch.device("cuda"))
    assert bench.left_out("checkpointing", CPU) is None


@pytest.mark.slow
def test_a_plugin_step_is_shorter_and_smaller_than_full_fine_tuning():
    clip = (8, 112, 112)
    pairs = bench.all_pairs("video_swin_t", clip, CPU)
    index = next(i for i, pair in enumerate(pairs) if pair.against == "full fine-tuning")
    assert bench.compare(pairs[index], 5, CPU).ratio > 1.05
    assert bench.compare_memory("video_swin_t", clip, index, CPU).ratio > 1.0


def test_a_ratio_says_what_it_compares():
    ratio = bench.Ratio("a", "b", "time", 1.25, 1.2, 1.3, 0.8, 1.0, 1.1, 3)
    assert "1.25" in str(ratio) and "800.0 ms against" in str(ratio) and "aim 1.10" in str(ratio)

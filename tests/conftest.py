"""Shared by all tests: one thread, no display, and results that never leave the test's own folder."""

import os
import sys
from itertools import count

import pytest

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
_count = count()


@pytest.fixture(autouse=True)
def one_thread():
    """Hold torch at one thread: sums keep their order, and neighbours keep their cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def own_results(tmp_path_factory, monkeypatch):
    """Send local records to a folder of the test's own, made if it writes one, so that no test sees or leaves a run."""
    monkeypatch.setenv("CM3T_LOCAL", str(tmp_path_factory.getbasetemp() / f"local-{next(_count)}"))


@pytest.fixture
def make_record():
    """A function that invents the record of a run, without running it: make_record("quick", score=40.0, ...)."""
    from cm3t.config import resolve
    from cm3t.records import new_record

    def make(profile="smoke", *, score=40.0, status="ok", **settings):
        config = resolve(profile, **{"study": "02"} | settings)
        metrics = {"action_top1": score, "verb_top1": score + 20, "noun_top1": score + 10, "n": 400}
        train_info = {
            "status": status,
            "epochs": [{"epoch": 1, "loss": 2.0, "lr": config.lr, "seconds": 1.5}],
            "epochs_to_converge": 3,
            "metrics": {config.score_split: {"all": metrics, "unseen": metrics | {"action_top1": score - 5}}},
            "trainable": 128_000,
            "backbone_parameters": 1_000_000,
            "share": 0.128,  # of the backbone, a fraction
            "seconds": 60.0,
            "peak_memory_mb": 900.0,
        }
        meta_info = {
            "git": {"commit": "0" * 40, "dirty": False},
            "versions": {"python": "3.11.7"},
            "hardware": {"device": "cpu", "cpu": "a processor", "cores": 2, "memory_gb": 8.0, "os": "Linux"},
            "digests": {"data": "d" * 12, "weights": "w" * 12},
        }
        return new_record(config, train_info, meta_info)

    return make


@pytest.fixture
def study(tmp_path, monkeypatch, make_record):
    """A checkout of its own in the test's folder; study(profile, [(method, mean), ...]) publishes invented runs."""
    from cm3t import config
    from cm3t.records import save_record

    monkeypatch.setattr(config, "ROOT", tmp_path)

    def publish(profile, scores, **settings):
        for method, mean in scores:
            for seed in config.PROFILES[profile].seeds:
                wobble = 0.3 * ((seed * 7 + len(method)) % 5 - 2)
                record = make_record(profile, score=mean + wobble, method=method, seed=seed, **settings)
                save_record(record, config.records_dir(profile))
        return tmp_path

    return publish

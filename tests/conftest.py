"""Shared by all tests: one thread, no display, and results that never leave the test's own folder."""

import os
import sys

import pytest

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread():
    """Hold torch at one thread: sums keep their order, and neighbours keep their cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    """Send local records to the test's folder, so that no test sees or leaves a run."""
    monkeypatch.setenv("CM3T_LOCAL", str(tmp_path / "local"))

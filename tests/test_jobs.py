"""Jobs side by side: their order, their lines, their errors, and what stops them; and which runs go so."""

import importlib
import os
import pickle
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

import cm3t
from cm3t import train
from cm3t.config import resolve
from cm3t.training import jobs, machine


def note(folder, name, log):
    """Leave a file of this name that lists the ones it found."""
    found = sorted(path.name for path in folder.iterdir())
    log(f"{name} found {found}")
    (folder / name).write_text(f"{os.getpid()} {torch.get_num_threads()} {jobs.running()}")
    return found


def fail(folder, name, log):
    raise LookupError(f"no {name}")


def die(folder, name, log):
    os._exit(9)


def dawdle(folder, name, log):
    """Say that it goes on, for a minute; leave a file at the end."""
    (folder / f"{name} began").touch()
    for _ in range(600):
        log("still at it")
        time.sleep(0.1)
    (folder / name).touch()


def act(deed, folder, name, log):
    """What a test asks for, by name."""
    return {"note": note, "fail": fail, "die": die, "dawdle": dawdle}[deed](folder, name, log)


def go(folder, deeds, needs=None, log=lambda line: None, count=2):
    needs = {name: set() for name in deeds} | (needs or {})
    return dict(jobs.side_by_side(act, {name: (deed, folder, name) for name, deed in deeds.items()}, needs, count, log))


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_starts_when_those_it_needs_are_done(tmp_path, count):
    lines = []
    found = go(tmp_path, dict.fromkeys("abcd", "note"), {"c": {"a"}, "d": {"b", "c"}}, lines.append, count)
    assert found.keys() == set("abcd") and "a" in found["c"] and {"b", "c"} <= set(found["d"])
    assert sorted(line[:7] for line in lines) == [f"{name} found" for name in "abcd"]
    wrote = [path.read_text().split() for path in tmp_path.iterdir()]
    assert {running for _, _, running in wrote} == {str(count)} and {threads for _, threads, _ in wrote} == {"1"}
    assert (str(os.getpid()) in {pid for pid, *_ in wrote}) == (count == 1)


@pytest.mark.slow
def test_an_error_is_raised_here_and_nothing_starts_after_it(tmp_path):
    with pytest.raises(LookupError, match="no b"):
        go(tmp_path, {"a": "note", "b": "fail", "c": "note", "d": "note"}, {"c": {"b"}, "d": {"b"}})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_a_remedy(tmp_path):
    with pytest.raises(RuntimeError, match="a process of 2 died, perhaps for lack of memory: .* OMP_NUM_THREADS=1"):
        go(tmp_path, {"a": "note", "b": "die"})


@pytest.mark.slow
def test_ctrl_c_stops_all_at_their_next_line(tmp_path):
    def interrupted(line):
        if all((tmp_path / f"{name} began").exists() for name in "ab"):
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, dict.fromkeys("abc", "dawdle"), log=interrupted)
    assert time.monotonic() - started < 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a began", "b began"]


@pytest.mark.slow
def test_a_killed_parent_takes_its_processes_along(tmp_path):
    code = f"import pathlib, test_jobs; test_jobs.go(pathlib.Path({str(tmp_path)!r}), dict.fromkeys('ab', 'dawdle'))"
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    for _ in range(600):
        time.sleep(0.1)
        if all((tmp_path / f"{name} began").exists() for name in "ab"):
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(children, timeout=20)[1], "they would stay for ever, with the clips in memory"


@pytest.mark.parametrize(
    "given, threads, memory, expected",
    [
        ({}, 4, 64, 3),  # three runs there are
        ({}, 2, 64, 2),
        ({}, 4, 7, 2),
        ({}, 4, 1, 1),
        ({"workers": 0}, 4, 64, 1),
        ({"backbone": "video_swin_t"}, 4, 64, 1),
        ({"profile": "smoke"}, 4, 64, 1),
    ],
)
def test_small_networks_go_side_by_side_as_the_machine_allows(monkeypatch, given, threads, memory, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    free = type("Memory", (), {"available": memory * 2**30})
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: free)
    configs = [resolve(**{"profile": "quick", "seed": seed} | given) for seed in range(3)]
    assert machine.at_once(configs) == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.at_once(configs) == 1


@pytest.mark.slow
def test_runs_side_by_side_have_the_numbers_of_runs_in_turn(tmp_path, monkeypatch):
    given = dict(train_clips=8, eval_clips=4, epochs=1, batch_size=4)
    methods = ({"method": "mhva+pt+caa", "side": ("audio",)}, {"method": "linear"}, {"method": "mhva+pt"})
    configs = [resolve("quick", **given | method) for method in methods]
    in_turn = train.run_all(configs, tmp_path / "turn", lambda line: None)
    lines = []
    monkeypatch.setattr(machine, "at_once", lambda configs: 2)
    beside = train.run_all(configs, tmp_path / "beside", lines.append)
    assert [r.train_info["metrics"] for r in beside] == [r.train_info["metrics"] for r in in_turn]
    assert [r.meta_info["hardware"]["at_once"] for r in in_turn + beside] == [1, 1, 1, 2, 2, 2]
    assert len(list((tmp_path / "beside").glob("*.json"))) == 3  # nothing was made twice
    assert any("2/3  epoch" in line or "3/3  epoch" in line for line in lines) and "1 of 3 runs done" in str(lines)


def errors():
    """Every error class of the package."""
    for found in pkgutil.walk_packages(cm3t.__path__, "cm3t."):
        if "generate" not in found.name and not found.name.endswith("__main__"):
            source = Path(importlib.util.find_spec(found.name).origin).read_text()
            if "Error):" in source:
                yield from (
                    kind
                    for kind in vars(importlib.import_module(found.name)).values()
                    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__.startswith("cm3t")
                )


def test_errors_come_back_from_a_process_as_they_were():
    kinds = set(errors())
    assert len(kinds) > 8
    for kind in kinds:
        back = pickle.loads(pickle.dumps(kind("what was wrong")))
        assert (type(back), str(back)) == (kind, "what was wrong")

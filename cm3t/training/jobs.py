"""Several jobs at once, each in a process of its own, with its share of the threads."""

import os
import signal
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Lock, Thread
from typing import Any

import torch

POLL = 0.2  # seconds

Log = Callable[[str], None]
_lines = _stop = None  # in a job's process: where its lines go, and whether to go on
_running = 1
_at_work = Lock()  # held by a job's process while it has a task


def running() -> int:
    """How many jobs share the machine with the one that asks, itself included."""
    return _running


def side_by_side(
    work: Callable, tasks: Mapping[Hashable, tuple], needs: Mapping[Hashable, set], count: int, log: Log
) -> Iterator[tuple[Hashable, Any]]:
    """(key, `work(*task, log)`) of every task as it is done, `count` at once; one at a time, in this process.

    needs: for each task the keys of those that must be done before it starts; they come before it. `work` is a
    function of a module, for new processes find it by name. What it logs is logged here. What it raises is raised here,
    once the tasks under way are done, and no other one starts. Ctrl-C stops them all, at their next line at the latest.
    RuntimeError: a process died.
    """
    if count == 1:
        yield from ((key, work(*task, log)) for key, task in tasks.items())
        return
    context = get_context("spawn")  # not forked: threads of this process would be copied in the middle of what they do
    lines, stop = context.SimpleQueue(), context.Event()
    share = max(1, torch.get_num_threads() // count)
    left, done, under_way = dict(tasks), set(), {}
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(lines, stop, share, count))
    try:
        while left or under_way:
            for key in [key for key in left if needs[key] <= done][: count - len(under_way)]:
                under_way[pool.submit(_work, work, left.pop(key))] = key
            ended, _ = wait(under_way, POLL, FIRST_COMPLETED)
            _tell(lines, log)
            for future in ended:
                key = under_way.pop(future)
                done.add(key)
                yield key, future.result()
    except BrokenProcessPool as error:
        remedy = "what is done is kept; OMP_NUM_THREADS=1 does one thing at a time"
        raise RuntimeError(f"a process of {count} died, perhaps for lack of memory: {remedy}") from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody waits for them any more
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _tell(lines, log)


def _tell(lines, log: Log) -> None:
    """Log what the processes have said so far."""
    while not lines.empty():
        log(lines.get())


def _start(lines, stop, threads: int, count: int) -> None:
    """A new process, before its first task; Ctrl-C is for tasks alone."""
    global _lines, _stop, _running
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _lines, _stop, _running = lines, stop, count
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End a process that nobody will give another task; the one it has ends first, at its next line."""
    parent_process().join()
    with _at_work:
        os._exit(1)


def _work(work: Callable, task: tuple) -> Any:
    """One task in a process of its own; it ends at its next line where nobody waits for it any more."""

    def log(line: str) -> None:
        if _stop.is_set() or not parent_process().is_alive():
            raise KeyboardInterrupt
        _lines.put(line)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _at_work:
            return work(*task, log)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

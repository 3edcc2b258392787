"""What the study takes: minutes of each notebook and profile, as they were measured where its records were made."""

import pandas as pd

from cm3t.config import PROFILES, records_dir
from cm3t.records import device_in_words, machine_seconds, published, timings
from cm3t.words import counted

# README's quick start: on what, the command, the profile whose time it is, what one gets.
QUICK_START = (
    ("a laptop", "make study", "quick", "the whole study at the `quick` profile, computed anew"),
    ("a GPU, or days", "make study PROFILE=full", "full", "every planned run; stopped, it resumes"),
    ("any machine", "make lab", "smoke", "the notebooks, which start at `smoke`"),
    ("any machine", "make test", None, "the tests, and each stored output compared with a fresh one"),
)


def runtime_table() -> pd.DataFrame:
    """One row a notebook: minutes in each profile, with the device, as the published executions took them."""
    taken = {name: timings(records_dir(name)) for name in PROFILES}
    rows = [
        {"notebook": stem} | {name: _took(found.get(stem)) for name, found in taken.items() if found}
        for stem in sorted({stem for found in taken.values() for stem in found})
    ]
    return pd.DataFrame(rows, columns=["notebook", *(name for name, found in taken.items() if found)])


def _took(timing: dict | None) -> str:
    """12 s or 4.5 min, and on what."""
    if timing is None:
        return ""
    spent = spell(timing["seconds"])
    return f"{spent}, {timing['device']}" if timing.get("device") else spent


def spell(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def quick_start() -> pd.DataFrame:
    """What to type on which hardware, and what it took where it was published."""
    rows = []
    for place, command, profile, what in QUICK_START:
        took = timings(records_dir(profile)).values() if profile else ()
        devices = sorted({timing["device"] for timing in took if timing.get("device")})
        time = ", ".join([spell(sum(timing["seconds"] for timing in took)), *devices]) if took else _spent(profile)
        rows.append({"on": place, "do": f"`{command}`", "you get": what, "measured": time})
    return pd.DataFrame(rows)


def _spent(profile: str | None) -> str:
    """What the published runs of a profile took, the sweep with them, where no whole execution was timed."""
    found = published(profile) if profile else []
    seconds = sum(map(machine_seconds, found))
    devices = sorted({device_in_words(record.meta_info["hardware"]) for record in found})
    return f"{spell(seconds)} for {counted(len(found), 'run')} so far, on {' or '.join(devices)}" if found else ""


def runtime_row(notebook: str) -> str:
    """What one notebook takes, by profile, for its opening: `smoke 12 s · quick 5 min, 2 CPU cores`."""
    table = runtime_table()
    rows = table[table["notebook"].str.startswith(notebook)] if len(table) else table
    if rows.empty:
        return "not measured yet"
    return " · ".join(f"{name} {value}" for name, value in rows.iloc[0].items() if name != "notebook" and value)

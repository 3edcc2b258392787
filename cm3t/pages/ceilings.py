"""What small models make of each cue of a room by itself: the data cards' records, beside the results of a page.

A ceiling here is the best that was found in a cue so far: there is at least so much in it.
"""

import pandas as pd

from cm3t.config import results_dir
from cm3t.pages import show
from cm3t.pages.tables import SYNTHETIC, markdown
from cm3t.plans import HEADLINES
from cm3t.records import load_run
from cm3t.stats import interval

# Of each room: where its card's records lie, and the probes that a page shows, in words.
PROBES = {
    "rooms-kitchen": (
        "card",
        {
            "sound": "sound alone",
            "flow": "motion alone",
            "frame": "one frame",
            "frames": "eight frames",
            "joint": "eight frames, sound and motion",
            "shuffled": "the same, trained on other clips' sound and motion",
        },
    ),
    "rooms-group": (
        "card-group",
        {
            "sound": "sound alone",
            "frame": "one frame",
            "frames": "eight frames",
            "joint": "eight frames and sound",
            "shuffled": "the same, trained on other clips' sound",
        },
    ),
    "rooms-dyad": (
        "card-dyad",
        {
            "words": "words alone",
            "sound": "sound alone",
            "motion": "pictures alone",
            "joint": "words, sound and pictures",
            "joint_shuffled": "the same, trained with another person's words",
        },
    ),
}
KINDS = {"rooms-dyad": "ridge regressions, settled with the held-out people in view"}


def recorded(room: str) -> pd.DataFrame:
    """One row a probe that was recorded: its words, the room's headline on validation (mean ± 95 %) and n, as text."""
    folder, probes = PROBES[room]
    headline = HEADLINES[room]
    heading, digits = show.HEADLINES[headline]
    rows = []
    for probe, words in probes.items():
        paths = sorted((results_dir() / "records" / folder).glob(f"{probe}-s*.json"))
        scores = [load_run(path).train_info["metrics"]["validation"]["all"][headline] for path in paths]
        if scores:
            found = interval(scores)
            rows.append({"small models of the data card": words, heading: found.text(digits), "n": found.n})
    return pd.DataFrame(rows)


def table(room: str) -> str:
    """The same as markdown, with what these models are."""
    kind = KINDS.get(room, "small networks from scratch")
    told = f"Of the data card: {kind}, which show what at least is to be had of a cue, and compare no methods."
    return f"{markdown(recorded(room))}\n\n{told} {SYNTHETIC}"

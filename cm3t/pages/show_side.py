"""Pictures of side modalities: spectrograms and flow beside frames, who is listened to, and what is lost without them.

As in `show`: each function draws on a new figure in the house's style and returns it; no tensors here.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from cm3t.pages.figures import CAA, house, say_if_empty
from cm3t.plans import Variant
from cm3t.stats import interval, select

COLOURS = {
    "audio": "#CC79A7",
    "flow": "#E69F00",
    "transcript": "#56B4E9",
}  # of modalities, readable by the colour-blind
TAKEN = {"all": "both", "no_audio": "no audio", "no_flow": "no flow", "no_side": "neither"}  # subsets of a run
CONTROLS = {"": "as it is", "no_{}": "without", "shuffled_{}": "another clip's", "muted_{}": "silent, or still"}


def gallery(frames: np.ndarray, mels: np.ndarray, flows: np.ndarray, titles: list[str], note: str = "") -> plt.Figure:
    """A row a clip: a frame, its motion as arrows (the longest is a cell long), its sound as a spectrogram.

    frames uint8 (n, H, W, 3); mels (n, L, mels), log; flows (n, g, g, 2), to the right and down, in pixels.
    """
    n, cells = len(frames), flows.shape[1]
    with house():
        figure, rows = plt.subplots(n, 3, figsize=(8.6, 1.9 * n + 0.4), dpi=72, squeeze=False, width_ratios=(1, 1, 2))
        for frame, mel, flow, title, (left, middle, right) in zip(frames, mels, flows, titles, rows, strict=True):
            left.imshow(frame)
            left.set_title(title, fontsize=9)
            middle.imshow(frame, alpha=0.35)
            step = frame.shape[0] / cells
            centre = (np.arange(cells) + 0.5) * step
            long = max(float(np.hypot(flow[..., 0], flow[..., 1]).max()), 1e-6) / step
            arrows = dict(color=COLOURS["flow"], width=0.014, angles="xy", scale_units="xy", scale=long)
            middle.quiver(centre, centre, flow[..., 0], flow[..., 1], **arrows)
            mel = mel[: len(mel) // 4 * 4].reshape(-1, 4, mel.shape[1]).mean(1)  # finer than the picture's pixels
            right.imshow(mel.T, origin="lower", aspect="auto", cmap="magma")
            for axes in (left, middle, right):
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
            right.set_ylabel("mel", fontsize=8)
        rows[0][1].set_title("motion, 8 x 8 cells", fontsize=9)
        rows[0][2].set_title("sound, log-mel", fontsize=9)
        rows[-1][2].set_xlabel("time", fontsize=8)
        if note:
            figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def fusion_over_clip(weights: Mapping[str, np.ndarray], title: str = "") -> plt.Figure:
    """Who is listened to, block by block and moment by moment: weights {modality: (blocks, T)}, a panel a modality."""
    with house():
        figure, panels = plt.subplots(1, len(weights), figsize=(1.2 + 2.6 * len(weights), 2.9), squeeze=False)
        for (name, values), axes in zip(weights.items(), panels[0], strict=True):
            shown = axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="upper")
            axes.set(title=name, xlabel="time (token frames)", xticks=range(values.shape[1]))
            axes.set(yticks=range(len(values)), yticklabels=[i + 1 for i in range(len(values))])
            axes.grid(visible=False)
        panels[0][0].set_ylabel("block")
        figure.colorbar(shown, ax=panels[0], label="fusion weight", shrink=0.9)
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    return figure


def controls_table(
    frame: pd.DataFrame, variant: Variant, modalities: tuple[str, ...], metric: str = "action_top1"
) -> pd.DataFrame:
    """One row a modality, a column a control: mean ± 95 % of the same trained models on changed clips; as text."""
    runs = select(frame, **variant.settings) if len(frame) else frame
    rows = []
    for name in modalities if len(runs) else ():
        row = {"modality": name}
        for subset, heading in CONTROLS.items():
            column = f"validation.{subset.format(name) or 'all'}.{metric}"
            row[heading] = interval(runs[column].dropna()).text() if column in runs else ""
        rows.append(row)
    return pd.DataFrame(rows, columns=["modality", *CONTROLS.values()])


def taken_table(frame: pd.DataFrame, variants: tuple[Variant, ...], subsets: Mapping[str, str]) -> pd.DataFrame:
    """One row a variant, a column a subset of modalities that the test clips have: mean ± 95 %, as text."""
    rows = []
    for variant in variants:
        runs = select(frame, **variant.settings) if len(frame) else frame
        if len(runs):
            cells = {words: interval(runs[column].dropna()).text() for column, words in subsets.items()}
            rows.append({"design": variant.label} | cells | {"n": len(runs)})
    return pd.DataFrame(rows, columns=["design", *subsets.values(), "n"])


def without_modalities(
    frame: pd.DataFrame, variants: tuple[Variant, ...], subsets: Mapping[str, str], ylabel: str, title: str = ""
) -> plt.Figure:
    """Scores of the same models as test clips lose modalities: subsets {column: words}, left to right."""
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        styles = zip((CAA, "#0072B2", "#D55E00", "#7F7F7F", "#000000"), "osD^v", strict=True)
        for variant, (colour, mark) in zip(variants, styles, strict=False):
            runs = select(frame, **variant.settings) if len(frame) else frame
            if not len(runs):
                continue
            found = [interval(runs[column].dropna()) for column in subsets]
            halves = [0 if np.isnan(f.half) else f.half for f in found]
            label = f"{variant.label} (n={len(runs)})"
            means = [f.mean for f in found]
            axes.errorbar(
                range(len(found)), means, yerr=halves, fmt=f"-{mark}", ms=5, capsize=3, color=colour, label=label
            )
        axes.set(ylabel=ylabel, title=title, xticks=range(len(subsets)), xticklabels=list(subsets.values()))
        say_if_empty(axes, axes.containers)
        if axes.containers:
            axes.legend()
    return figure


def growth(sizes: Mapping[str, list[int]], title: str = "") -> plt.Figure:
    """Trained parameters against the number of side modalities: {design: counts for 0, 1, 2, ...}, a line each."""
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.4))
        for (name, counts), colour in zip(sizes.items(), (CAA, "#D55E00", "#7F7F7F", "#0072B2"), strict=False):
            axes.plot(range(len(counts)), [count / 1e3 for count in counts], "-o", ms=4, color=colour, label=name)
        axes.set(xlabel="side modalities", ylabel="trained parameters (thousands)", title=title)
        axes.set(xticks=range(max(map(len, sizes.values()))), ylim=(0, None))
        axes.legend()
    return figure

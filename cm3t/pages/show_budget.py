"""Tables and pictures of what methods cost: published counts beside ours, shares, arithmetic, and where parameters sit.

As in `show`: each function draws on a new figure in the house's style and returns it. Counts come from the cost records
(`published.recorded`) or from `cost.by_stage`, speed from the records of `cm3t.bench`; no tensors here. A count is of
one clip, one view, forward; a MAC is one multiply-accumulate.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D

from cm3t.config import records_dir
from cm3t.pages import figures
from cm3t.pages.figures import CAA, MHVA, PREFIX, house
from cm3t.published import Costs, Figure, agrees, derived

# Name in the records -> how a reader calls it, and its mark.
NETWORKS = {
    "video_swin_t": ("Video Swin-T", "o"),
    "video_swin_s": ("Video Swin-S", "s"),
    "video_swin_b": ("Video Swin-B", "D"),
    "vivit_b": ("ViViT-B", "^"),
    "clip_b": ("CLIP ViT-B, 8 frames", "v"),
}
LABELS = {  # of the records, smallest first -> as a reader calls it, and the method whose colour it has
    "pt": ("PT", "pt"),
    "adaptformer": ("AdaptFormer, r = 64", "adaptformer"),
    "adaptformer+pt": ("AdaptFormer + PT", "adaptformer"),
    "mhva": ("MHVA", "mhva"),
    "mhva+pt": ("MHVA + PT", "mhva"),
    "mhva+pt+caa, 1": ("CM3T, one modality", "caa"),
    "mhva+pt+caa, 2": ("CM3T, two modalities", "caa"),
    "full": ("full fine-tuning", "full"),
    "full+caa, 2": ("full + CAA, two", "full"),
}
MORE = {  # labels that the table of all networks has besides
    "full+caa, 1": "full + CAA, one",
    "mhva+pt+mmca, 1": "sequential (MMCA), one",
    "mhva+pt+mmca, 2": "sequential (MMCA), two",
    "mhva+pt+late, 2": "late, two (classifiers not counted)",
}
SECOND, FUSION = "#7FCEB9", "#C9EBE0"  # CAA's green, lighter
PARTS = {"MHVA": MHVA, "PT": PREFIX, "audio": CAA, "flow": SECOND, "fusion": FUSION}


def methods_table(costs: Costs, name: str) -> pd.DataFrame:
    """One row a method on the network `name` of the records: trained parameters, their share, MACs, what is added."""
    frozen = costs[name, "frozen"]
    rows = []
    for label, (words, _) in LABELS.items():
        row = costs[name, label]
        more = row["macs"] - frozen["macs"]
        rows.append(
            {
                "method": words,
                "trained (M)": f"{row['trainable'] / 1e6:.3f}",
                "share (%)": f"{100 * row['share']:.2f}",
                "GMACs": f"{row['macs'] / 1e9:.1f}",
                "added (%)": f"{100 * more / frozen['macs']:.1f}",
            }
        )
    return pd.DataFrame(rows)


def networks_table(costs: Costs) -> pd.DataFrame:
    """One row a frozen network: parameters with and without its classifier, GMACs of a clip, and which clip that is."""
    rows = []
    for (name, label), row in costs.items():
        if label == "frozen":
            clip = " x ".join(map(str, row["clip"]))
            rows.append(
                {
                    "network": name.partition(",")[0],
                    "clip": clip,
                    "parameters": f"{row['params']:,}",
                    "with its classifier": f"{row['reference']:,}",
                    "GMACs": f"{row['macs'] / 1e9:.2f}",
                }
            )
    return pd.DataFrame(rows)


def everywhere_table(costs: Costs, column: str = "share") -> pd.DataFrame:
    """One row a method, one column a network of the records but vit_b, which costs what clip_b does.

    column: "share", what is trained in % of the network, or "macs", a clip's GMACs.
    """
    words = {"frozen": "frozen"} | {label: name for label, (name, _) in LABELS.items()} | MORE
    names = [name for name, label in costs if label == "full" and name != "vit_b"]
    head, scale = {"share": ("share (%)", 100), "macs": ("GMACs", 1e-9)}[column]
    return pd.DataFrame(
        {head: method} | {name: f"{costs[name, label][column] * scale:.1f}" for name in names}
        for label, method in words.items()
    )


def speed_table(folder: Path | None = None) -> pd.DataFrame:
    """One row a comparison of `cm3t.bench --save`: reference over ours, so that above 1 ours takes less; by machine.

    folder: of its records; default the published ones. Empty columns where there are none.
    """
    rows = []
    for path in sorted((folder or records_dir("bench")).glob("speed-*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        hardware = about["meta_info"]["hardware"]
        machine = f"{hardware['cpu'] if about['device'] == 'cpu' else about['device']}, {about['threads']} threads"
        for row in about["ratios"]:
            scale, unit = (1, "s") if row["measure"] == "time" else (2**20 / 1e9, "GB")  # of recorded 2^20
            rows.append(
                {
                    "what": row["what"],
                    "against": row["against"],
                    "of": row["measure"],
                    "ratio": f"{row['ratio']:.2f}",
                    "lowest to highest": f"{row['low']:.2f} to {row['high']:.2f} (n={row['n']})",
                    "aim": "" if row["target"] is None else f"{row['target']:.2f}",
                    "ours": f"{row['ours'] * scale:.2f} {unit}",
                    "clips": row["batch"],
                    "on": f"{machine}, {row['dtype']}",
                }
            )
    columns = ("what", "against", "of", "ratio", "lowest to highest", "aim", "ours", "clips", "on")
    return pd.DataFrame(rows, columns=columns)


def speed_left_out(folder: Path | None = None) -> str:
    """What `cm3t.bench --save` did not measure, and why, in words; nothing where it left nothing out."""
    told = []
    for path in sorted((folder or records_dir("bench")).glob("speed-*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        for what, reason in about["left_out"].items():
            told.append(f"{about['part']}{'' if what == 'all' else f', {what}'}: {reason}")
    return f"Left out: {'; '.join(told)}." if told else ""


def counters_table(found: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """One row an operation, one column a counter, and their sums: millions of MACs, of {counter: {operation: MACs}}.

    A counter that does not tell operations apart has "all" alone.
    """
    names = sorted({name for counts in found.values() for name in counts} - {"all"})
    cells = {
        who: [f"{n[name] / 1e6:.2f}" if name in n else "" for name in names] + [f"{sum(n.values()) / 1e6:.2f}"]
        for who, n in found.items()
    }
    return pd.DataFrame({"operation, millions of MACs": [*names, "sum"]} | cells)


def published_table(known: Sequence[Figure], costs: Costs) -> pd.DataFrame:
    """One row a published number: it, ours, whether they agree, and why they part. The two never share a column."""
    rows = []
    for figure in known:
        ours = derived(figure, costs)
        digits = 2 if figure.unit == "M parameters" else 1
        rows.append(
            {
                "what": figure.what,
                "unit": figure.unit.replace("M parameters", "millions"),
                "published": "none found" if figure.published is None else f"{figure.published:g}",
                "counted here": "not derived" if ours is None else f"{ours:.{digits}f}",
                "agree": "" if None in (ours, figure.published) else "yes" if agrees(figure, costs) else "no",
                "source": figure.source,
                "why they part, or what to know": figure.note,
            }
        )
    return pd.DataFrame(rows)


def shares(costs: Costs, title: str = "") -> plt.Figure:
    """Trained share of each network by method, on a log axis: a mark a network, Swin-B's numbers at the right."""
    with house():
        figure, axes = plt.subplots(figsize=(7.4, 4.4))
        axes.set_xscale("log")
        for place, (label, (_, method)) in enumerate(LABELS.items()):
            for step, (name, (_, mark)) in enumerate(NETWORKS.items()):
                y = -place + 0.13 * (2 - step)
                axes.plot(100 * costs[name, label]["share"], y, mark, ms=5, color=figures.colour(method), mew=0)
            share = 100 * costs["video_swin_b", label]["share"]
            words = f"{share:.2g} %" if share < 1 else f"{share:.1f} %"
            axes.text(230, -place, words, va="center", fontsize=8)
        axes.text(230, 0.7, "Video\nSwin-B", fontsize=8, color="#555555", va="center")
        axes.axvline(100, color="#999999", lw=0.8)
        axes.set(xlim=(0.12, 220), ylim=(-len(LABELS) + 0.4, 0.6), title=title)
        axes.set(xticks=[0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], xlabel="trained parameters (% of the network, log scale)")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.tick_params(axis="x", which="minor", bottom=False)
        axes.set(yticks=[-place for place in range(len(LABELS))], yticklabels=[words for words, _ in LABELS.values()])
        axes.grid(axis="y", visible=False)
        marks = [Line2D([], [], ls="", marker=mark, color="#555555", label=name) for name, mark in NETWORKS.values()]
        figure.legend(handles=marks, ncols=len(marks), loc="outside lower center", fontsize=8, handletextpad=0.2)
    return figure


def added_macs(costs: Costs, title: str = "") -> plt.Figure:
    """What plugins add to one clip's arithmetic, stacked, in % of the frozen network's MACs.

    At each end the sum, on what the frozen network takes.
    """
    steps = {  # part -> (with, without, colour): a difference of two recorded counts
        "PT": ("pt", "frozen", PREFIX),
        "MHVA": ("mhva", "frozen", MHVA),
        "CAA, first modality, and fusion": ("mhva+pt+caa, 1", "mhva+pt", CAA),
        "CAA, second modality": ("mhva+pt+caa, 2", "mhva+pt+caa, 1", SECOND),
    }
    with house():
        figure, axes = plt.subplots(figsize=(7.4, 3.2))
        for place, name in enumerate(NETWORKS):
            base, left = costs[name, "frozen"]["macs"], 0.0
            for part, (more, less, colour) in steps.items():
                wide = 100 * (costs[name, more]["macs"] - costs[name, less]["macs"]) / base
                axes.barh(-place, wide, 0.6, left, color=colour, label=part if place == 0 else None)
                left += wide
            total = left * base / 1e11
            axes.text(left + 0.2, -place, f"+{total:.1f} on {base / 1e9:.1f} GMACs", va="center", fontsize=8)
        axes.set(yticks=[-place for place in range(len(NETWORKS))], yticklabels=[name for name, _ in NETWORKS.values()])
        axes.set(xlim=(0, 1.3 * axes.dataLim.x1), xlabel="added multiply-accumulates (% of the frozen network's)")
        axes.set(title=title)
        axes.grid(axis="y", visible=False)
        figure.legend(ncols=len(steps), loc="outside lower center", fontsize=8, handlelength=1.2)
    return figure


def stages(rows: Sequence[dict], title: str = "") -> plt.Figure:
    """Where parameters sit, of `cost.by_stage`: the frozen blocks of each stage, beside them the plugins, stacked."""
    places = range(len(rows))
    names = [f"{i + 1}\nC = {row['width']}\n{row['blocks']} blocks" for i, row in enumerate(rows)]
    with house():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2))
        left.bar(places, [row["backbone"] / 1e6 for row in rows], 0.6, color="#B3B3B3")
        bottom = [0.0] * len(rows)
        for part, colour in PARTS.items():
            if any(row.get(part) for row in rows):
                heights = [row.get(part, 0) / 1e6 for row in rows]
                words = part if part in ("MHVA", "PT", "fusion") else f"CAA, {part}"
                right.bar(places, heights, 0.6, bottom, color=colour, label=words)
                bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
        left.set_title("frozen blocks", fontsize=9)
        right.set_title("plugins (another scale)", fontsize=9)
        for axes in (left, right):
            axes.set(xticks=list(places), xticklabels=names, xlabel="stage", ylabel="parameters (millions)")
            axes.grid(axis="x", visible=False)
        right.legend(fontsize=8)
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    return figure

"""Records in, pages out: tables, figures, the claims ledger and the README's numbers, each a pure function of records.

    python -m cm3t.report              all of them, for the largest complete profile
    python -m cm3t.report readme       the README's generated blocks; --check fails if they are stale
    python -m cm3t.report tuning       results/tuning.json, from the records scored on `tune`

The paper's numbers and ours never share a column, and every page says that rooms is synthetic.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import pandas as pd

from cm3t import config, notebooks, plans, study
from cm3t.config import PROFILES, RunConfig
from cm3t.pages import figures, show
from cm3t.pages.figures import label
from cm3t.pages.ledger import RULES, ledger
from cm3t.pages.tables import EPOCHS, SYNTHETIC, frames, markdown, other_start, pick, without_side
from cm3t.pages.times import quick_start, runtime_table
from cm3t.pages.times import runtime_row as runtime_row  # pages ask for it here
from cm3t.records import largest_profile, published, results
from cm3t.stats import SCORE, interval, paired, select

EMPTY = "No published runs yet: `make study` computes the quick profile on this machine, `--publish` keeps it."
SUBSETS = {"validation.all": "action top-1", "validation.unseen": "unseen people", "validation.tail": "tail classes"}
GAPS = {"validation.all": "as filmed"} | {f"validation.gap{level}": f"gap {level}" for level in (1, 2, 3)}
README_COLUMNS = ["method", "trained, heads apart (%)", "action top-1", "unseen people"]
LINEAR, ADAPTFORMER, _, ADAPTFORMER_PT, MHVA, MHVA_PT, FULL = plans.MAIN
# The comparisons the README and notebook 02 rest on: ours, against. The README has the first three.
CONTRASTS = (
    (MHVA_PT, ADAPTFORMER_PT),
    (MHVA_PT, plans.TIED),
    (MHVA, plans.EQUAL),
    (MHVA, ADAPTFORMER),
    (MHVA_PT, MHVA),
    (MHVA_PT, FULL),
    (MHVA_PT, LINEAR),
)
PAIRED = "Each interval is a 95 % one of its own; the first contrast is the paper's main claim."
RUNTIMES = (
    "Wall-clock time of each published execution, all its runs on *rooms* (synthetic) included, by profile and on what."
)
NOTES = {"references": "At rates that were not tuned: what pretraining is worth, no comparison of methods. "}
SHARES = f"Trained: of the backbone with its pretraining head; full fine-tuning is 100 % by definition. {EPOCHS}"


def rooms(profile: str) -> pd.DataFrame:
    """The published runs that pages are made of: those on the embedded benchmark, with its own backbone."""
    frame = results(profile)
    return frame[(frame["data"] == RunConfig.data) & (frame["backbone"] == RunConfig.backbone)]


def methods_table(frame: pd.DataFrame, subsets: dict[str, str] = SUBSETS) -> pd.DataFrame:
    """One row a method, best first: trained share, accuracy on each subset (mean ± 95 %), epochs, n."""
    runs = select(frame)
    runs = runs[runs["method"] != "scratch"]  # a reference at an untuned rate, with a table of its own
    rows = []
    for method, group in runs.groupby("method", sort=True):
        row = {"method": label(method), "trained, heads apart (%)": f"{100 * group['share'].iloc[0]:.1f}"}
        for subset, heading in subsets.items():
            values = group.get(f"{subset}.action_top1", pd.Series(dtype=float)).dropna()
            row[heading] = interval(values).text() if len(values) else ""
        row["epochs to converge"] = f"{group['epochs_to_converge'].mean():.1f}"
        rows.append(row | {"n": len(group), "order": -group[SCORE].mean()})
    columns = ["method", "trained, heads apart (%)", *subsets.values(), "epochs to converge", "n"]
    return pd.DataFrame(rows, columns=[*columns, "order"]).sort_values("order")[columns]


def differences_table(frame: pd.DataFrame, contrasts=CONTRASTS, metric: str = SCORE) -> pd.DataFrame:
    """One row a contrast of methods: the difference paired over seeds, with its 95 % interval, and n."""
    rows = []
    for ours, against in contrasts:
        found = paired(frame, ours.settings, against.settings, metric)
        if found is not None:
            row = {"contrast": f"{ours.label} - {against.label}", "paired difference": found.text(signed=True)}
            rows.append(row | {"95 % interval": found.ends(), "n": found.n})
    return pd.DataFrame(rows, columns=["contrast", "paired difference", "95 % interval", "n"])


def group_tables(frame: pd.DataFrame, number: str, group: str) -> dict[str, pd.DataFrame]:
    """The variants of one group of a study, each against the first that ran, as text: {data set: table}, if two ran."""
    found = {}
    for v in plans.STUDIES[number][group] if group != "tuning" else ():
        if len(select(frame, **v.settings)):
            found.setdefault(v.settings.get("data", RunConfig.data), []).append(v)
    return {data: _against_first(frame, data, variants) for data, variants in found.items() if len(variants) > 1}


def _against_first(frame: pd.DataFrame, data: str, variants: list[plans.Variant]) -> pd.DataFrame:
    headline = plans.HEADLINES[data]
    against = {f"minus {variants[0].label}": variants[0]}
    return show.in_words(study.compare(frame, variants, against, f"validation.all.{headline}"), headline)


def notebook_map() -> pd.DataFrame:
    """One row a notebook: its number and its question, linked. What each takes is in the table of runtimes."""
    rows = []
    for path in notebooks.known():
        question = notebooks.title(path).split("·", 1)[-1].strip()
        rows.append({"": path.stem[:2], "question": f"[{question}](notebooks/{path.name})"})
    return pd.DataFrame(rows, columns=["", "question"])


def footer(profile: str | None) -> str:
    """Under each table: synthetic, the profile, how many runs, on what, and the digest of the records."""
    found = published(profile) if profile else []
    if not found:
        return SYNTHETIC
    devices = sorted({record.meta_info["hardware"]["device"] for record in found})
    scored = sum(record.run_info["config"]["score_split"] == "validation" for record in found)
    sweep = f" and {len(found) - scored} of the sweep" if scored < len(found) else ""
    content = "".join(f"{record.run_id}{record.train_info['metrics']}" for record in found)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return (
        f"{SYNTHETIC} Profile `{profile}`: {scored} runs{sweep} on {', '.join(devices)}, "
        f"[records](../../records/{profile}) `{digest}`. Mean ± 95 % t-interval over seeds."
    )


def save_table(table: pd.DataFrame, path: Path, title: str, note: str) -> list[Path]:
    """Write `path`.md (title, table, note) and `path`.csv (the same cells)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [path.with_name(path.name + ".md"), path.with_name(path.name + ".csv")]
    made[0].write_text(f"# {title}\n\n{markdown(table)}\n\n{note}\n", encoding="utf-8")
    table.to_csv(made[1], index=False, lineterminator="\n")
    return made


def write_all(profile: str | None = None) -> list[Path]:
    """Every table and figure of a profile, and the README's blocks; without one, of the largest complete one, and the
    ledger, which judges each claim by the largest profile that ran both its sides.
    """
    asked, profile = profile, profile or largest_profile()
    made = []
    if profile:
        frame, note = rooms(profile), footer(profile)
        tables = config.results_dir() / "tables" / profile
        made += save_table(methods_table(frame), tables / "02_methods", "Methods on rooms-kitchen", f"{SHARES} {note}")
        if "validation.gap1.action_top1" in frame:
            table = methods_table(frame, GAPS)
            words = f"{_gap_clips(frame)} {SHARES} {note}"
            made += save_table(table, tables / "02_gap", "Ever further from training", words)
        table = differences_table(frame)
        made += save_table(table, tables / "02_differences", "Paired differences, in points", f"{PAIRED} {note}")
        made += save_table(runtime_table(), tables / "runtimes", "What the notebooks take", RUNTIMES)
        runs = results(profile)
        for number, group in ((number, group) for number, plan in plans.PLAN.items() for group in plan[profile]):
            for data, table in group_tables(runs, number, group).items():
                name = f"{number}_{group}".replace(f"table 4, {data}", "table_4") + f"_{data}"
                words = f"{NOTES.get(group, '')}{_so_far(profile, number, group, data, len(table))}{note}"
                words += other_start(runs, _planned(number, group, data), plans.HEADLINES[data])
                made += save_table(table, tables / name, f"Notebook {number}, {group}, on {data}", words)
        title = f"rooms-kitchen (synthetic), profile {profile}"
        pictures = config.results_dir() / "figures" / profile
        made += figures.save_figure(figures.methods_plot(frame, title=title), pictures / "02_methods")
    made += figures.save_figure(show.figure_2(), config.results_dir() / "figures" / "cm3t")
    if not asked:
        made += save_table(
            ledger(), config.results_dir() / "tables" / "ledger", "The claims ledger", f"{RULES} {SYNTHETIC}"
        )
    return [*made, write_readme()]


def _so_far(profile: str, number: str, group: str, data: str, ran: int) -> str:
    """How many variants of a group have been run, where it is not all of them, and what runs the others."""
    planned = _planned(number, group, data)
    others = f"`python -m cm3t.run {number} --profile {profile}` runs the others"
    return f"{ran} of {len(planned)} variants have been run ({others}). " if ran < len(planned) else ""


def _planned(number: str, group: str, data: str) -> list[plans.Variant]:
    return [v for v in plans.STUDIES[number][group] if v.settings.get("data", RunConfig.data) == data]


def _gap_clips(frame: pd.DataFrame) -> str:
    """What the columns of the table of gaps are scored on."""
    whole, part = (int(frame[f"validation.{name}.n"].dropna().iloc[0]) for name in ("all", "gap1"))
    return f"As filmed: {whole} clips; each gap: {part} of them, filmed again. Columns differ in clips, rows do not."


def readme_blocks() -> dict[str, str]:
    """What stands between the README's markers, by name."""
    profile = largest_profile()
    picture = "![A frozen block and its plugins](results/figures/cm3t.png)"
    blocks = {"results": f"{picture}\n\n{EMPTY}", "notebooks": compact(notebook_map())}
    blocks["start"] = compact(quick_start())
    if profile:
        frame = rooms(profile)
        contrasts = (MHVA_PT, ADAPTFORMER_PT, plans.TIED), CONTRASTS[2]
        headline = list(filter(None, (_briefly(frame, *sides) for sides in contrasts)))
        note = footer(profile).replace("../../records", "results/records")
        parts = [
            f"![Accuracy of each method](results/figures/{profile}/02_methods.png)",
            compact(methods_table(frame)[README_COLUMNS]),
            f"Paired by seed, {'; '.join(headline)}; [more](results/tables/{profile}/02_differences.md)."
            if headline
            else "",
            _with_modalities(),
            f"Of the paper's claims: {_tally(ledger()['status'])}.",
            note,
        ]
        blocks["results"] = "\n\n".join(part for part in parts if part)
    return blocks


def _with_modalities() -> str:
    """The README's table of what sound and motion add, and to which design; nothing before it ran."""
    variants = (plans.LONGER, *plans.RIVALS[1:])
    _, frame = pick(frames(), variants)
    against = {"minus the first row": plans.LONGER}
    table = show.in_words(study.compare(frame, variants, against))
    if len(table) < len(variants):
        return ""
    return (
        f"With sound and motion, on top of MHVA + PT ([executed anew](results/README.md): "
        f"{without_side(frame, variants[1:])}):\n\n"
        f"{compact(table.drop(columns=['n', study.FIRST]))}\n\n{_briefly(frame, plans.CM3T, plans.MMCA)}."
    )


def compact(table: pd.DataFrame) -> str:
    """A table as `markdown` writes it, without blanks beside the bars: they would count as words."""
    return re.sub(r" ?(?<!\\)\| ?", "|", markdown(table))


def _tally(statuses: pd.Series) -> str:
    """How many claims have which status, the most frequent first."""
    return "; ".join(f"{status} {count}" for status, count in statuses.value_counts().items())


def _briefly(frame: pd.DataFrame, ours: plans.Variant, against: plans.Variant, *also: plans.Variant) -> str:
    """A difference in points, to the same at another rate too, and whether any is left undecided; "" if not run."""
    first = paired(frame, ours.settings, against.settings)
    if not first:
        return ""
    others = {v.label.split(", ")[1]: paired(frame, ours.settings, v.settings) for v in also}
    ran = {what: found for what, found in others.items() if found}
    words = [first.text(signed=True), *(f"at {what} {found.text(signed=True)}" for what, found in ran.items())]
    decided = all(found.decided and (found.mean > 0) == (first.mean > 0) for found in (first, *ran.values()))
    return f"{ours.label} - {against.label}: {', '.join(words + ['undecided'] * (not decided))}"


def render(text: str, blocks: dict[str, str]) -> str:
    """Replace what stands between `<!-- name:start -->` and `<!-- name:end -->`; ValueError without the markers."""
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"README.md needs <!-- {name}:start --> and <!-- {name}:end --> once, found {count}")
    return text


def write_readme() -> Path:
    """Bring the README's generated blocks up to date with the records."""
    path = config.ROOT / "README.md"
    path.write_text(render(path.read_text(encoding="utf-8"), readme_blocks()), encoding="utf-8")
    return path


def stale_readme() -> bool:
    """Does the README say something else than the records?"""
    text = (config.ROOT / "README.md").read_text(encoding="utf-8")
    return render(text, readme_blocks()) != text


def release_tuning(profile: str | None = None) -> Path:
    """Write results/tuning.json from the sweep of the largest profile that has one; see `study.release_rates`."""
    frames = [results(name) for name in ([profile] if profile else reversed(PROFILES))]
    study.release_rates(next((frame for frame in frames if "tune" in set(frame["score_split"])), frames[0]))
    return config.results_dir() / "tuning.json"


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.report", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=["all", "readme", "ledger", "tuning"])
    parser.add_argument("--profile", choices=list(PROFILES), help="default: the largest complete one")
    parser.add_argument("--check", action="store_true", help="with readme: change nothing, fail if it is stale")
    given = parser.parse_args(arguments)
    if given.what == "ledger":
        print(markdown(ledger(given.profile)))
    elif given.what == "readme" and given.check:
        if stale_readme():
            print("README.md and the records disagree; run: python -m cm3t.report readme", file=sys.stderr)
            return 1
    else:
        makers = {"all": lambda: write_all(given.profile), "readme": lambda: [write_readme()]}
        makers["tuning"] = lambda: [release_tuning(given.profile)]
        for path in makers[given.what]():
            print(path.relative_to(config.ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())

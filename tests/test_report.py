"""Pages are pure functions of records: same bytes twice, paper and ours apart, synthetic named everywhere."""

import json

import nbformat
import pytest

from cm3t import config, report
from cm3t.pages import figures
from cm3t.plans import RATES, TIED
from cm3t.records import load_all, records_dir, results, save_timing

SCORES = [("mhva+pt", 42.0), ("adaptformer+pt", 33.0), ("full", 50.0), ("linear", 20.0)]
README = "# x\n<!-- results:start -->\nold\n<!-- results:end -->\nkept\n"
README += "<!-- start:start -->\n<!-- start:end -->\n<!-- notebooks:start -->\n<!-- notebooks:end -->\n"


@pytest.fixture
def published(study, tmp_path):
    """Runs of four methods at quick, a timing, and a README with markers."""
    study("quick", SCORES)
    save_timing(records_dir("quick"), "02_mhva_vs_adaptformer", 300.0, device="cpu")
    (tmp_path / "README.md").write_text(README)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 02 · A question?")])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(book, tmp_path / "notebooks" / "02_mhva_vs_adaptformer.ipynb")
    return tmp_path


def test_the_methods_table_is_sorted_and_has_intervals(published):
    table = report.methods_table(results("quick"))
    assert list(table["method"]) == ["Full fine-tuning", "MHVA + PT", "AdaptFormer + PT", "Linear probe"]
    assert set(table["n"]) == {2} and table["action top-1"].str.contains(" ± ").all()
    assert table["tail classes"].eq("").all()  # the invented runs have no tail: nothing is made up


def test_differences_are_listed_only_where_both_sides_ran(published):
    table = report.differences_table(results("quick"))
    assert list(table["contrast"])[0] == "MHVA + PT - AdaptFormer + PT" and len(table) == 3
    assert table["paired difference"][0].startswith("+")


def test_a_rate_as_good_on_tune_stands_below_the_contrast_and_in_the_readme():
    """Of the committed records: AdaptFormer + PT has two rates that tie, and at one of them nothing is decided."""
    table = report.differences_table(results("full"))
    assert table["contrast"].is_unique and table["contrast"][1] == f"MHVA + PT - {TIED.label}"
    own, other = table["paired difference"][:2]
    words = f"{own}, at the other of its two best rates {other}, undecided"
    assert f"MHVA + PT - AdaptFormer + PT: {words}" in report.readme_blocks()["results"]


def test_markdown_is_a_table_whatever_the_cells_hold():
    import pandas as pd

    text = report.markdown(pd.DataFrame({"a|b": ["x|y", None], "n": [1, 2]}))
    assert text.splitlines() == ["| a\\|b | n |", "| --- | --- |", "| x\\|y | 1 |", "|  | 2 |"]


@pytest.mark.slow
def test_pages_are_the_same_bytes_twice_and_say_that_they_are_synthetic(published, monkeypatch):
    monkeypatch.setattr(report.show, "figure_2", figures.plt.figure)  # the slowest to draw
    first = {path: path.read_bytes() for path in report.write_all()}
    assert first == {path: path.read_bytes() for path in report.write_all()}
    names = {path.name for path in first}
    assert {"02_methods.md", "02_methods.csv", "02_methods.png", "02_methods.svg", "ledger.md", "README.md"} <= names
    for path, content in first.items():
        if path.suffix == ".md":
            assert b"synthetic" in content, path
        if path.suffix == ".csv":
            header = content.decode().splitlines()[0].split(",")
            assert not any("paper" in name and "ours" in name for name in header)


def test_the_readme_follows_the_records(published, tmp_path):
    assert report.stale_readme()
    report.write_readme()
    text = (tmp_path / "README.md").read_text()
    assert "old" not in text and "kept" in text and "|MHVA + PT|12.8|" in text
    assert "|a laptop|`make study`|" in text and "|5 min, cpu|" in text
    assert "|02|[A question?](notebooks/02_mhva_vs_adaptformer.ipynb)|" in text
    assert not report.stale_readme()


def test_the_readme_without_records_says_what_to_do(study, tmp_path):
    study("quick", [])
    blocks = report.readme_blocks()
    assert "make study" in blocks["results"] and "cm3t.png" in blocks["results"]
    with pytest.raises(ValueError, match="results:start"):
        report.render("no markers", blocks)


@pytest.mark.slow
def test_the_command_line(published, capsys):
    assert report.main(["readme", "--check"]) == 1
    assert report.main(["readme"]) == 0 and report.main(["readme", "--check"]) == 0
    assert report.main(["ledger"]) == 0 and "reproduced" not in capsys.readouterr().out  # two seeds decide nothing
    with pytest.raises(SystemExit):
        report.main(["tables"])


def test_tuning_takes_the_best_rate_and_demands_equal_effort(study, tmp_path):
    for lr in RATES:
        for method in ("mhva+pt", "linear"):
            study("full", [(method, 34.0 if lr == 3e-3 else 30.0)], lr=lr, score_split="tune", study="tuning")
    assert report.main(["tuning"]) == 0
    entry = json.loads((tmp_path / "results" / "tuning.json").read_text())["rooms-kitchen/video_swin_mini/linear"]
    assert entry["lr"] == 3e-3 and list(map(float, entry["tried"])) == list(RATES)
    assert config.resolve("quick", method="linear").lr == 3e-3
    study("full", [("linear", 90.0)], lr=2e-2, score_split="tune", study="tuning")
    with pytest.raises(ValueError, match="unequal tuning"):
        report.release_tuning()


def test_a_group_of_variants_is_a_table_against_its_first(published):
    table = report.group_tables(results("quick"), "02", "main")["rooms-kitchen"]
    assert list(table["method"]) == ["linear probe", "AdaptFormer + PT", "MHVA + PT", "full fine-tuning"]
    difference = table["minus linear probe"]
    assert difference[0] == "" and difference[2].startswith("+2")
    assert not report.group_tables(results("quick"), "02", "ladder")
    assert report._so_far("quick", "02", "main", "rooms-kitchen", 4) == (
        "4 of 7 variants have been run (`python -m cm3t.run 02 --profile quick` runs the others). "
    )
    assert report._so_far("quick", "02", "main", "rooms-kitchen", 7) == ""


def test_colours_are_the_houses():
    assert figures.colour("mhva+pt") == figures.colour("mhva") == "#0072B2"
    assert figures.colour("pt") == "#D55E00" and figures.colour("full") == "#000000"
    assert figures.colour("adaptformer+cells") == figures.colour("adaptformer+pt") == "#7F7F7F"


def test_the_footer_digests_the_records(published):
    before = report.footer("quick")
    assert "8 runs on cpu" in before
    next(records_dir("quick").glob("*.json")).unlink()
    assert len(load_all(records_dir("quick"))) == 7 and report.footer("quick") != before


def test_a_runtime_row_reads(published):
    assert report.runtime_row("02") == "quick 5 min, cpu" and report.runtime_row("09") == "not measured yet"

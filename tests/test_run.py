"""The runner checks every parameter before it starts, executes in order, keeps times, and publishes what finished."""

import nbformat
import papermill
import pytest

from cm3t import config, notebooks, report, run
from cm3t.coerce import ConfigError
from cm3t.config import local_dir, records_dir
from cm3t.records import load_all, save_record, timings

PARAMETERS = """profile: str = "smoke"  # how much evidence
seeds: list[int] = []  # empty takes the profile's
lr: float = 1e-3  # peak learning rate
roots: dict = {}  # folders
loose = 4"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with two small notebooks; write(name, *cells) adds one."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text(
        "".join(f"<!-- {name}:start -->\n<!-- {name}:end -->\n" for name in ("results", "start", "notebooks"))
    )

    def write(name, *cells):
        code = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *cells)]
        code[0].metadata["tags"] = ["parameters"]
        book = nbformat.v4.new_notebook(metadata={"kernelspec": notebooks.KERNEL})
        book.cells = [nbformat.v4.new_markdown_cell(f"# {name}?"), *code]
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        nbformat.write(book, path)
        return path

    write("01_first", "from IPython.display import Markdown, display\ndisplay(Markdown('x'))", "print(profile, seeds)")
    write("02_second", "print(lr)")
    return write


@pytest.fixture
def executed(monkeypatch):
    """Papermill's executions, noted instead of made."""
    calls = []

    def note(path, output, **settings):
        calls.append((path.rsplit("/", 1)[1], output, settings))

    monkeypatch.setattr(papermill, "execute_notebook", note)
    return calls


def test_kernels_are_asked_to_encrypt_what_they_say(checkout, executed):
    run.study(notebooks.find(["01"]), "smoke")
    ((_, _, settings),) = executed
    assert settings["config"].KernelManager.transport_encryption == "auto"


def test_notebooks_are_found_by_number_or_name(checkout):
    assert [path.stem for path in notebooks.find()] == ["01_first", "02_second"]
    assert [path.stem for path in notebooks.find(["2", "01_first.ipynb"])] == ["01_first", "02_second"]
    with pytest.raises(ConfigError, match="no notebook '07'.*01_first"):
        notebooks.find(["07"])


def test_the_study_runs_in_order_with_the_profiles_settings(checkout, executed, capsys):
    assert run.main(["--profile", "quick"]) == 0
    assert [name for name, *_ in executed] == ["01_first.ipynb", "02_second.ipynb"]
    _, output, settings = executed[0]
    assert output == str(local_dir("quick") / "executed" / "01_first.ipynb")
    assert settings["cwd"] == str(config.ROOT) and settings["kernel_name"] == "python3"
    assert settings["execution_timeout"] == config.PROFILES["quick"].cell_timeout
    assert settings["parameters"] == {"profile": "quick"} and settings["log_output"] and not settings["progress_bar"]
    assert "not timed before" in capsys.readouterr().out
    run.main(["--profile", "quick"])
    assert "about 0 s left" in capsys.readouterr().out


def test_parameters_take_the_declared_type(checkout, executed):
    assert run.main(["02", "-p", "seeds=[0, 1]", "-p", "lr=1e-4"]) == 0
    assert executed[0][2]["parameters"] == {"profile": "smoke", "seeds": [0, 1], "lr": 1e-4}
    for given in ("roots=epic=/a b,udiva=c=d", "roots={'epic': '/a b', 'udiva': 'c=d'}"):
        assert run.main(["02", "-p", given]) == 0
        assert executed[-1][2]["parameters"]["roots"] == {"epic": "/a b", "udiva": "c=d"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["-p", "sedes=[0]"], "no parameter 'sedes'; did you mean 'seeds'"),
        (["-p", "lr=fast"], "lr='fast' is not of type float"),
        (["-p", "lr"], "has no value"),
        (["-p", "loose=1"], "has no type"),
        (["-p", "roots=/a/folder"], "is not of type dict; write for example a=1,b=2"),
        (["09"], "no notebook '09'"),
    ],
)
def test_a_wrong_argument_stops_before_anything_runs(checkout, executed, capsys, words, message):
    assert run.main(words) == 2 and executed == []
    assert message in capsys.readouterr().err


def test_a_stopped_study_says_how_to_go_on(checkout, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", stop)
    assert run.main([]) == 130 and "resumes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_execution_and_a_failing_one(checkout, capsys):
    checkout("03_fails", "1 / 0")
    assert run.main(["01", "03", "-p", "seeds=[5]"]) == 1
    shown = capsys.readouterr()
    assert "  smoke [5]" in shown.out and "Executing" not in shown.out and "<IPython" not in shown.out
    assert "ZeroDivisionError" in shown.err and "03_fails.ipynb" in shown.err
    assert set(timings(local_dir("smoke"))) == {"01_first"}


@pytest.mark.slow
def test_a_refreshed_notebook_is_executed_and_clean(checkout):
    path = checkout("04_clean", "import os; print(os.listdir(os.environ['CM3T_LOCAL']))", "print(profile)")
    book = notebooks.read(path)
    book.metadata["widgets"] = {"state": {}}
    book.cells[2].metadata["execution"] = {"iopub.status.busy": "now"}
    nbformat.write(book, path)
    assert run.main(["04", "--refresh"]) == 0
    book = notebooks.read(path)
    assert dict(book.metadata) == {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
    assert [cell.execution_count for cell in book.cells[1:]] == [1, 2, 3]
    assert book.cells[2].outputs[0].text == "[]\n" and book.cells[2].metadata == {}
    assert [notebooks.is_compared(cell) for cell in book.cells] == [False, False, True, True]
    assert sorted(p.name for p in path.parent.iterdir()) == ["01_first.ipynb", "02_second.ipynb", "04_clean.ipynb"]


def test_publishing_moves_what_finished_and_leaves_the_machine_behind(checkout, make_record, monkeypatch):
    monkeypatch.setattr(report, "write_all", list)
    local = local_dir("quick")
    for seed in (0, 1):
        own = dict(
            root="/somewhere/of/mine/kitchen", audio="/somewhere/a.hdf5", features="gaze=/somewhere/g,x=/somewhere/x.h5"
        )
        save_record(make_record("quick", seed=seed, side="audio", method="mhva+caa", **own), local)
    save_record(make_record("quick", seed=2, status="failed"), local)
    save_record(make_record("quick", seed=0, study="03", method="pt"), local)
    assert run.publish("quick", ["02"]) == 2
    published = load_all(records_dir("quick"))
    assert len(published) == 2 and published[0].run_info["config"]["root"] == "kitchen"
    assert published[0].run_info["config"]["features"] == "gaze=g,x=x.h5"
    assert "/somewhere" not in "".join(path.read_text() for path in records_dir("quick").glob("*.json"))
    assert len(list(local.glob("*.json"))) == 2, "the failed run and the other study's stay"
    assert run.publish("quick", ["02"]) == 0


@pytest.mark.slow
def test_smoke_publishes_only_its_times(checkout, executed, make_record):
    save_record(make_record("smoke"), local_dir("smoke"))
    run.main(["01"])
    assert run.main(["--publish"]) == 0
    assert load_all(records_dir("smoke")) == [] and "01_first" in timings(records_dir("smoke"))
    assert len(load_all(local_dir("smoke"))) == 1


def test_the_list_shows_questions_times_and_parameters(checkout, capsys):
    assert run.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert "01_first?" in shown and "lr: float = 1e-3  peak learning rate" in shown and "not measured yet" in shown


def test_a_resumed_notebook_took_what_its_runs_took(checkout, executed, make_record):
    save_record(make_record(study="01"), local_dir("smoke"))  # of 60 seconds, made before
    save_record(make_record(study="01", seed=1, score_split="tune"), local_dir("smoke"))
    run.main(["01"])
    kept = timings(local_dir("smoke"))["01_first"]
    assert 60 <= kept["seconds"] < 61 and (kept["runs"], kept["device"]) == (1, "2 CPU cores")

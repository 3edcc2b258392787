"""The study in one command: the notebooks, in order, through papermill; stopped anywhere, it resumes.

    python -m cm3t.run --profile quick          all notebooks; 02 05 after it selects some
    python -m cm3t.run --list                   what there is, what each takes, its parameters
    python -m cm3t.run 02 -p "seeds=[0, 1]"     a notebook parameter, checked against the notebook
    python -m cm3t.run --profile full --publish move finished local runs to results/records, renew tables and README
    python -m cm3t.run 02 --profile paper --dry-run -p root=DIR  what the runs lack (exit code 2), and would take
    python -m cm3t.run 07 --profile paper -p roots=epic=DIR,mpiigi=DIR,udiva=DIR      on several real sets
    python -m cm3t.run --refresh                execute the committed notebooks in place, as nbval compares them

Runs land in results/local/<profile>/ and are found again by their configuration, so a repeated command loses nothing.
"""

import argparse
import ast
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import papermill

from cm3t import config, notebooks, report
from cm3t.coerce import ConfigError, coerce, nearest
from cm3t.config import PROFILES, local_dir, records_dir
from cm3t.pages.times import spell
from cm3t.records import (
    Record,
    device_in_words,
    find_record,
    load_all,
    machine_seconds,
    save_record,
    save_timing,
    timings,
    write_json,
)
from cm3t.words import counted

RUN_PARAMETERS = ("data", "root", "roots", "backbone", "weights")  # of notebooks, that go to every run
OWN = "12"  # the notebook for anybody's own videos


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 1 a notebook failed, 2 a wrong argument, 130 interrupted."""
    given = _parser().parse_args(arguments)
    try:
        chosen = notebooks.find(given.notebooks)
        if given.list:
            _list(chosen)
        elif given.publish:
            publish(given.profile, [path.stem[:2] for path in chosen] if given.notebooks else None)
        elif given.refresh:
            return _refresh(chosen)
        elif given.dry_run:
            return dry_run(chosen, given.profile, _pairs(given.parameter))
        else:
            return study(chosen, given.profile, _pairs(given.parameter))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes where it was, finished runs are kept", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Flags and their help."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.run", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", metavar="NN", help="numbers or names; default: all, in order")
    parser.add_argument("--profile", default="smoke", choices=list(PROFILES), help="how much evidence (smoke)")
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of a notebook's parameters (--list), as often as needed",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--list", action="store_true", help="notebooks, times and parameters")
    mode.add_argument("--publish", action="store_true", help="move finished local runs to results/records")
    mode.add_argument("--dry-run", action="store_true", help="say what the runs lack and what they would take")
    mode.add_argument("--refresh", action="store_true", help="execute the committed notebooks in place")
    return parser


def _pairs(words: list[str]) -> dict[str, str]:
    """`name=value` words as a dict."""
    for word in words:
        if "=" not in word:
            raise ConfigError(f"-p {word!r} has no value; write -p {word}=VALUE")
    return dict(word.split("=", 1) for word in words)


def check_parameters(path: Path, given: dict) -> dict:
    """The given values, of the types that the notebook declares; ConfigError for a name it does not have."""
    declared = papermill.inspect_notebook(str(path))
    for name in given:
        if name not in declared:
            raise ConfigError(f"{path.name} has no parameter {name!r}; {nearest(name, declared)}")
        if declared[name]["inferred_type_name"] == "None":
            raise ConfigError(f"{path.name}: parameter {name!r} has no type; write it as `{name}: int = ...`")
    return {name: coerce(name, value, declared[name]["inferred_type_name"]) for name, value in given.items()}


def study(paths: list[Path], profile: str, parameters: dict | None = None) -> int:
    """Execute notebooks at a profile, one after another; all parameters are checked before the first starts."""
    checked = {path: check_parameters(path, {"profile": profile} | (parameters or {})) for path in paths}
    expected = timings(records_dir(profile)) | timings(local_dir(profile))
    found = counted(len(paths), "notebook")
    print(f"{found} at {profile} ({PROFILES[profile].purpose}); {_forecast(paths, expected)}")
    for place, path in enumerate(paths):
        print(f"\n[{place + 1}/{len(paths)}] {path.stem}: {_forecast(paths[place:], expected)}", flush=True)
        try:
            seconds = execute(path, profile, checked[path])
        except papermill.PapermillExecutionError as error:
            print(f"\n{path.name} failed at cell {error.exec_count}: {error.ename}: {error.evalue}", file=sys.stderr)
            print(f"the executed copy shows where: {_executed(path, profile)}", file=sys.stderr)
            return 1
        print(f"[{place + 1}/{len(paths)}] {path.stem}: done in {spell(seconds)}", flush=True)
    print(f"\nexecuted notebooks: {local_dir(profile) / 'executed'}")
    return 0


def dry_run(paths: list[Path], profile: str, parameters: dict | None = None) -> int:
    """Say what the runs that these notebooks plan would need and take; 0 where nothing is missing, else 2."""
    from cm3t import dryrun, study  # and with it torch, which nothing else here needs

    configs = []
    for path in paths:
        number = path.stem[:2]
        if number not in (*study.STUDIES, OWN):
            continue
        declared = {name: found["default"] for name, found in papermill.inspect_notebook(str(path)).items()}
        values = {name: ast.literal_eval(text) for name, text in declared.items()}
        values |= check_parameters(path, {"profile": profile} | (parameters or {}))
        common = {name: values[name] for name in RUN_PARAMETERS if name in values}
        if number == OWN:
            if values["root"]:
                side = values["side"] or _own_side(values["root"])
                more = {"method": values["method"], "side": side, "seed": values["seed"]}
                configs.append(config.resolve(profile, data="folder", **common, **more))
            continue
        chosen = {name: values.get(name) or () for name in ("groups", "seeds")}
        configs += study.configs(number, profile, **chosen, **common)
    if not configs:
        own = "; for your own videos, give -p root=DIR" if any(path.stem[:2] == OWN for path in paths) else ""
        raise ConfigError(f"these notebooks plan no runs: there is nothing to look for{own}")
    return dryrun.check(configs, local_dir(profile))


def _own_side(root: str) -> list[str]:
    """The modality that the notebook would take of somebody's own videos; where it takes flow, say so."""
    from cm3t.data.folder import VideoFolder, usual_side

    try:
        side = usual_side(VideoFolder(root, split=split) for split in ("train", "tune", "validation"))
    except (OSError, ValueError, RuntimeError):
        return ["audio"]  # what is wrong with the folder is told by the check
    if side == ["flow"]:
        print("silent: flow is used")
    return side


def execute(path: Path, profile: str, parameters: dict) -> float:
    """Run one notebook by papermill into results/local/<profile>/executed/; seconds it took."""
    output = _executed(path, profile)
    output.parent.mkdir(parents=True, exist_ok=True)
    # A resumed notebook finds runs of before: it took what they took, not what finding them takes.
    found = sum(machine_seconds(record) for record in load_all(local_dir(profile)) if _belongs(record, path))
    start = time.monotonic()
    with _progress():
        papermill.execute_notebook(
            str(path),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(config.ROOT),
            progress_bar=False,
            log_output=True,
            request_save_on_cell_execute=True,
            execution_timeout=PROFILES[profile].cell_timeout,
            config=notebooks.kernel_settings(),
        )
    runs = [record for record in load_all(local_dir(profile)) if _belongs(record, path)]
    seconds = time.monotonic() - start + found
    device = device_in_words(runs[-1].meta_info["hardware"]) if runs else None
    save_timing(local_dir(profile), path.stem, seconds, runs=len(runs), device=device)
    return seconds


def _belongs(record: Record, path: Path) -> bool:
    """Is it a run of this notebook, its tuning apart?"""
    given = record.run_info["config"]
    return given["study"] == path.stem[:2] and given["score_split"] == "validation"


class _progress(logging.Handler):
    """While it is entered, what cells print goes to the terminal as it comes, without papermill's own lines."""

    def __enter__(self):
        self.logger = logging.getLogger("papermill")
        self.kept = (self.logger.level, self.logger.propagate)
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def __exit__(self, *_):
        self.logger.removeHandler(self)
        self.logger.setLevel(self.kept[0])
        self.logger.propagate = self.kept[1]

    def emit(self, entry: logging.LogRecord) -> None:
        """Print one log entry, unless it is papermill speaking of itself."""
        text = entry.getMessage().rstrip("\n")
        own = (
            "Executing ",
            "Ending ",
            "Input Notebook",
            "Output Notebook",
            "Starting kernel",
            "Passed unknown",
            "Working directory",
        )
        if text and not text.startswith(own) and not text.startswith(("<Figure", "<IPython")):
            print("  " + text.replace("\n", "\n  "), flush=True)


def _executed(path: Path, profile: str) -> Path:
    return local_dir(profile) / "executed" / path.name


def _forecast(paths: list[Path], expected: dict) -> str:
    """What these notebooks should take, by what they took before."""
    known = [expected[path.stem]["seconds"] for path in paths if path.stem in expected]
    unknown = len(paths) - len(known)
    if not known:
        return "not timed before"
    return f"about {spell(sum(known))} left" + (f", {unknown} not timed before" if unknown else "")


def publish(profile: str, studies: list[str] | None = None) -> int:
    """Move finished local runs (of some studies) to results/records/<profile>/, and renew what is made of them.

    Smoke proves that it runs and decides nothing: only its times are published. Paths of this machine stay behind,
    and so do runs made by hand, unless their study is named.
    """
    local, public = local_dir(profile), records_dir(profile)
    planned = {path.stem[:2] for path in notebooks.known()}  # not what was tried by hand
    moved = 0
    for record in load_all(local) if profile != "smoke" else []:
        if record.run_info["study"] not in (studies or planned):
            continue
        if find_record(public, record.run_info["config_hash"], **record.digests) is None:
            save_record(_without_paths(record), public)
            moved += 1
        (local / f"{record.run_id}.json").unlink()
    for stem, timing in timings(local).items():
        write_json(public / "notebooks" / f"{stem}.json", timing)
    found = f"{counted(moved, 'run')} and {counted(len(timings(local)), 'time')}"
    print(f"{found} published to {public.relative_to(config.ROOT)}")
    for path in report.write_all():
        print(f"  renewed {path.relative_to(config.ROOT)}")
    return moved


def _without_paths(record):
    """The record with folders of this machine reduced to their names."""
    settings = dict(record.run_info["config"])
    command = record.run_info["command"]
    for name in ("root", "weights", "audio", "features"):
        given = settings.get(name) or ""
        if "/" in given:
            settings[name] = ",".join(_without_folder(word) for word in given.split(","))
            command = command.replace(given, settings[name])
    return replace(record, run_info=record.run_info | {"config": settings, "command": command})


def _without_folder(word: str) -> str:
    """A path, or name=path, without the folders before its last name."""
    name, equals, path = word.rpartition("=")
    return f"{name}{equals}{Path(path).name}"


def _list(paths: list[Path]) -> None:
    """Print each notebook's question, times and parameters."""
    for path in paths:
        print(f"{path.stem}\n  {notebooks.title(path)}\n  {report.runtime_row(path.stem)}")
        for name, found in papermill.inspect_notebook(str(path)).items():
            print(f"    {name}: {found['inferred_type_name']} = {found['default']}  {found['help']}")


def _refresh(paths: list[Path]) -> int:
    """Execute in place at smoke, in a fresh folder of records, clean the metadata, renew the README's map."""
    for path in paths:
        start = time.monotonic()
        notebooks.refresh(path)
        print(f"{path.name}: refreshed in {spell(time.monotonic() - start)}", flush=True)
    report.write_readme()  # its map of the notebooks quotes their titles
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands that take a study file: start one, run it, look at it, try its models."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.app import AsJson, Figures, Overrides, StudyFile, app, missing_extra, print_json
from sightline.errors import SightlineError, StudyError

if TYPE_CHECKING:
    from sightline.study import Study


@app.command()
def init(
    images: Annotated[Path, typer.Option(help="Folder of the pictures.")],
    data: Annotated[Path, typer.Option(help="CSV, JSONL or JSON with questions and answers.")],
    out: Annotated[Path, typer.Option(help="The study file to write.")] = Path("study.yaml"),
    base: Annotated[str, typer.Option(help="The model to tune.")] = "llava-hf/llava-1.5-7b-hf",
) -> None:
    """Guess the columns, show three rows, write a commented study."""
    from sightline.data.first_study import study_text
    from sightline.data.guess import guess_columns
    from sightline.data.shares import choose_shares, usable_rows
    from sightline.storage import write_file
    from sightline.verdict.statistics import groups_needed

    if out.exists():
        raise StudyError(f"{out} exists; give another --out, or remove it")
    guess = guess_columns(data, images)
    for number, row in enumerate(guess.preview, start=1):
        print(f"row {number}: " + "; ".join(f"{key} = {value}" for key, value in row.items()))
    least = groups_needed(num_comparisons=2 if guess.is_preferences else 1)
    shares, remark = choose_shares(usable_rows(guess), least, by=guess.patient or "image")
    # Named after its file, so that two studies of one folder have directories of their own.
    name = out.stem if out.stem != "study" else out.resolve().parent.name or out.stem
    write_file(out, study_text(guess, name=name, folder=out.parent, shares=shares, remark=remark, base=base))
    if remark:
        print(f"warning: {remark}")
    print(f"wrote {out}; next: sightline check {out}")


@app.command()
def run(
    study: StudyFile,
    out: Annotated[Path | None, typer.Option(help="The study's directory; studies/NAME by default.")] = None,
    set_: Overrides = None,
    smoke: Annotated[bool, typer.Option(help="The built-in model and data in place of the study's, in small.")] = False,
    until: Annotated[str | None, typer.Option(help="Stop after this step.")] = None,
    figures: Figures = True,
    dry_run: Annotated[
        bool, typer.Option(help="Print the resolved study, what it would do and what it needs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Carry a study out, resumed where it stopped; the last line printed is the report's path."""
    from sightline.runner import estimate_study, run_study
    from sightline.runner.display import Display
    from sightline.study import load_study, plan_study, resolved_yaml

    loaded = load_study(study, overrides=set_ or [], smoke=smoke)
    if dry_run:
        plan = plan_study(loaded)
        made = {"runs": [r.name for r in plan.runs], "models": list(plan.models), "asked": list(plan.asked)}
        if not as_json:
            print(resolved_yaml(loaded))
            print("\n".join(f"{key}: {', '.join(names)}" for key, names in made.items()))
        try:
            estimate = estimate_study(loaded)
        except SightlineError as error:  # data or base are not here; what is asked can be read all the same
            estimate = None
            print(f"no estimate: {error}", file=sys.stderr)
        except ImportError as error:
            estimate = None
            print(f"no estimate: {missing_extra(error)}", file=sys.stderr)
        if as_json:
            print_json({"study": loaded.model_dump(mode="json"), **made, "estimate": estimate and estimate.evidence})
        elif estimate is not None:
            print(f"estimate: {estimate.message}")
        return
    # A study's own directory is carried on where it lies.
    own = study if study.is_dir() and not smoke else None
    folder = out or own or Path("studies") / loaded.name
    if out is None and own is None:
        _refuse_anothers(folder, loaded)
    display = Display(quiet=as_json) if as_json else None
    report = run_study(loaded, folder, until=until, with_figures=figures, display=display)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # under torchrun, one process speaks
    if as_json:
        compare = folder / "compare.json"
        print_json({"report": str(report), "compare": json.loads(compare.read_text()) if compare.exists() else None})
    else:
        print(report)


def _refuse_anothers(folder: Path, study: Study) -> None:
    """Stop before a study takes the directory of another one that happens to have its name.

    Raises:
        StudyError: what lies there was made of other data.
    """
    from sightline.study import load_study, source_location

    if not (folder / "study.yaml").exists():
        return
    there = load_study(folder / "study.yaml")
    theirs, ours = ({source_location(one, data) for data in one.data.values() if data.source} for one in (there, study))
    if theirs and ours and theirs.isdisjoint(ours):
        raise StudyError(
            f"{folder} holds another study, of {', '.join(sorted(theirs))}; give this one another `name`, or an --out"
        )


@app.command()
def check(
    study: StudyFile,
    set_: Overrides = None,
    strict: Annotated[bool, typer.Option(help="Exit with 4 if there are warnings.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file as well.")] = None,
    smoke: Annotated[bool, typer.Option(help="Check the study as --smoke would run it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at data, labels, template, split, leakage, detectable difference, destinations and cost; train nothing."""
    import dataclasses
    import time

    from sightline.cli.findings import print_findings, summary
    from sightline.runner import StudyCheck
    from sightline.study import load_study

    began = time.perf_counter()
    loaded = load_study(study, overrides=set_ or [], smoke=smoke)
    looking = StudyCheck(loaded)
    findings = list(looking if as_json else print_findings(looking))
    if html is not None:
        from sightline.report.check_page import check_page
        from sightline.storage import write_file

        write_file(html, check_page(loaded.name, findings, looking.problems))
    if as_json:
        print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        print(
            f"found: {summary(findings)}; {time.perf_counter() - began:.0f} s, {_peak_gib():.1f} GiB of memory at most"
        )
        if html is not None:
            print(html)
    if any(finding.stops for finding in findings):
        print("A fault stops a run; correct it, or name it in the study: accept: {NAME: your reason}", file=sys.stderr)
        raise typer.Exit(2)
    if strict and any(finding.severity == "warning" for finding in findings):
        raise typer.Exit(4)


def _peak_gib() -> float:
    """Give the most memory that this process had at once, and the largest of those it started."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(which).ru_maxrss for which in processes) * unit / 2**30


@app.command()
def show(
    study: StudyFile,
    set_: Overrides = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 3,
    on: Annotated[str | None, typer.Option(help="Which set, as SET.SPLIT; what the first step learns from.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file instead.")] = None,
    smoke: Annotated[bool, typer.Option(help="Show the study as --smoke would run it.")] = False,
) -> None:
    """Show what the model will see: tokens, which are trained, the tree of an image."""
    from sightline.runner.show import show_study
    from sightline.study import load_study

    show_study(load_study(study, overrides=set_ or [], smoke=smoke), num_rows=rows, on=on, html=html)
    if html is not None:
        print(html)


@app.command()
def ask(
    model: Annotated[str, typer.Argument(help="A base, or DIR:MODEL of a study; its base answers beside an adapter.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    image: Annotated[list[Path], typer.Option(help="A picture; give several in the order they are to be seen.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Try a model: base beside tuned."""
    from sightline.runner.ask import ask_model

    answers = ask_model(model, image, question, max_new_tokens=max_new_tokens)
    if as_json:
        print_json(answers)
    else:
        for name, text in answers.items():
            print(f"{name}: {text}")


@app.command()
def schema() -> None:
    """Print the study file's JSON schema, so that editors complete it."""
    from sightline.study import json_schema

    print_json(json_schema())

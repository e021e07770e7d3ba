"""Commands that take what was answered: score it, compare it, audit it, report it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import AsJson, Figures, app, print_json
from sightline.errors import RefusedError


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="What the answers are scored as: pope, vqa, text or shr.")],
    answers: Annotated[Path, typer.Option(help="Anyone's answers; for shr, a judgement.json.")],
    data: Annotated[Path, typer.Option(help="The questions with their reference answers.")],
    rule: Annotated[str, typer.Option(help="Whose rule; all puts them side by side.")] = "sightline",
    split: Annotated[str | None, typer.Option(help="Which of the data's own splits was asked.")] = None,
    questions: Annotated[Path | None, typer.Option(help="The file that the answers' ids point into.")] = None,
    against: Annotated[Path | None, typer.Option(help="shr: another model's, to be held against.")] = None,
    out: Annotated[Path | None, typer.Option(help="shr: where judgement.json and metrics.json go.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score anyone's answers, by every known harness's rule."""
    from sightline.runner.score import score_task
    from sightline.runner.score_text import render_score

    found = score_task(task, answers, data, rule=rule, split=split, questions=questions, against=against, out=out)
    if as_json:
        print_json(found)
    else:
        print(render_score(found), end="")


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="A study's directory, or several DIR:MODEL, the baseline first.")],
    by: Annotated[str | None, typer.Option(help="The metric that decides.")] = None,
    margin: Annotated[float | None, typer.Option(help="Ask whether no worse by more than this, in its unit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is known of the difference between models."""
    from sightline.runner.compare import compare_runs
    from sightline.verdict.sentences import render_terminal

    result = compare_runs(runs, by=by, margin=margin)
    if as_json:
        print_json(result)
    else:
        print(render_terminal(result))


@app.command()
def audit(
    table: Annotated[Path, typer.Argument(help="CSV: model, optionally set, n, positives, images, then the metrics.")],
    against: Annotated[str | None, typer.Option(help="The model that the others are compared with; the first.")] = None,
    sd: Annotated[float | None, typer.Option(help="Assumed spread of a question's differences, for means.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a published table can and cannot show; a contradiction in it is a result."""
    from sightline.verdict.audit import audit_table
    from sightline.verdict.audit_sentences import render_audit

    result = audit_table(table, against=against, sd=sd)
    if as_json:
        print_json(result)
    else:
        print(render_audit(result), end="")


@app.command()
def power(
    questions: Annotated[int | None, typer.Option(help="Questions of the test set.")] = None,
    images: Annotated[int | None, typer.Option(help="Images they are about; as many as questions by default.")] = None,
    accuracy: Annotated[float | None, typer.Option(help="Expected of both models, as a rate.")] = None,
    difference: Annotated[float | None, typer.Option(help="A rate; how many questions would find it?")] = None,
    discordance: Annotated[
        float | None, typer.Option(help="Share of questions that one model has right and the other wrong.")
    ] = None,
    correlation: Annotated[float | None, typer.Option(help="Of two differences about one image.")] = None,
    comparisons: Annotated[int, typer.Option(help="Planned, corrected together.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Say what difference a test set can detect, before any GPU hour."""
    from sightline.verdict.power import plan_test

    plan = plan_test(
        questions,
        images,
        accuracy=accuracy,
        difference=difference,
        discordance=discordance,
        correlation=correlation,
        num_comparisons=comparisons,
    )
    if as_json:
        print_json(plan)
    else:
        print("\n".join(plan["sentences"]))


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A study's directory.")],
    verify: Annotated[bool, typer.Option("--verify", help="Work every number out again; write nothing.")] = False,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Whether pictures go into the report.")] = True,
    figures: Figures = True,
    as_json: AsJson = False,
) -> None:
    """Write a study's report anew, with what people have judged since, or say whether it still holds."""
    if not verify:
        from sightline.report.build import build_report
        from sightline.runner.compare import use_new_reviews
        from sightline.runner.verify_data import changed_files

        if changed := changed_files(directory):
            are = "is" if len(changed) == 1 else "are"
            print(f"{', '.join(changed)} {are} not what the run wrote; see --verify", file=sys.stderr)
        if use_new_reviews(directory):
            print("compared again, with the judgements in reviews/", file=sys.stderr)
        path = build_report(directory, with_images=images, with_figures=figures, changed=changed)
        if as_json:
            print_json({"report": str(path), "changed": changed})
        else:
            print(path)
        return
    from sightline.runner.verify import render_verification, verification_json, verify_report

    found = verify_report(directory)
    if as_json:
        print_json(verification_json(found))
    else:
        print(render_verification(found), end="")
    if not found.holds:
        raise typer.Exit(RefusedError.exit_code)

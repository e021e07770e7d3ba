"""What the model will see: the tokens of real samples, which are trained, and the tree of an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree as RichTree

from sightline.errors import DataError, StudyError
from sightline.models.family import Family
from sightline.records import Sample
from sightline.report.show_page import Shown, show_page
from sightline.report.tokens import Piece, ShownRow, ShownTree, Stretch, Vocabulary, show_row, show_tree
from sightline.report.wording import clean, count
from sightline.runner.prepare import prepare, render_samples, wording_of
from sightline.runner.reading import Prepared
from sightline.storage import write_file
from sightline.study import StepRun, Study
from sightline.study.keys import nearest
from sightline.trees.render import Rendered, render, reword

MOST_BRANCHES = 24
"""Rows of an image that its tree draws; all of them are counted."""

STYLES = {"trained": "bold green", "picture": "blue", "read": ""}
SPECIAL, FAULT = "magenta", "bold red"


def show_study(
    study: Study,
    *,
    num_rows: int = 3,
    on: str | None = None,
    html: Path | None = None,
    console: Console | None = None,
) -> None:
    """Show the first rows of a set, token by token, and the tree of the first row's image.

    Args:
        study: the study; no weights are loaded.
        num_rows: how many rows.
        on: the set, as `set.split`; by default what the first step that trains learns from. A set that is only
            asked about is shown as it is asked.
        html: file for a page; None for the terminal.
        console: the terminal.

    Raises:
        StudyError: if there is no such set, or nothing is trained.
        DataError: if the set has no row.
    """
    shown = _shown(study, num_rows=num_rows, on=on)
    if html is not None:
        write_file(html, show_page(shown, study.folder))
    else:
        _print(shown, console or Console(highlight=False))


def _shown(study: Study, *, num_rows: int, on: str | None) -> Shown:
    prepared, family = prepare(study)
    run, names = _chosen(prepared, on)
    samples = prepared.samples(names)
    if not samples:
        raise DataError(f"{', '.join(names)}: no row is left to show; look at the rows left out, `where` and `take`")
    group = [place for place, sample in enumerate(samples) if sample.image_id == samples[0].image_id]
    vocabulary = vocabulary_of(family)
    if run is not None:
        settings = run.settings
        rendered = render_samples(prepared, family, names, settings)
        facts = _facts(study, family, settings)
        views = [(samples[n], rendered[n], "") for n in range(min(num_rows, len(samples)))]
        tree = [rendered[n] for n in group]
    else:
        wordings = study.evaluate.prompts
        facts = _facts(study, family, None)
        views = [
            (sample, _asked(prepared, family, sample, text), _asked_note(sample, name, len(wordings)))
            for sample in samples[:num_rows]
            for name, text in wordings.items()
        ]
        tree = [_asked(prepared, family, samples[n], next(iter(wordings.values()))) for n in group]
    return Shown(
        title=study.name,
        data=", ".join(names),
        step=run.name if run else None,
        num_rows=len(samples),
        facts=facts,
        rows=tuple(
            show_row(
                sequence,
                vocabulary,
                name=sample.origin or sample.id,
                pictures=sample.pictures,
                asked=run is None,
                note=note,
            )
            for sample, sequence, note in views
        ),
        tree=show_tree(
            tree,
            vocabulary,
            names=[samples[n].origin or samples[n].id for n in group],
            pictures=samples[0].pictures,
            most_rows=MOST_BRANCHES,
        ),
    )


def vocabulary_of(family: Family) -> Vocabulary:
    """Ask a model's tokenizer what its ids stand for."""
    tokenizer = family.chat.tokenizer
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    def decode(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    return Vocabulary(
        decode=decode,
        special=frozenset(special | set(tokenizer.all_special_ids)),
        ends=frozenset(family.end_token_ids),
    )


def _chosen(prepared: Prepared, on: str | None) -> tuple[StepRun | None, tuple[str, ...]]:
    """Choose what is shown: the run that learns from it, or None for a set that is only asked about."""
    runs = [run for run in prepared.plan.runs if run.training and all(name in prepared.sets for name in run.on)]
    if on is None:
        if not runs:
            raise StudyError("no step of this study trains; name a set that is asked about, for example --on data.test")
        return runs[0], runs[0].on
    for run in runs:
        if on in (*run.on, *run.validation):
            return run, (on,)
    if on not in prepared.plan.asked:
        known = {name for run in runs for name in (*run.on, *run.validation)} | set(prepared.plan.asked)
        raise StudyError(f"--on {on}: the study neither learns from that nor asks about it; {nearest(on, known)}")
    return None, (on,)


def _asked(prepared: Prepared, family: Family, sample: Sample, text: str) -> Rendered:
    wording, system = wording_of(prepared.plan, text)
    messages = reword(sample.messages, wording, system=system)
    return render(family, messages, sample.pictures, None, name=sample.origin or sample.id)


def _asked_note(sample: Sample, wording: str, num_wordings: int) -> str:
    return f"wording {wording}; reference: {sample.answer}" if num_wordings > 1 else f"reference: {sample.answer}"


def _facts(study: Study, family: Family, settings: Any) -> tuple[tuple[str, str], ...]:
    """Say what decides how a row becomes tokens."""
    facts = [("base", study.base), ("family", type(family).__name__)]
    if settings is None:
        return tuple(facts)
    facts += [
        ("template", "the model's own" if settings.template == "own" else settings.template),
        ("trained on", "the answer" if settings.train_on == "answer" else "every text token"),
        ("end token", "added where the template gives none" if settings.eos == "auto" else "left out (eos: none)"),
    ]
    facts += [("system turn", settings.system)] if settings.system is not None else []
    facts += [("question suffix", settings.question_suffix)] if settings.question_suffix else []
    return tuple(facts)


def _print(shown: Shown, console: Console) -> None:
    legend = [("trained", STYLES["trained"]), ("image", STYLES["picture"]), ("special", SPECIAL), ("read only", "")]
    console.print(Text("  ").join(Text.assemble(("■ ", style), name) for name, style in legend))
    for row in shown.rows:
        console.print()
        console.print(_title(row))
        console.print(_text(row.pieces))
    console.print()
    console.print(_drawn(shown.tree))


def _title(row: ShownRow) -> Text:
    parts = [f"{count(row.num_tokens)} tokens, {count(row.num_trained)} trained"]
    parts += [f"end token {row.end}"] if row.end else []
    parts += [f"{picture.name} {tokens} tokens" for picture, tokens in row.pictures]
    parts += [row.note] if row.note else []
    return Text(clean(f"{row.name}: {'; '.join(parts)}").replace("\n", " "), style="bold")


def _drawn(tree: ShownTree) -> RichTree:
    names = ", ".join(picture.name for picture in tree.pictures) or "no image"
    title = f"{names}: {count(tree.num_rows)} rows, {count(tree.num_logical)} tokens as {count(tree.num_executed)}"
    if tree.num_drawn < tree.num_rows:
        title += f"; the first {tree.num_drawn} rows are drawn"
    drawn = RichTree(Text(clean(title).replace("\n", " ")), guide_style="dim")
    _grow(drawn, tree.roots)
    return drawn


def _grow(parent: RichTree, stretches: Iterable[Stretch]) -> None:
    for stretch in stretches:
        _grow(parent.add(_text(stretch.pieces)), stretch.below)


def _text(pieces: Iterable[Piece]) -> Text:
    text = Text()
    for piece in pieces:
        style = FAULT if piece.kind == "picture" and piece.num_trained else STYLES[piece.kind]
        if piece.special and piece.picture is None:
            style = f"{style} {SPECIAL}" if piece.kind == "read" else f"{STYLES['trained']} underline"
        # Line ends are written as signs, so that the rows of a tree stay rows.
        text.append(piece.shown.replace("\n", ""), style=style.strip())
    return text

"""`build_report`: a study directory in; the report, its figures, its tables and the models' cards out."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

from sightline.report.cards import model_cards
from sightline.report.content import gather
from sightline.report.figures import figure_files
from sightline.report.html import page
from sightline.report.markdown import markdown
from sightline.report.reading import read_study
from sightline.report.tables import csv_text, latex_table, markdown_table
from sightline.storage import write_file


def build_report(
    directory: Path, *, with_images: bool = True, with_figures: bool = True, changed: tuple[str, ...] = ()
) -> Path:
    """Write a study's report; the same study gives the same bytes.

    Args:
        directory: a study directory; every file but compare.json may be missing.
        with_images: whether small copies of the pictures are embedded, and the pictures linked.
        with_figures: whether figures/ is drawn, which takes longest; if not, that of an earlier report is removed.
        changed: files of the study that are not what its run wrote; the report begins with them.

    Returns:
        The path of report.html; report.md, figures/, tables/ and model_cards/ lie beside it.

    Raises:
        MissingDataError: the directory holds no compare.json.
        CorruptError: a file is not what the study wrote.
    """
    directory = Path(directory)
    files = report_files(directory, with_images=with_images, with_figures=with_figures, changed=changed)
    if not with_figures:
        shutil.rmtree(directory / "figures", ignore_errors=True)
    for name, content in files.items():
        write_file(directory / name, content)
    return directory / "report.html"


def report_files(
    directory: Path, *, with_images: bool = True, with_figures: bool = True, changed: tuple[str, ...] = ()
) -> Mapping[str, bytes]:
    """Make a study's report without writing it.

    Args:
        directory: a study directory; every file but compare.json may be missing.
        with_images: whether small copies of the pictures are embedded, and the pictures linked.
        with_figures: whether figures/ is drawn, which takes longest.
        changed: files of the study that are not what its run wrote; the report begins with them.

    Returns:
        File name, from the directory on, to content; report.html last.

    Raises:
        MissingDataError: the directory holds no compare.json.
        CorruptError: a file is not what the study wrote.
    """
    files = dataclasses.replace(read_study(Path(directory)), changed=changed)
    content = gather(files)
    figures = figure_files(content) if with_figures else {}
    made = {f"figures/{name}": drawn for name, drawn in figures.items()}
    for table in content.tables.values():
        made[f"tables/{table.name}.csv"] = csv_text(table).encode()
        made[f"tables/{table.name}.md"] = markdown_table(table).encode()
        made[f"tables/{table.name}.tex"] = latex_table(table).encode()
    made |= {f"model_cards/{name}": text.encode() for name, text in model_cards(content).items()}
    made["report.md"] = markdown(content, figures=tuple(figures)).encode()
    made["report.html"] = page(content, with_images=with_images).encode()
    return made

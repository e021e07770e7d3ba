"""`build_report`: a study directory in, report.html, report.md and figures out."""

from __future__ import annotations

from pathlib import Path

from sightline.report.figures import figure_files
from sightline.report.html import page
from sightline.report.markdown import markdown
from sightline.report.reading import read_study
from sightline.storage import write_file


def build_report(directory: Path, *, with_images: bool = True) -> Path:
    """Write a study's report; the same study gives the same bytes.

    Args:
        directory: a study directory; every file but compare.json may be missing.
        with_images: whether small copies of the pictures are embedded.

    Returns:
        The path of report.html; report.md and figures/*.svg lie beside it.

    Raises:
        MissingDataError: the directory holds no compare.json.
        CorruptError: a file is not what the study wrote.
    """
    directory = Path(directory)
    files = read_study(directory)
    figures = figure_files(files)
    html = page(files, with_images=with_images)
    text = markdown(files, figures=tuple(figures))
    for name, content in figures.items():
        write_file(directory / "figures" / name, content)
    write_file(directory / "report.md", text)
    write_file(directory / "report.html", html)
    return directory / "report.html"

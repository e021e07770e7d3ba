"""Commands that ask people: the review page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import app


@app.command()
def review(
    directory: Annotated[Path, typer.Argument(help="A study's directory.")],
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Whether to open a browser.")] = True,
    port: Annotated[int | None, typer.Option(help="By default one that is the study's own.", min=1, max=65535)] = None,
) -> None:
    """Let people judge answers without knowing whose they are, on a page of this machine."""
    from sightline.serving.review import serve_review

    serve_review(directory, port=port, open_page=open_page, say=lambda line: print(line, flush=True))

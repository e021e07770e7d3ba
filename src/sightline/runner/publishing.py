"""Folders that appear when they are whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from sightline.storage import publish_folder


@contextlib.contextmanager
def publishing(folder: Path, made_from: Mapping[str, str]) -> Iterator[Path]:
    """Give an empty folder to be filled; when that went well, it takes the place of `folder`, with a manifest.

    Args:
        folder: what is to be there in the end.
        made_from: what it depends on, for the manifest.
    """
    made = folder.parent / f".{folder.name}.made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    yield made
    publish_folder(made, folder, made_from=made_from)

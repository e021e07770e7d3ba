"""Tables in Hugging Face's formats: parquet files, `save_to_disk` folders, and what else `datasets` reads."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.data.cards import declared_patterns, read_card
from sightline.data.release import Asked, Release
from sightline.data.rows import Row, Table
from sightline.errors import DataError, MissingDataError, install_advice

SPLIT_NAMES = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")

_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]{16})?")
_NUM_ROWS_AT_ONCE = 64


def is_local(path: Path) -> bool:
    """Tell whether a path is a parquet file or a folder of them, or was made by `save_to_disk`."""
    if path.is_file():
        return path.suffix == ".parquet"
    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return saved or next(path.rglob("*.parquet"), None) is not None


def is_hub_copy(asked: Asked, release: Release) -> bool:
    """Tell whether a source is a release's copy on the hub: called so, or said to be it by the study's `format`."""
    name = asked.source.partition("@")[0].casefold()
    is_meant = asked.format == release.format or name.endswith(str(release.hub).casefold())
    return is_meant and is_local(asked.path)


def read_tables(asked: Asked) -> dict[str, Table]:
    """Read a dataset split by split; pictures stay encoded.

    Args:
        asked: a parquet file, a folder of them, or a folder that `datasets` can read; and which subset.

    Returns:
        Split name to its rows, numbered from 0; "all" where a file does not say.

    Raises:
        MissingDataError: there is nothing to read.
        DataError: it cannot be read, or a subset must be chosen.
    """
    path = asked.path
    if path.is_file():
        return {_split_of(path) or "all": _parquet_table([path], file=path.name)}
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _dataset_tables(_load_saved(path), file=asked.source)
    if next(path.rglob("*.parquet"), None) is None:
        return _dataset_tables(_load_folder(path, subset=asked.subset), file=asked.source)
    files = declared_files(path, asked.subset, where=asked.source) or _files_by_name(path, asked.subset)
    return {split: _parquet_table(paths, file=f"{asked.source}:{split}") for split, paths in files.items()}


def declared_files(folder: Path, subset: str | None, *, where: str) -> dict[str, list[Path]]:
    """Find the files that a dataset's card declares, split by split; empty when it declares none that are there."""
    patterns = declared_patterns(read_card(folder), subset, where=where) or {}
    found = {
        split: sorted({file for one in ones for file in folder.glob(one) if file.is_file()})
        for split, ones in patterns.items()
    }
    return {split: files for split, files in found.items() if files}


def _files_by_name(folder: Path, subset: str | None) -> dict[str, list[Path]]:
    base = folder / subset if subset else folder
    files: dict[str, list[Path]] = {}
    subsets = set()
    for file in sorted(base.rglob("*.parquet")):
        inner = [part for part in file.relative_to(base).parent.parts if part not in ("data", *SPLIT_NAMES)]
        if inner:
            subsets.add("/".join(inner))
        files.setdefault(_split_of(file) or "all", []).append(file)
    if not files:
        raise MissingDataError(f"{base}: no parquet files there")
    if subsets:
        raise DataError(f"{base}: choose a `subset`; there are {', '.join(sorted(subsets))}")
    return files


def _split_of(file: Path) -> str | None:
    """Tell a parquet file's split from its name (train-00000-of-00002.parquet) or its folder's (train/0.parquet)."""
    if match := _SHARD.fullmatch(file.stem):
        return match["split"]
    return next((name for name in (file.stem, file.parent.name) if name in SPLIT_NAMES), None)


def _parquet_table(paths: list[Path], *, file: str) -> Table:
    pyarrow, parquet = _import("pyarrow"), _import("pyarrow.parquet")
    try:
        columns = parquet.read_schema(paths[0]).names
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{paths[0]}: no parquet file ({error}); copy it again") from None

    def rows() -> Iterator[Row]:
        number = 0
        for path in paths:
            try:
                with parquet.ParquetFile(path) as opened:
                    for batch in opened.iter_batches(batch_size=_NUM_ROWS_AT_ONCE):
                        for values in batch.to_pylist():
                            yield Row(number=number, values=values)
                            number += 1
            except (pyarrow.ArrowInvalid, OSError) as error:
                raise DataError(f"{path}: damaged after row {number} ({error}); copy it again") from None

    return Table(file=file, columns=tuple(columns), rows=rows())


def _dataset_tables(dataset: Any, *, file: str) -> dict[str, Table]:
    splits = dataset if isinstance(dataset, dict) else {str(dataset.split or "all"): dataset}

    def rows(split: Any) -> Iterator[Row]:
        number = 0
        # As Arrow, pictures come as stored; any other way `datasets` would decode each one.
        for batch in split.with_format("arrow").iter(batch_size=_NUM_ROWS_AT_ONCE):
            for values in batch.to_pylist():
                yield Row(number=number, values=values)
                number += 1

    return {
        str(name): Table(file=f"{file}:{name}", columns=tuple(split.column_names), rows=rows(split))
        for name, split in splits.items()
    }


def _import(name: str) -> Any:
    """Import what only `sightline[train]` brings."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(f"Hugging Face data needs {name}; {install_advice('train')}") from None


def _load_saved(path: Path) -> Any:
    datasets = _import("datasets")
    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a damaged folder makes it raise
        raise DataError(f"{path}: cannot be read as a saved dataset ({error})") from error


def _load_folder(path: Path, *, subset: str | None) -> Any:
    datasets = _import("datasets")
    try:
        return datasets.load_dataset(str(path), subset)
    except Exception as error:  # whatever is in the folder may make it raise
        raise DataError(
            f"{path}: neither parquet nor anything else that `datasets` can read ({type(error).__name__}: {error})"
        ) from error

"""Tables in Hugging Face's formats: parquet files, `save_to_disk` folders, and datasets by name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.data.rows import Row, Table
from sightline.errors import DataError, MissingDataError

SPLIT_NAMES = ("train", "training", "validation", "valid", "val", "dev", "test", "testing")

_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]{16})?")
_NUM_ROWS_AT_ONCE = 64


def is_local(path: Path) -> bool:
    """Tell whether a path is a parquet file or a folder of them, or was made by `save_to_disk`."""
    if path.is_file():
        return path.suffix == ".parquet"
    saved = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return saved or next(path.rglob("*.parquet"), None) is not None


def is_name(source: str) -> bool:
    """Tell whether a source can be the name of a dataset on the Hugging Face hub: owner/name."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source) is not None


def read_tables(source: str, *, root: Path, subset: str | None = None) -> dict[str, Table]:
    """Read a dataset split by split; pictures stay encoded.

    Args:
        source: a parquet file or folder under `root`, or a name on the hub.
        root: where relative paths start from.
        subset: which configuration of the dataset.

    Returns:
        Split name to its rows, numbered from 0; "all" where a file does not say.

    Raises:
        MissingDataError: it is not here and could not be fetched.
        DataError: it cannot be read, or a subset must be chosen.
    """
    path = root / source
    if path.is_file():
        return {_split_of(path) or "all": _parquet_table([path], file=path.name)}
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return _dataset_tables(_load_saved(path), file=source)
        return _folder_tables(path, source=source, subset=subset)
    return _dataset_tables(_fetch(source, subset=subset, folder=path), file=source)


def _folder_tables(folder: Path, *, source: str, subset: str | None) -> dict[str, Table]:
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
    return {split: _parquet_table(paths, file=f"{source}:{split}") for split, paths in files.items()}


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
        raise DataError(f"Hugging Face data needs {name}; install it with: pip install 'sightline[train]'") from None


def _load_saved(path: Path) -> Any:
    datasets = _import("datasets")
    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a damaged folder makes it raise
        raise DataError(f"{path}: cannot be read as a saved dataset ({error})") from error


def _fetch(source: str, *, subset: str | None, folder: Path) -> Any:
    datasets = _import("datasets")
    try:
        return datasets.load_dataset(source, subset)
    except Exception as error:  # hub, network and format errors share no class
        which = f"{source} (subset {subset})" if subset else source
        raise MissingDataError(
            f"{which}: no such folder, and it could not be fetched ({type(error).__name__}: {error}); "
            f"download https://huggingface.co/datasets/{source} and put its parquet files into {folder}"
        ) from error

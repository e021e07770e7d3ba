"""Data sets from the Hugging Face hub: fetched once, at one commit, and read from this machine ever after.

A name means the commit that this machine took first (of a data set in `releases`, the commit named there), so that a
study that is resumed finds its rows unchanged. `owner/name@COMMIT` names another.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.archives import SUFFIXES as ARCHIVES
from sightline.data.cards import CARD, declared_patterns, licence_in, patterns_of_others, read_card
from sightline.data.release import Release, size_in_words
from sightline.data.releases import release_of, release_on_hub
from sightline.data.rows import TEXT_SUFFIXES
from sightline.errors import DataError, MissingDataError, install_advice
from sightline.storage import canonical_json, sha256_of, write_file

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A data set of the hub on this machine.

    Args:
        name: owner/name.
        commit: what was taken, 40 hexadecimal digits.
        folder: where its files lie, as the hub has them.
    """

    name: str
    commit: str
    folder: Path

    @property
    def pinned(self) -> str:
        """The source as a study names it to get the very same rows anywhere: owner/name@COMMIT."""
        return f"{self.name}@{self.commit}"


def is_name(source: str) -> bool:
    """Tell whether a source can be the name of a dataset on the hub: owner/name or owner/name@COMMIT.

    What ends as files of rows do is a file, and its name is nobody else's business.
    """
    is_file = source.lower().endswith((*TEXT_SUFFIXES, ".parquet", *ARCHIVES))
    return _NAME.fullmatch(source) is not None and not is_file


def fetch(source: str, *, subset: str | None = None) -> Fetched:
    """Fetch what a study needs of a dataset, or find it where it was fetched before; then no network is needed.

    Args:
        source: owner/name, or owner/name@COMMIT.
        subset: which part; files of other parts are left on the hub where the dataset says which they are.

    Returns:
        The dataset on this machine.

    Raises:
        MissingDataError: it cannot be had; says what to fetch by hand, and where to put it.
        DataError: a subset must be chosen, or the disk is too small.
    """
    name, _, revision = source.partition("@")
    release = release_on_hub(name)
    if release and release.subsets and subset not in release.subsets:
        raise DataError(f"{name}: choose a `subset`; there are {', '.join(release.subsets)}")
    try:
        commit = _commit_of(name, revision or (release.revision if release else None) or "main")
        fetched = Fetched(name=name, commit=commit, folder=_place(name) / commit)
        record = _record(name, commit, subset)
        if not _is_whole(record, fetched.folder):
            _download(fetched, record, release=release, subset=subset)
        return fetched
    except DataError:
        raise
    except Exception as error:  # hub, network and disk errors share no class
        reason = str(error).strip().splitlines()
        raise MissingDataError(
            f"{source}: no such folder here, and it could not be fetched ({type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'}). It is fetched when this is run again with a network; what "
            f"has arrived is kept. By hand: {by_hand(source)}"
        ) from error


def by_hand(source: str) -> str:
    """Say what to fetch by hand of a dataset of the hub, and where to put it."""
    name = source.partition("@")[0]
    meant = release_of(name)
    return (
        meant.to_fetch()
        if meant
        else f"download https://huggingface.co/datasets/{name} and let `source` name its folder"
    )


def is_fetched(source: str, *, subset: str | None = None) -> bool:
    """Tell whether what a study needs of a dataset of the hub is on this machine; see `fetch`."""
    name, _, commit = pinned(source).partition("@")
    return bool(_COMMIT.fullmatch(commit)) and _is_whole(_record(name, commit, subset), _place(name) / commit)


def licence_of(source: str, *, format: str | None = None, root: Path | None = None) -> str | None:
    """Tell the licence of a data set, without network.

    Args:
        source: as a study names it.
        format: as a study names it.
        root: where relative paths start from.

    Returns:
        What is known of a published set; else what the card in its folder, or of what was fetched, names; else None.
    """
    if (release := release_on_hub(source)) and release.licence:
        return release.licence
    path = (root or Path()) / source
    if path.exists():
        meant = release_of(source, format)
        return licence_in(read_card(path if path.is_dir() else path.parent)) or (meant.licence if meant else None)
    try:
        commit = pinned(source).partition("@")[2] if is_name(source) else ""
        return licence_in(read_card(_place(source.partition("@")[0]) / commit)) if commit else None
    except DataError:  # nothing can have been fetched without the packages that fetch
        return None


def pinned(source: str) -> str:
    """Give a source with the commit that is taken for it, once it has been fetched; any other source as it is."""
    name, _, revision = source.partition("@")
    if not is_name(source) or _COMMIT.fullmatch(revision):
        return source
    release = release_on_hub(name)
    commit = release.revision if release and not revision else None
    commit = commit or _noted_commit(name, revision or "main")
    return f"{name}@{commit}" if commit else source


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise DataError(f"data of the hub needs huggingface_hub; {install_advice('train')}") from None


def _place(name: str) -> Path:
    """Give the folder that holds all that was fetched of a dataset, in the place the hub's library keeps for others."""
    return _hub().cached_assets_path("sightline", namespace="datasets", subfolder=name.replace("/", "--"))


def _record(name: str, commit: str, subset: str | None) -> Path:
    """Give the file that lists what was fetched of a part of a dataset."""
    return _place(name) / f"{commit}-{sha256_of(subset or '')[:8]}.json"


def _commit_of(name: str, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    if noted := _noted_commit(name, revision):
        return noted
    commit = str(_api().dataset_info(name, revision=revision).sha)
    write_file(_note(name, revision), f"{commit}\n")
    return commit


def _noted_commit(name: str, revision: str) -> str | None:
    try:
        commit = _note(name, revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _note(name: str, revision: str) -> Path:
    return _place(name) / f"{revision.replace('/', '--')}.commit"


def _api() -> Any:
    return _hub().HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="sightline")


def _is_whole(record: Path, folder: Path) -> bool:
    try:
        sizes = json.loads(record.read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _download(fetched: Fetched, record: Path, *, release: Release | None, subset: str | None) -> None:
    api = _api()
    tree = api.list_repo_tree(fetched.name, repo_type="dataset", revision=fetched.commit, recursive=True)
    sizes = {entry.path: entry.size for entry in tree if hasattr(entry, "size")}
    if escaping := next((name for name in sizes if name.startswith("/") or ".." in name.split("/")), None):
        raise DataError(f"{fetched.name}: the file {escaping!r} leads out of the folder; nothing was fetched")
    options = {"repo_type": "dataset", "revision": fetched.commit, "local_dir": fetched.folder}
    if CARD in sizes:
        api.hf_hub_download(fetched.name, CARD, **options)
    if release and release.wanted:
        wanted = choose_files(sizes, [pattern.replace("{subset}", subset or "*") for pattern in release.wanted])
    else:
        wanted = choose_part(sizes, read_card(fetched.folder), subset, where=fetched.name)
    if not wanted:
        raise DataError(f"{fetched.pinned}: nothing of what is wanted is there; it holds {', '.join(list(sizes)[:10])}")
    _refuse_full_disk(fetched, wanted)
    for name, size in wanted.items():  # the client takes a file that it fetched once for whole, whatever became of it
        if (fetched.folder / name).is_file() and (fetched.folder / name).stat().st_size != size:
            (fetched.folder / name).unlink()
    # A name in brackets would be read as a pattern.
    names = [re.sub(r"([\[*?])", r"[\1]", name) for name in wanted]
    api.snapshot_download(fetched.name, allow_patterns=names, **options)
    write_file(record, canonical_json(wanted))
    if not _is_whole(record, fetched.folder):
        record.unlink()
        raise OSError(f"files in {fetched.folder} are not as the hub has them")


def choose_part(sizes: Mapping[str, int], card: Mapping[str, Any], subset: str | None, *, where: str) -> dict[str, int]:
    """Choose the files that a part of an unknown dataset needs.

    Args:
        sizes: every file's size in bytes.
        card: the head of its card.
        subset: which part.
        where: the dataset, for messages.

    Returns:
        What the card declares for the part; where that is rows of text, their pictures are elsewhere and everything
        is taken that is not another part's. Without such a card the folder of the part's name, else everything.
    """
    declared = declared_patterns(card, subset, where=where)
    if not declared:
        is_folder = subset and any(name.startswith(f"{subset}/") for name in sizes)
        return choose_files(sizes, [f"{subset}/*" if is_folder else "*"])
    patterns = [pattern for ones in declared.values() for pattern in ones]
    wanted = choose_files(sizes, patterns)
    if not any(name.endswith(TEXT_SUFFIXES) for name in wanted):
        return wanted
    others = choose_files(sizes, patterns_of_others(card, patterns)).keys() - wanted.keys()
    return {name: size for name, size in sizes.items() if name not in others}


def choose_files(sizes: Mapping[str, int], patterns: Iterable[str]) -> dict[str, int]:
    """Choose the files of a dataset that patterns name, its card always among them.

    Args:
        sizes: every file's size in bytes.
        patterns: as a card writes them; `*` spans folders.

    Returns:
        The chosen files with their sizes; empty when the patterns name none.
    """
    found = {name for pattern in patterns for name in fnmatch.filter(sizes, pattern)}
    return {name: size for name, size in sizes.items() if name in found or name == CARD} if found - {CARD} else {}


def _refuse_full_disk(fetched: Fetched, wanted: Mapping[str, int]) -> None:
    there = sum(size for name, size in wanted.items() if (fetched.folder / name).is_file())
    needed = sum(wanted.values()) - there
    free = shutil.disk_usage(fetched.folder.parent).free
    if needed > free:
        raise DataError(
            f"{fetched.name}: {size_in_words(needed)} are to be fetched and {size_in_words(free)} are free in "
            f"{fetched.folder.parent}; make room, or set HF_HOME to a larger disk"
        )

"""Every published data set that is known by name: one table for messages, fetching, licences and docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sightline.data import coco, ha_dpo, path_vqa, pope, pubmedvision, shr, slake, vqa_med, vqa_rad
from sightline.data.release import Release, size_in_words

RELEASES: tuple[Release, ...] = (
    vqa_rad.RELEASE,
    vqa_rad.HUB_COPY,
    path_vqa.RELEASE,
    slake.RELEASE,
    vqa_med.RELEASE,
    pubmedvision.RELEASE,
    pope.RELEASE,
    shr.RELEASE,
    ha_dpo.RELEASE,
    coco.RELEASE,
    Release(
        title="LLaVA-OneVision's data",
        format="llava",
        address="https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data",
        files="the parquet files of one subset, such as lrv_chart",
        layout=("lrv_chart/train-00000-of-00001.parquet    (id, image, conversations, data_source)",),
        num_bytes=None,
        licence="Apache-2.0",
        hub="lmms-lab/LLaVA-OneVision-Data",
    ),
    Release(
        title="medical-vision-llm-dataset",
        format="huggingface",
        address="https://huggingface.co/datasets/robailleo/medical-vision-llm-dataset",
        files="the parquet files",
        layout=("data/train-....parquet    (image, question, answer)", "data/validation-....parquet"),
        num_bytes=None,
        licence=None,
        hub="robailleo/medical-vision-llm-dataset",
    ),
    Release(
        title="medical-imaging-combined",
        format="huggingface",
        address="https://huggingface.co/datasets/alvinl29/medical-imaging-combined",
        files="the parquet files",
        layout=("data/....parquet    (name its columns under `columns`)",),
        num_bytes=None,
        licence=None,
        hub="alvinl29/medical-imaging-combined",
    ),
)
"""The releases, those of one set together."""


START = "<!-- releases: made by `python -m sightline.data.releases docs/formats.md`, not by hand -->"
END = "<!-- end of releases -->"


def release_on_hub(name: str) -> Release | None:
    """Find the release that is on the hub under just this name (owner/name, with or without a commit)."""
    name = name.partition("@")[0].casefold()
    return next((release for release in RELEASES if release.hub and release.hub.casefold() == name), None)


def release_of(source: str, format: str | None = None) -> Release | None:
    """Guess which release a study's source was meant to be, for messages.

    Args:
        source: a name on the hub, or a path.
        format: the format the study names, if it does.

    Returns:
        The release of that name on the hub; else of that format; else the one whose format is what the path's last
        part is called ("PathVQA", "path-vqa"); else None.
    """
    if on_hub := release_on_hub(source):
        return on_hub
    called = _letters(source.partition("@")[0].rstrip("/").rpartition("/")[2])
    sets = [release for release in RELEASES if release.format not in ("huggingface", "llava")]
    return next(
        (one for one in sets if one.format == format or (format is None and _letters(one.format) == called)), None
    )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def as_table() -> str:
    """Write the releases as a table in Markdown."""
    lines = ["| data set | `format` | from | commit | download | licence |", "|---|---|---|---|---|---|"]
    for release in RELEASES:
        address = f"`{release.hub}` on the hub" if release.hub else f"<{release.address}>"
        commit = f"`{release.revision[:7]}`" if release.revision else "the first one taken" if release.hub else ""
        licence = release.licence or "look it up there"
        size = size_in_words(release.num_bytes)
        lines.append(f"| {release.title} | `{release.format}` | {address} | {commit} | {size} | {licence} |")
    return "\n".join(lines)


def updated(page: str) -> str:
    """Put the table between a page's markers."""
    before, _, rest = page.partition(START)
    return f"{before}{START}\n\n{as_table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    page_path = Path(sys.argv[1])
    page_path.write_text(updated(page_path.read_text(encoding="utf-8")), encoding="utf-8")

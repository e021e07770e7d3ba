"""Does the picture matter? What each model loses without its pictures, on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.axes import Scale, scale_about_zero
from sightline.report.reading import Row
from sightline.report.verdicts import rest_of_sentence
from sightline.report.wording import change, unit_name
from sightline.verdict.pictures_matter import HARDLY, MATTERS, STAND_INS, WITHOUT

HEIGHTS = {"blank": 22, "other": 54}
"""Pixels from a strip's top to each stand-in's line."""

_TONES: Mapping[str, str] = {MATTERS: "good", HARDLY: "plain", WITHOUT: "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """One model on one set.

    Args:
        model: its name.
        verdict: in words.
        tone: "good" where it looks, "bad" where it does not, "plain" where that is not clear.
        sentence: the rest of the verdict's sentence.
        strip: both costs with their intervals, as a drawing.
        costs: the same for those who cannot see the drawing.
        beside: what other metrics show.
    """

    model: str
    verdict: str
    tone: str
    sentence: str
    strip: Markup
    costs: str
    beside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """All models on one set.

    Args:
        data: its name.
        sentence: what is known of the set.
        views: one per model.
        axis: the axis's drawing.
        unit: of the axis.
    """

    data: str
    sentence: str
    views: tuple[PictureView, ...]
    axis: Markup
    unit: str


def picture_sets(recorded: Row | None) -> tuple[PictureSet, ...]:
    """Prepare pictures_matter.json for reading, set by set.

    Args:
        recorded: its content; None where the study did not ask.
    """
    sets = []
    for place in (recorded or {}).get("sets") or ():
        entries = [entry for entry in (recorded or {})["models"] if entry["data"] == place["data"]]
        metrics = [entry["metrics"][entry["metric"]] for entry in entries]
        unit = metrics[0]["unit"]
        factor = 100 if unit == "rate" else 1
        shown = scale_about_zero([factor * end for metric in metrics for end in _drawn(metric)])
        scale = Scale(shown.low / factor, shown.high / factor, shown.step / factor)
        sets.append(
            PictureSet(
                data=place["data"],
                sentence=place["sentence"],
                views=tuple(_view(entry, scale) for entry in entries),
                axis=drawing.axis(shown, signed=True),
                unit=unit_name(unit, of_change=True),
            )
        )
    return tuple(sets)


def _drawn(metric: Mapping[str, Any]) -> Sequence[float]:
    gains = list(metric["gains"].values())
    return [gain["gain"] for gain in gains if gain["gain"] is not None] + [
        e for g in gains for e in g["interval"] or ()
    ]


def _view(entry: Mapping[str, Any], scale: Scale) -> PictureView:
    metric, tone = entry["metrics"][entry["metric"]], _TONES.get(entry["verdict"], "plain")
    strip, costs = drawing.grid(scale, zero=True), []
    for name, words in STAND_INS.items():
        gain = metric["gains"][name]
        y = HEIGHTS[name]
        strip += drawing.label_text(0, y - 9, words)
        strip += drawing.whisker(scale, gain["gain"], gain["interval"], tone=tone, y=y)
        costs.append(f"{words} costs {change(gain['gain'], metric['unit'])}")
    return PictureView(
        model=entry["model"],
        verdict=entry["verdict"],
        tone=tone,
        sentence=rest_of_sentence(entry["verdict"], entry["sentence"]),
        strip=strip,
        costs=", ".join(costs),
        beside=entry["beside"],
    )

"""The report's figures as SVG and PNG, for papers and slides: drawn by Matplotlib, in the page's colours.

Why not the page's own drawings: design/report.md.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.report.axes import spread
from sightline.report.calibration import Calibration
from sightline.report.content import Content
from sightline.report.costs import Trade
from sightline.report.curves import Kind, Training
from sightline.report.metric_facts import metric_facts
from sightline.report.reading import Row
from sightline.report.verdicts import tone_of
from sightline.report.wording import clean, level, shortened, unit_name
from sightline.verdict.sentences import model_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, ACCENT, WARN, BAND = "#161b22", "#59636e", "#dde2e7", "#0b5cad", "#a8470b", "#eceff3"
"""Those of figures.css, in the light; blue and orange differ for every kind of colour blindness, and in lightness."""

MAKER = "Matplotlib {}"
"""What a figure's file says it was made by: another version may draw the same numbers with other bytes."""

_WIDTH = 7.2
_DOTS_PER_INCH = 200
_LONGEST_LABEL = 44
_TONES: Mapping[str, tuple[str, str, str]] = {
    "good": (ACCENT, "o", ACCENT),
    "bad": (WARN, "D", WARN),
    "plain": (INK, "o", "white"),
}
"""Colour, marker and fill: what the colour says, the shape says too."""

_LINES: Mapping[Kind, Mapping[str, Any]] = {
    "train": {"color": MUTED, "linewidth": 1.0},
    "validation": {"color": ACCENT, "linewidth": 1.6, "marker": "o", "markersize": 3},
    "chosen": {"color": ACCENT, "linewidth": 1.3},
    "rejected": {"color": WARN, "linewidth": 1.3, "linestyle": (0, (4, 2))},
}


def figure_files(content: Content) -> Mapping[str, bytes]:
    """Draw a study's figures, each as SVG and as PNG; the same values give the same bytes.

    Args:
        content: of the study.

    Returns:
        File name to content: the stated questions, each metric, each training, and what else there is.
    """
    files: dict[str, bytes] = {}
    for name, draw in _figures(content):
        files |= _written(file_stem(name, files), draw)
    return files


def _figures(content: Content) -> Iterator[tuple[str, Callable[[], Figure]]]:
    compare = content.files.compare
    if compare.get("stated"):
        yield "stated", functools.partial(_stated, compare)
    for table in content.results:
        place = (table.data, table.template)
        arms = [arm for arm in compare["arms"] if (arm["data"], arm.get("template") or "plain") == place]
        for panel in table.panels:
            name = f"metric-{panel.metric}-{table.data}-{table.template}"
            yield name, functools.partial(_metric, compare, arms, panel.metric, f"{table.data}: {table.asked}")
    for one in content.training:
        yield f"training-{one.model}", functools.partial(_training, one)
    for trade in content.trades:
        yield f"quality-against-{trade.name}", functools.partial(_trade, trade)
    for one in content.calibrations:
        name = f"calibration-{one.metric}-{one.data}-{one.template}-{one.model}"
        yield name, functools.partial(_calibration, one)


def _written(stem: str, draw: Callable[[], Figure]) -> dict[str, bytes]:
    import matplotlib

    maker = MAKER.format(matplotlib.__version__)
    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",  # which Matplotlib brings along: the same on every machine
        "font.size": 8,
        "text.parse_math": False,  # a dollar in a model's name is a dollar
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "svg.hashsalt": stem,  # else ids are random
        "svg.fonttype": "path",
        "path.simplify": False,
    }
    with matplotlib.rc_context(style):
        figure = draw()
        files = {}
        kinds: dict[str, dict[str, Any]] = {
            "svg": {"metadata": {"Creator": maker, "Date": None}},
            "png": {"metadata": {"Software": maker}, "dpi": _DOTS_PER_INCH, "pil_kwargs": {"compress_level": 3}},
        }
        for kind, options in kinds.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, facecolor="white", **options)
            files[f"{stem}.{kind}"] = content.getvalue()
    return files


def _new(
    heights: Sequence[float], *, left: float, right: float = 0.15, gap: float = 0.0, top: float = 0.3, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of axes one under the other; all sizes in inches.

    Room for names is told, not found out: to find out, Matplotlib draws everything twice.
    """
    from matplotlib.figure import Figure

    bottom = 0.5
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(_WIDTH, total))
    axes, y = [], total - top
    for height in heights:
        y -= height
        box = (left / _WIDTH, y / total, (_WIDTH - left - right) / _WIDTH, height / total)
        axes.append(figure.add_axes(box, **options))
        y -= gap
    return figure, axes


def _room(names: Sequence[str]) -> float:
    """Inches that names of rows need."""
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    return min(0.55 * _WIDTH, 0.25 + 0.068 * longest)


def _stated(compare: Row) -> Figure:
    groups: dict[tuple[str, str], list[Row]] = {}
    for entry in compare["stated"]:
        facts = metric_facts(compare, entry["metric"])
        groups.setdefault((facts.unit, facts.direction), []).append(entry)
    named = [[_asked(compare, entry) for entry in entries] for entries in groups.values()]
    left = _room([name for names in named for name in names])
    figure, axes = _new([0.5 * len(names) for names in named], left=left, gap=0.7, top=0.15)
    for axis, names, ((unit, direction), entries) in zip(axes, named, groups.items(), strict=True):
        factor = 100 if unit == "rate" else 1
        for place, entry in enumerate(entries):
            if entry.get("difference") is None:
                continue
            if entry.get("detectable") is not None:
                wide = factor * entry["detectable"]
                axis.fill_between([-wide, wide], place - 0.3, place + 0.3, color=BAND, linewidth=0)
            _whisker(axis, place, entry["difference"], entry.get("interval"), factor, tone_of(entry["verdict"]))
        axis.axvline(0, color=MUTED, linewidth=0.8)
        _rows(axis, names)
        axis.set_xlabel(f"difference in {unit_name(unit, of_change=True)}; {direction}")
        most = max(map(abs, axis.get_xlim()))
        axis.set_xlim(-most, most)
    return figure


def _asked(compare: Row, entry: Row) -> str:
    names = f"{model_in_words(entry['model'])} against {model_in_words(entry['against'])}"
    return f"{_text(names)}\n{_text(metric_facts(compare, entry['metric']).title + ': ' + entry['verdict'])}"


def _metric(compare: Row, arms: Sequence[Row], metric: str, asked: str) -> Figure:
    arms = [arm for arm in arms if metric in arm["metrics"]]
    facts = metric_facts(compare, metric)
    unit = facts.unit
    factor = 100 if unit == "rate" else 1
    values = [level(arm["metrics"][metric].get("value"), unit) for arm in arms]
    names = [f"{_text(model_in_words(arm['model']))}   {value}" for arm, value in zip(arms, values, strict=True)]
    figure, (axis,) = _new([0.26 * len(arms)], left=_room(names))
    for place, arm in enumerate(arms):
        value = arm["metrics"][metric]
        if value.get("value") is not None:
            _whisker(axis, place, value["value"], value.get("interval"), factor, "level")
    for baseline in compare.get("baselines") or ():
        if (baseline["data"], baseline["metric"]) == (arms[0]["data"], metric) and baseline.get("value") is not None:
            always = _text(f"always “{shortened(str(baseline['answer']), 20)}”")
            axis.axvline(factor * baseline["value"], color=MUTED, linewidth=1, linestyle=":", label=always)
            axis.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
    _rows(axis, names)
    figure.text(0.02, 1 - 0.16 / figure.get_figheight(), _text(asked), fontsize=7, color=MUTED)
    axis.set_xlabel(f"{_text(facts.title)} ({unit_name(unit, of_change=False)}); {facts.direction}")
    return figure


def _whisker(
    axis: Axes, place: float, value: float, ends: Sequence[float | None] | None, factor: float, tone: str
) -> None:
    color, marker, fill = _TONES.get(tone, (INK, "o", INK))
    if ends and None not in ends:
        axis.plot([factor * float(end) for end in ends if end is not None], [place, place], color=color, linewidth=1.4)
        axis.plot(
            [factor * float(end) for end in ends if end is not None], [place, place], "|", color=color, markersize=6
        )
    axis.plot([factor * value], [place], marker, color=color, markerfacecolor=fill, markersize=5)


def _rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")


def _training(training: Training) -> Figure:
    heights = [2.0 if panel.is_tall else 0.75 for panel in training.panels]
    figure, axes = _new(heights, left=0.65, gap=0.35, top=0.55)
    for axis, panel in zip(axes, training.panels, strict=True):
        for line in panel.lines:
            steps, values = zip(*line.points, strict=True)
            axis.plot(steps, values, label=_text(line.name) or None, clip_on=False, **_LINES[line.kind])
        axis.set(xlim=(0, training.num_steps), ylim=(panel.scale.low, panel.scale.high))
        axis.set_yticks(
            panel.scale.ticks if panel.is_tall else panel.scale.ticks[:: max(1, len(panel.scale.ticks) // 2)]
        )
        axis.tick_params(labelbottom=axis is axes[-1])
        axis.set_title(_text(panel.title), loc="left", fontsize=8, color=MUTED)
        axis.grid(axis="y")
        for step in training.stages:
            axis.axvline(step, color=MUTED, linewidth=0.8)
        if any(line.name for line in panel.lines):
            axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=7, borderaxespad=0.2)
    axes[-1].set_xlabel("optimizer step")
    figure.text(0.02, 1 - 0.18 / figure.get_figheight(), _text(f"{training.model}: {training.summary}"), fontsize=8)
    return figure


def _trade(trade: Trade) -> Figure:
    figure, (axis,) = _new([3.2], left=0.65, right=_room([spot.model for spot in trade.spots]))
    shares = [trade.y.share(spot.y) for spot in trade.spots]
    for spot, share in zip(trade.spots, spread(shares, 0.05, 0.0, 1.0), strict=True):
        if spot.low is not None and spot.high is not None:
            axis.plot([spot.x, spot.x], [spot.low, spot.high], color=INK, linewidth=1.2)
        axis.plot([spot.x], [spot.y], "o", color=INK, markersize=4)
        leader = {"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "relpos": (0, 0.5)}
        place = {"xytext": (1.03, share), "textcoords": "axes fraction", "va": "center", "annotation_clip": False}
        axis.annotate(_text(spot.model), (spot.x, spot.y), arrowprops=leader, **place)
    axis.set(xlim=(trade.x.low, trade.x.high), ylim=(trade.y.low, trade.y.high))
    axis.grid(axis="both")
    axis.set_xlabel(_text(trade.x_title))
    axis.set_ylabel(_text(trade.y_title))
    return figure


def _calibration(found: Calibration) -> Figure:
    figure, (axis,) = _new([3.6], left=1.8, right=1.8)
    axis.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1, label="as sure as right")
    sure, right = [100 * one.confidence for one in found.bins], [100 * one.right for one in found.bins]
    axis.plot(sure, right, "o-", color=ACCENT, linewidth=1.6, markersize=4, label=_text(found.model))
    axis.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence (%)", ylabel="right answers (%)", aspect="equal")
    axis.grid(axis="both")
    axis.legend(loc="upper left", fontsize=7)
    return figure


def _text(text: str) -> str:
    """Make a text one that the font can draw: what it has no letter for stands as its number."""
    line = " ".join(clean(shortened(text, _LONGEST_LABEL * 3)).split())
    known = _letters()
    return "".join(letter if ord(letter) in known else f"⟨U+{ord(letter):04X}⟩" for letter in line)


@functools.cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def file_stem(name: str, taken: Mapping[str, bytes]) -> str:
    """Name a file without its ending: no sign that a system minds, and not the name of another."""
    stem = re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-.")[:150]
    while f"{stem}.svg" in taken:
        stem += "-too"
    return stem


def maker_of(figure: bytes) -> str:
    """Read what a figure's file says it was made by; "" where it says nothing of it."""
    found = re.search(MAKER.format(r"[\w.]+").encode(), figure[:4_000])
    return found.group().decode() if found else ""

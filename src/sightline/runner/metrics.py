"""The metrics of a study: built-in ones, a user's own functions, and its judges, each under its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sightline.errors import StudyError
from sightline.scoring.critic import critic_kind, pairwise_kind
from sightline.scoring.judge import Kind, judge_metric
from sightline.scoring.medical import medical_kind
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import METRICS, metric_named
from sightline.scoring.rubric import load_rubric, rubric_kind
from sightline.scoring.shr_judge import shr_kind
from sightline.storage import canonical_json, sha256_of
from sightline.study import Judge, Study
from sightline.verdict.compare import refuse_points


def metrics_of(study: Study) -> list[Metric]:
    """Find all of a study's metrics, in its order.

    Raises:
        StudyError: no such metric, file or function; a name that stands for two things; a margin in another unit.
        MissingDataError: a judge's rubric is missing.
    """
    metrics = {name: metric_of(study, name) for name in study.evaluate.metrics}
    for question in study.compare:
        if (metric := metrics.get(question.by or study.evaluate.metrics[0])) is not None:
            refuse_points(question.margin, metric, question.model, question.against)
    return list(metrics.values())


def metric_of(study: Study, name: str) -> Metric:
    """Find one metric by the name that the study gives it; raises as `metrics_of`."""
    if name not in study.judges:
        try:
            return metric_named(name, study.folder)
        except StudyError as error:
            raise StudyError(f"evaluate.metrics: {error}" if name in study.evaluate.metrics else str(error)) from None
    if name in METRICS:
        raise StudyError(f"judges.{name}: a metric has this name already; call the judge something else")
    return metric_of_judge(name, study.judges[name], study.folder)


def plain_metrics(study: Study) -> list[Metric]:
    """Find the metrics that need no judge: they come from the answers, or (nll) from the model."""
    return [metric_of(study, name) for name in study.evaluate.metrics if name not in study.judges]


def judges_asked(study: Study) -> dict[str, Judge]:
    """Name the judges that are among the study's metrics, in their order; others are asked nothing."""
    return {name: study.judges[name] for name in study.evaluate.metrics if name in study.judges}


def metric_of_judge(name: str, judge: Judge, folder: Path) -> Metric:
    """Make the metric that a judge of a study is; raises as `kind_of`."""
    return judge_metric(name, kind_of(judge, folder))


def kind_of(judge: Judge, folder: Path) -> Kind:
    """Make what a judge of a study is asked.

    Args:
        judge: its block.
        folder: the study file's folder, where a rubric's path starts.

    Raises:
        SightlineError: the rubric is missing or faulty.
    """
    if judge.kind == "medical":
        return medical_kind(judge.parser)
    if judge.kind == "critic":
        return critic_kind(judge.parser)
    if judge.kind == "pairwise":
        return pairwise_kind()
    if judge.kind == "shr":
        return shr_kind(judge.parser)
    rubric = load_rubric(folder / judge.rubric if judge.rubric else None)
    # A local judge sees pictures: they stay on the machine.
    return rubric_kind(rubric, shows_pictures=judge.send_images or judge.base is not None)


def judge_origin(name: str, judge: Judge, folder: Path) -> dict[str, str]:
    """Say what a judge's scores are made from, for manifests: who, which prompt, how read; nothing of how fast."""
    kind = kind_of(judge, folder)
    how_fast = {"concurrency", "requests_per_minute", "tokens_per_minute", "timeout_seconds", "tries", "audit_rows"}
    how_fast |= {"input_price", "output_price", "key_env"}
    asked = judge.model_dump(mode="json", exclude=how_fast)
    return {f"judge/{name}": sha256_of(canonical_json([asked, kind.prompt_sha256]))}


def metric_origins(metrics: Iterable[Metric], folder: Path) -> dict[str, str]:
    """Name metrics, and hash the files of the user's own, so that a changed one scores again."""
    names = [metric.name for metric in metrics]
    own = {name: sha256_of(folder / name.rpartition(":")[0]) for name in names if ":" in name}
    return {f"metric/{name}": sha256 for name, sha256 in own.items()} | {"metrics": ", ".join(names)}

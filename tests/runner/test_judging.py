"""A study's judges: asked about a model's answers, recorded with everything that belongs to a number, compared."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer, prompt_of, serve_judge
from judged_rows import opinion
from sightline.data.phantom import phantom_samples
from sightline.errors import MissingDataError, StudyError
from sightline.generation import retries
from sightline.models.llava import Llava
from sightline.models.loading import base_location
from sightline.records import Answer, Sample, Score, to_json
from sightline.runner.display import Display
from sightline.runner.judges import judge_families
from sightline.runner.judging import (
    Part,
    audit,
    forget_others,
    judge_model,
    local_identity,
    open_judge,
    rival_answers,
)
from sightline.runner.make import Shelf
from sightline.runner.metrics import judge_origin, metric_of_judge
from sightline.runner.prepare import Prepared
from sightline.scoring.agreement import compare_judges
from sightline.scoring.judge import Asked
from sightline.storage import json_line, read_jsonl
from sightline.study import Judge, load_study, plan_study

SAMPLES = {sample.id: sample for sample in phantom_samples(6, seed=2) if len(sample.pictures) == 1}
QUIET = Display(quiet=True)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serve_judge(JudgeServer(judge=opinion)) as server:
        yield server


def opened(out: Path, name: str = "judge", **settings: Any) -> Any:
    return open_judge(name, Judge(**settings), folder=out, out=out)


def part_of(model: str, samples: Mapping[str, Sample] = SAMPLES) -> Part:
    answers = [
        Answer(sample_id=id, model=model, data="set.test", text=f"{model} {id}", finish_reason="stop", num_tokens=3)
        for id in samples
    ]
    return Part(data="set.test", template="plain", samples=samples, answers=answers)


def test_scores_words_and_record_are_written(tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", "sentinel-key")
    settings: dict[str, Any] = {"kind": "medical", "server": server.address, "model": "judge", "key_env": "JUDGE_KEY"}
    settings |= {"input_price": 1.0, "output_price": 2.0, "max_new_tokens": 99}
    with opened(tmp_path, **settings) as judge:
        assert judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET) == 0
    scores = read_jsonl(tmp_path / "scores/base/judge.jsonl")
    assert [row["sample_id"] for row in scores] == list(SAMPLES)
    assert {(row["metric"], row["outcome"], row["data"], row["template"]) for row in scores} == {
        ("judge", "scored", "set.test", "plain")
    }
    words = read_jsonl(tmp_path / "judges/judge/base.jsonl")
    assert (
        words[0]["replies"][0].startswith("Here is what I think")
        and words[0]["opinion"]["label"] == scores[0]["parsed"]
    )
    record = json.loads((tmp_path / "judges/judge/record.json").read_text())
    kind = metric_of_judge("judge", Judge(**settings), tmp_path)
    assert (kind.name, kind.kind) == ("judge", "mean")
    assert record["asked"] == {"server": server.address, "model": "judge"}
    assert (record["answered_by"], record["parser"]) == (["judge-2026-11"], "sightline")
    assert record["decoding"]["max_new_tokens"] == server.bodies[0]["max_completion_tokens"] == 99
    assert record["num_held_to_schema"] == len(SAMPLES) and len(record["prompt_sha256"]) == 16
    counts = record["models"]["base"]
    assert (counts["num_judged"], counts["num_unreadable"], counts["num_failed"]) == (len(SAMPLES), 0, 0)
    assert counts["medical_table"]["total_responses"] == len(SAMPLES)
    assert record["spent"]["cost"] == pytest.approx(len(SAMPLES) * (100 + 2 * 10) / 1e6)
    everything = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "sentinel" not in everything
    assert all("image_url" not in json.dumps(body) for body in server.bodies)


def test_what_failed_alone_is_asked_again(tmp_path: Path, server: JudgeServer):
    settings: dict[str, Any] = {
        "kind": "medical",
        "server": server.address,
        "model": "judge",
        "tries": 1,
        "concurrency": 1,
    }
    server.statuses = [(200, {}), (500, {}), (400, {}), (200, {})]
    with opened(tmp_path, **settings) as judge:
        assert judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET) == 2
    outcomes = [row["outcome"] for row in read_jsonl(tmp_path / "scores/base/judge.jsonl")]
    assert outcomes.count("failed") == 2 and set(outcomes) == {"scored", "failed"}
    num_sent = len(server.bodies)
    with opened(tmp_path, **settings) as judge:
        assert judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET) == 0
    assert len(server.bodies) == num_sent + 2
    assert {row["outcome"] for row in read_jsonl(tmp_path / "scores/base/judge.jsonl")} == {"scored"}


def test_a_dead_judge_leaves_no_score(tmp_path: Path, server: JudgeServer):
    server.statuses = [(401, {"message": "who are you?"})]
    settings: dict[str, Any] = {"kind": "medical", "server": server.address, "model": "judge"}
    with opened(tmp_path, **settings) as judge, pytest.raises(retries.ServerDownError, match="unauthorised"):
        judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET)
    assert not (tmp_path / "scores").exists() and not (tmp_path / "judges/judge/record.json").exists()


def test_a_judge_that_dies_between_two_models_leaves_what_it_said_and_no_score(tmp_path: Path):
    settings: dict[str, Any] = {"kind": "medical", "model": "judge", "tries": 1}
    with (
        serve_judge(JudgeServer(judge=opinion)) as server,
        opened(tmp_path, **settings, server=server.address) as judge,
    ):
        judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET)
    few = dataclasses.replace(part_of("tuned"), answers=part_of("tuned").answers[:3])
    with opened(tmp_path, **settings, server=server.address) as judge:
        judge.responder.has_answered = True  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(retries.ServerDownError, match="not be reached by any of 3 calls"):
            judge_model("tuned", judge, [few], out=tmp_path, display=QUIET)
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["base"]
    assert list(json.loads((tmp_path / "judges/judge/record.json").read_text())["models"]) == ["base"]


def test_an_unreadable_reply_is_quoted_in_the_record(tmp_path: Path, server: JudgeServer):
    server.judge = lambda body: "I would rather not say. " * 50
    settings: dict[str, Any] = {"kind": "medical", "server": server.address, "model": "judge", "reasks": 0}
    with opened(tmp_path, **settings) as judge:
        judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET)
        path = tmp_path / "judges/judge/record.json"
        quoted = ("I would rather not say. " * 50)[:200]
        assert json.loads(path.read_text())["models"]["base"]["unreadable_reply"] == quoted
        forget_others(judge, ["base"])  # as a run does that goes on after this model
        assert json.loads(path.read_text())["models"]["base"]["unreadable_reply"] == quoted
        forget_others(judge, ["tuned"])
    assert json.loads(path.read_text())["models"] == {}


def test_a_pairwise_judge_compares_with_another_model_s_answers(tmp_path: Path, server: JudgeServer):
    server.judge = lambda body: (
        f"The {'first' if '[tuned' in prompt_of(body).partition('second')[0] else 'second'} response is better."
    )
    settings: dict[str, Any] = {"kind": "pairwise", "server": server.address, "model": "judge", "send_images": True}
    with opened(tmp_path, **settings) as judge:
        with pytest.raises(MissingDataError, match="no answers of base to compare with"):
            rival_answers(tmp_path, "base")
        (tmp_path / "answers").mkdir()
        lines = [json_line(to_json(answer)) for answer in part_of("base").answers]
        (tmp_path / "answers/base.jsonl").write_text("".join(lines))
        rivals = rival_answers(tmp_path, "base")
        for model in ("tuned", "base"):
            judge_model(model, judge, [part_of(model)], out=tmp_path, display=QUIET, rivals=rivals)
        with pytest.raises(MissingDataError, match=r"base has no answer to .* to compare tuned's with"):
            judge_model("tuned", judge, [part_of("tuned")], out=tmp_path, display=QUIET, rivals={})
    assert [row["value"] for row in read_jsonl(tmp_path / "scores/tuned/judge.jsonl")] == [1.0] * len(SAMPLES)
    assert [row["value"] for row in read_jsonl(tmp_path / "scores/base/judge.jsonl")] == [0.5] * len(SAMPLES)
    assert len(server.bodies) == 2 * len(SAMPLES), "both orders, and nothing about an answer and itself"
    with opened(tmp_path, "second", **settings, against="reference") as judge:
        judge_model("tuned", judge, [part_of("tuned")], out=tmp_path, display=QUIET)
    assert f"[{next(iter(SAMPLES.values())).answer}]" in prompt_of(server.bodies[2 * len(SAMPLES)])


def test_the_audit_stands_in_the_record(tmp_path: Path, server: JudgeServer):
    settings: dict[str, Any] = {"kind": "medical", "server": server.address, "model": "judge", "audit_rows": 4}
    with opened(tmp_path, **settings) as judge:
        judge_model("base", judge, [part_of("base")], out=tmp_path, display=QUIET)
        num_sent = len(server.bodies)
        asked = [Asked(sample=sample, text="liver") for sample in SAMPLES.values()]
        found = audit(judge, list(SAMPLES.values()), asked)
        num_asked = len(server.bodies) - num_sent
        assert audit(judge, list(SAMPLES.values()), asked) == found
        assert len(server.bodies) == num_sent + num_asked, "what was asked for the audit is kept, too"
    record = json.loads((tmp_path / "judges/judge/record.json").read_text())
    assert record["audit"] == json.loads(json.dumps(found)) and record["models"]["base"]["num_judged"] == len(SAMPLES)
    assert {"repeatability", "control: empty", "injection"} <= {finding["test"] for finding in found["findings"]}


def test_a_tiny_local_judge_is_asked_and_what_it_babbles_is_no_score(tmp_path: Path):
    text = "base: builtin:tiny\ndata: {source: builtin:phantom, images: 12}\nsteps: {}\n"
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    prepared = Prepared(study=study, plan=plan_study(study), sets={}, loaded={})
    samples = dict(list(SAMPLES.items())[:3])
    settings: dict[str, Any] = {"kind": "rubric", "base": "builtin:tiny", "max_new_tokens": 4, "reasks": 1}
    for shelf in (Shelf(prepared, tmp_path, "cpu"), Shelf(prepared, tmp_path, "cpu")):
        with open_judge("tiny", Judge(**settings), folder=tmp_path, out=tmp_path, shelf=shelf) as judge:
            assert judge.kind.shows_pictures
            judge_model("base", judge, [part_of("base", samples)], out=tmp_path, display=QUIET)
    assert not shelf.has_loaded, "nothing is asked twice, so no weights are needed"
    scores = read_jsonl(tmp_path / "scores/base/tiny.jsonl")
    assert {(row["outcome"], row["value"]) for row in scores} == {("failed", None)}
    record = json.loads((tmp_path / "judges/tiny/record.json").read_text())
    counts = {
        "num_judged": 0,
        "num_unreadable": 3,
        "num_failed": 0,
        "num_not_applicable": 0,
        "num_unanswered": 0,
        "num_replies": 6,
    }
    assert 0 < len(record["models"]["base"].pop("unreadable_reply")) <= 200
    assert record["models"]["base"] == counts
    assert record["asked"]["base"].startswith("builtin:tiny@") and record["asked"]["precision"] == "fp32"


def test_what_makes_scores_old_is_what_is_asked_and_of_whom(tmp_path: Path):
    settings: dict[str, Any] = {"kind": "rubric", "server": "http://localhost:1/v1", "model": "a"}
    origin = judge_origin("j", Judge(**settings), tmp_path)
    same: dict[str, Any] = {"concurrency": 3, "timeout_seconds": 9, "input_price": 3.0, "tries": 2, "key_env": "K"}
    for key, value in same.items():
        assert judge_origin("j", Judge(**settings, **{key: value}), tmp_path) == origin
    other: dict[str, Any] = {"temperature": 0.5, "reasks": 0, "send_images": True, "max_new_tokens": 5}
    for key, value in other.items():
        assert judge_origin("j", Judge(**settings, **{key: value}), tmp_path) != origin
    (tmp_path / "r.yaml").write_text("criteria: {right: is it}")
    own = judge_origin("j", Judge(**settings, rubric="r.yaml"), tmp_path)
    (tmp_path / "r.yaml").write_text("criteria: {right: is it so}")
    assert judge_origin("j", Judge(**settings, rubric="r.yaml"), tmp_path) != own != origin


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "critic"}, "needs exactly one of server and base"),
        ({"kind": "critic", "server": "http://x/v1"}, "kind critic shows its server pictures.*send_images: true"),
        ({"kind": "pairwise", "server": "http://x/v1"}, "kind pairwise shows its server pictures"),
        ({"kind": "medical", "server": "http://me:pw@x/v1"}, "holds a user name, a password or a query"),
        ({"kind": "medical", "server": "x"}, "not an address"),
        ({"kind": "medical", "base": "b", "rubric": "r.yaml"}, "rubric goes with kind: rubric, not with medical"),
        ({"kind": "medical", "base": "b", "parser": "first-number"}, "parser first-number is not one of kind medical"),
    ],
)
def test_blocks_that_make_no_judge_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Judge(**settings)


def test_a_judge_without_its_key_is_not_opened(tmp_path: Path):
    settings: dict[str, Any] = {"kind": "medical", "server": "http://x/v1", "key_env": "NO_SUCH_KEY"}
    for _ in range(2):  # and its ledger is free again
        with pytest.raises(StudyError, match="NO_SUCH_KEY holds no key"), opened(tmp_path, **settings):
            pass


def test_whether_the_conclusion_depends_on_the_judge():
    metrics = {name: metric_of_judge(name, Judge(kind="medical", base="b"), Path()) for name in ("a", "b")}
    metrics["s"] = metric_of_judge("s", Judge(kind="shr", base="b"), Path())

    def score(name: str, id: str, value: float | None, **fields: Any) -> Score:
        return Score(sample_id=id, metric=name, outcome="scored", value=value, **fields)

    half = {"hallucination": 1.0, "correct": 1.0}
    by_metric = {
        "a": [score("a", "1", 1.0), score("a", "2", 0.0)],
        "b": [score("b", "1", 1.0), dataclasses.replace(score("b", "2", None), outcome="failed")],
        "s": [score("s", "1", None, parts=half), score("s", "2", None, parts={"correct": 1.0})],
    }
    scores: Any = {("sft@0", "d", "plain"): by_metric, ("base", "d", "plain"): by_metric, ("sft@0", "e", "plain"): {}}
    place = {"model": "sft", "against": "base", "data": "d", "template": "plain"}
    entries = [
        {**place, "metric": "a", "verdict": "improved"},
        {**place, "metric": "b", "verdict": "no detectable difference"},
        {**place, "metric": "s", "verdict": "improved"},
        {**place, "metric": "exact_match", "verdict": "regressed"},
        {**place, "data": "e", "metric": "a", "verdict": "improved"},
    ]
    [row] = compare_judges(scores, metrics, entries)
    assert row["depends"] and row["verdicts"] == {"a": "improved", "b": "no detectable difference", "s": "improved"}
    assert row["num_answers"] == 4 and row["kappas"]["a, s"] == pytest.approx(0.0)


def test_a_judge_of_another_family_keeps_its_own_picture_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # No Qwen needs to be here: a LLaVA that knows no `min_pixels` judges a study whose steps set it.
    folder = tmp_path / "judge"
    shutil.copytree(base_location("builtin:tiny"), folder)
    text = "base: builtin:tiny\ndata: {source: builtin:phantom, images: 12}\nsteps: {sft: {pad_square: true}}\n"
    text += "judges: {other: {kind: rubric, base: ./judge}, same: {kind: rubric, base: builtin:tiny}}\n"
    text += "evaluate: {metrics: [exact_match, other, same]}\n"
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    families = judge_families(study, plan_study(study))
    assert families.keys() == {str(folder)}, "the study's own base is rendered for the judge as for everybody"
    monkeypatch.setattr(Llava, "picture_settings", ())
    with pytest.raises(StudyError, match="pad_square: pictures of"):
        Shelf(Prepared(study=study, plan=plan_study(study), sets={}, loaded={}), tmp_path, "cpu").family(str(folder))
    shelf = Shelf(Prepared(study=study, plan=plan_study(study), sets={}, loaded={}), tmp_path, "cpu", families)
    assert local_identity("./judge", shelf)["rendering"] == families[str(folder)].rendering_sha256

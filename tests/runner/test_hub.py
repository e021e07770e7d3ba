"""A base that must come from a hub which does not take a call stops a study at once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hub_server import Hub, serve
from sightline.errors import MissingDataError
from sightline.runner import StudyCheck
from sightline.runner.hub import missing_base, missing_models, refuse_unreachable
from sightline.study import load_study, plan_study


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of a hub that takes no call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it was tried again"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return address


def test_a_hub_that_cannot_be_reached_is_named_at_once(refusing: str) -> None:
    with pytest.raises(MissingDataError, match=f"^base 'some/model' is not on this machine, and {refusing} cannot be "):
        refuse_unreachable(missing_base("some/model"))


STUDY = """
base: builtin:tiny
data: {mine: {source: SOURCE}, unused: {source: owner/none}}
steps: {sft: {on: mine.train, max_steps: 1}}
models:
  theirs: {base: some/model, adapter: owner/adapter}
  idle: {base: another/model}
evaluate: {on: mine.test, models: [base, sft, theirs]}
compare: [{model: sft}]
"""


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("owner/rows", "data 'owner/rows', base 'some/model', adapter 'owner/adapter' are"),
        ("builtin:phantom", "base 'some/model', adapter 'owner/adapter' are"),
    ],
)
def test_all_that_must_come_from_it_is_named_together(tmp_path: Path, refusing: str, source: str, named: str) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("SOURCE", f"'{source}'"), encoding="utf-8")
    with pytest.raises(MissingDataError, match=f"^{named} not on this machine, and {refusing} cannot be .* By hand: "):
        list(StudyCheck(load_study(tmp_path / "study.yaml")))
    for name, file in (("some--model", "config.json"), ("owner--adapter", "adapter_config.json")):
        kept = tmp_path / "hub" / f"models--{name}"  # as the hub's library keeps it
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("0" * 40)
        (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (kept / "snapshots" / ("0" * 40) / file).write_text("{}")
    study = load_study(tmp_path / "study.yaml")
    assert missing_models(study, plan_study(study)) == {}


@pytest.mark.usefixtures("refusing")
def test_what_is_here_asks_no_hub(tmp_path: Path) -> None:
    refuse_unreachable(missing_base("builtin:tiny"))
    refuse_unreachable(missing_base(str(tmp_path)))


@pytest.mark.usefixtures("refusing")
def test_a_hub_that_answers_is_left_to_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Hub(datasets={})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        refuse_unreachable(missing_base("some/model"))
        assert hub.requests == ["HEAD /"]

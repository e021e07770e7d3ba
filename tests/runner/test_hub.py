"""A base that must come from a hub which does not take a call stops a study at once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hub_server import Hub, serve
from sightline.errors import MissingDataError
from sightline.runner.hub import refuse_unreachable


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
    with pytest.raises(MissingDataError, match=f"'some/model' is not on this machine, and {refusing} cannot be "):
        refuse_unreachable("some/model")


@pytest.mark.usefixtures("refusing")
def test_what_is_here_asks_no_hub(tmp_path: Path) -> None:
    refuse_unreachable("builtin:tiny")
    refuse_unreachable(str(tmp_path))


@pytest.mark.usefixtures("refusing")
def test_a_hub_that_answers_is_left_to_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(Hub(datasets={})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        refuse_unreachable("some/model")
        assert hub.requests == ["HEAD /"]

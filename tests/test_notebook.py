"""The notebook in examples/ runs on a study's directory as it stands in the repository, and draws what it says."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest

from report.fake_study import write_study

NOTEBOOK = Path(__file__).parents[1] / "examples" / "study_in_pandas.ipynb"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study, which the notebook is pointed at."""
    monkeypatch.setenv("SIGHTLINE_STUDY", str(tmp_path / "study"))
    return write_study(tmp_path / "study")


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_holds_no_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells() if "outputs" in cell)


def test_its_cells_run_in_their_order_and_draw(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("pandas", reason="needs pandas, which the extra `dev` brings")
    import matplotlib.pyplot as plt

    code = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    before = set(plt.get_fignums())
    made = runpy.run_path(str(script))
    drawn = [plt.figure(number) for number in plt.get_fignums() if number not in before]
    titles = [axes.get_title() for figure in drawn for axes in figure.axes]
    assert titles[:3] == ["Training; dashed: validation", "closed_accuracy", "exact_match"]
    assert titles[3].startswith("Differences with 95% intervals") and len(titles) == 4
    compare = json.loads((study / "compare.json").read_text(encoding="utf-8"))
    assert len(made["differences"]) == len(compare["stated"])
    # What the notebook joins itself is what compare.json says.
    by_hand = made["answered"].groupby("model")["right"].mean()
    for arm in compare["arms"]:
        assert by_hand[arm["model"]] == pytest.approx(arm["metrics"]["exact_match"]["value"])
    printed = capsys.readouterr().out
    assert all(question["sentence"] in printed for question in compare["stated"])
    for figure in drawn:
        figure.canvas.draw()
        plt.close(figure)


@pytest.mark.slow
def test_it_runs_as_a_notebook(study: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, which the extra `dev` brings")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient, which the extra `dev` brings")
    pytest.importorskip("ipykernel", reason="needs ipykernel, which the extra `dev` brings")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute(env=environment)
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    assert kinds.count("image/png") == 3

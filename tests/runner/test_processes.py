"""The whole command line under `torchrun`: two processes make what one makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_studies import SMALL, contents, run_study_file, write_small_study

ROOT = Path(__file__).parents[2]
SEVERAL_ROWS = SMALL.replace("max_steps: 2", "max_steps: 4, row_tokens: 200")


PREFERRED = """
name: preferred
base: builtin:tiny
data: {phantom: {source: builtin:phantom, images: 12, split: {train: 0.7, test: 0.3, by: image}}}
steps:
  pairs:
    {method: critique, from: base, on: phantom.train, judge: token_f1, samples: 3, temperature: 3, max_new_tokens: 8}
  dpo: {method: dpo, from: base, on: pairs, max_steps: 4, batch_size: 8, row_tokens: 200}
evaluate: {on: phantom.test, metrics: [exact_match], rows: 4, max_new_tokens: 4}
"""


def run_in_two_processes(study: Path, out: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, "-m", "sightline", "run", str(study), "--out", str(out), "--no-figures"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("text", "model"), [(SEVERAL_ROWS, "sft"), (PREFERRED, "dpo")], ids=["sft", "dpo"])
def test_two_processes_end_with_the_same_adapter(tmp_path: Path, text: str, model: str) -> None:
    from safetensors.torch import load_file

    study, weights = write_small_study(tmp_path, text), f"models/{model}/adapter_model.safetensors"
    run_in_two_processes(study, tmp_path / "two")
    run_study_file(study, "--out", tmp_path / "one")
    one, two = load_file(tmp_path / "one" / weights), load_file(tmp_path / "two" / weights)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert (two[name] - tensor).norm() <= 1e-5 * tensor.norm(), name
    assert contents(tmp_path / "one", ("data/*.jsonl", "drawn/*")) == contents(
        tmp_path / "two", ("data/*.jsonl", "drawn/*")
    )
    assert (tmp_path / "two" / "report.html").is_file()

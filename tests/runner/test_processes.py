"""The whole command line under `torchrun`: two processes make what one makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_studies import SMALL, run_study_file, write_small_study

ROOT = Path(__file__).parents[2]
SEVERAL_ROWS = SMALL.replace("max_steps: 2", "max_steps: 4, row_tokens: 200")


@pytest.mark.slow
def test_two_processes_end_with_the_same_adapter(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    study = write_small_study(tmp_path, SEVERAL_ROWS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, "-m", "sightline", "run", str(study), "--out", str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
    )
    one = load_file(run_study_file(study, "--out", tmp_path / "one") / "models/sft/adapter_model.safetensors")
    two = load_file(tmp_path / "two" / "models/sft/adapter_model.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert (two[name] - tensor).norm() <= 1e-5 * tensor.norm(), name
    assert (tmp_path / "two" / "report.html").is_file()

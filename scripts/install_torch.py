"""Install torch into the environment that runs this script, in the build that this machine can use.

On Linux a plain `pip install torch` brings several gigabytes of CUDA libraries, GPU or not. Without a GPU this
script therefore asks for the CPU build by its full version, which no CUDA build can satisfy: first wherever pip
already looks, then in PyTorch's own index. When neither has it, the script says so and stops.

Environment:
    TORCH: a pip requirement or wheel file to install instead, taken as it stands, e.g. "torch==2.12.1".
    TORCH_INDEX: the index to look in; PyTorch's CPU index unless set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTED_VERSION = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def attempts(system: str, has_gpu: bool, requirement: str, index: str) -> list[list[str]]:
    """List what to ask pip for, in order, until one of them works.

    Args:
        system: `sys.platform`, e.g. "linux".
        has_gpu: whether an NVIDIA GPU answers.
        requirement: what the user asked for, "" for the tested version.
        index: the index the user named, "" for the default.

    Returns:
        Arguments of `pip install`, one list per attempt.
    """
    where = ["--extra-index-url", index] if index else []
    if requirement:
        return [[requirement, *where]]
    if has_gpu or system == "darwin":  # builds for macOS have no CUDA in them, and no "+cpu" in their version
        return [[f"torch=={TESTED_VERSION}", *where]]
    cpu_build = f"torch=={TESTED_VERSION}+cpu"
    return [[cpu_build], [cpu_build, "--extra-index-url", index or CPU_INDEX]]


def gpu_answers() -> bool:
    """Say whether `nvidia-smi` exists and lists at least one GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    listing = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU " in listing.stdout


def installed_version() -> str | None:
    """Import torch in a fresh interpreter and return its version, None when it cannot be imported."""
    probe = [sys.executable, "-c", "import torch; print(torch.__version__)"]
    answer = subprocess.run(probe, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def install(has_gpu: bool) -> bool:
    """Make the attempts in turn, showing pip's own words for the last one only; return whether one worked."""
    plans = attempts(sys.platform, has_gpu, os.environ.get("TORCH", ""), os.environ.get("TORCH_INDEX", ""))
    for plan in plans:
        print("torch: pip install", *plan, flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "2", *plan]
        if subprocess.run(pip, capture_output=plan is not plans[-1], check=False).returncode == 0:
            return True
    return False


def main() -> int:
    """Install torch unless it is there, and pin what is there for the installs that follow."""
    version = installed_version()
    has_gpu = gpu_answers()
    if version is None:
        if not install(has_gpu):
            print(
                f"\ntorch: no build of torch {TESTED_VERSION} for this machine was found ("
                + ("a GPU answers" if has_gpu else "no GPU answers, so only the CPU build was asked for")
                + f").\nIf {CPU_INDEX} cannot be reached from here, name another index or a wheel file:\n"
                "    make setup TORCH_INDEX=https://...\n"
                "    make setup TORCH=/path/to/torch-....whl\n",
                file=sys.stderr,
            )
            return 1
        version = installed_version()
        if version is None:
            print("torch: installed, but `import torch` fails in .venv; run it there to see why", file=sys.stderr)
            return 1
    if has_gpu and "+cpu" in version:
        print(f"torch: note: a GPU answers but torch {version} is a CPU build; set TORCH to choose another")
    # Without this pin, a later package could replace the build chosen here.
    Path(sys.prefix, "torch-constraint.txt").write_text(f"torch=={version}\n", encoding="utf-8")
    print(f"torch: {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

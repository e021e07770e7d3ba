"""A study killed at random moments and started again ends byte for byte as one that was never interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from killed_studies import assert_same_but_for_costs, finish, finish_despite_kills

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "arguments"),
    [
        ("demo", []),
        ("demo", ["--set", "data.phantom.images=60", "--set", "steps.lora.save_every=3"]),
        ("self_critique_dpo", ["--smoke"]),
        ("ha_dpo", ["--smoke"]),
    ],
    ids=["demo", "frequent checkpoints", "self_critique_dpo", "ha_dpo"],
)
def test_a_recipe_killed_five_times(tmp_path: Path, recipe: str, arguments: list[str]) -> None:
    study = RECIPES / f"{recipe}.yaml"
    seconds = finish(study, tmp_path / "whole", *arguments)
    print(f"{recipe} {' '.join(arguments)}: {seconds:.0f} s undisturbed")
    finish_despite_kills(study, tmp_path / "killed", *arguments, whole=tmp_path / "whole", seed=len(recipe))
    assert_same_but_for_costs(tmp_path / "killed", tmp_path / "whole")

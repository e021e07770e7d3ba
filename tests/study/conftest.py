from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from sightline.study import Study, load_study
from study_examples import SMALLEST


@pytest.fixture
def study_of(tmp_path: Path):
    """Load studies from their texts; the first lies in `study0.yaml`."""
    numbers = itertools.count()

    def load(text: str = SMALLEST, **options: Any) -> Study:
        path = tmp_path / f"study{next(numbers)}.yaml"
        path.write_text(text, encoding="utf-8")
        return load_study(path, **options)

    return load

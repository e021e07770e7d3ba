"""Carries a study out step by step: skips what is finished, resumes what is not."""

from sightline.runner.carry_out import compare_directory, run_study
from sightline.runner.check import StudyCheck, estimate_study

__all__ = ["StudyCheck", "compare_directory", "estimate_study", "run_study"]

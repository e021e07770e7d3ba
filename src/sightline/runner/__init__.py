"""Carries a study out step by step: skips what is finished, resumes what is not."""

from sightline.runner.carry_out import check_study, compare_directory, run_study

__all__ = ["check_study", "compare_directory", "run_study"]

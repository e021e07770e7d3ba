"""The YAML of a study, typed: what is asked, validated, and what depends on what."""

from sightline.study.loading import (
    json_schema,
    load_study,
    model_location,
    refuse_unbuilt,
    resolved_yaml,
    source_location,
    study_sha256,
)
from sightline.study.plan import Comparison, Plan, StepRun, plan_study
from sightline.study.schema import (
    Budget,
    Compare,
    Cut,
    Data,
    Evaluate,
    Hardware,
    Judge,
    OtherModel,
    Split,
    Study,
    Track,
)
from sightline.study.steps import Average, BestOf, Choose, Critique, Dpo, Sft, Step
from sightline.study.training import Lora, PreferenceTraining, Stage, Training

__all__ = [
    "Average",
    "BestOf",
    "Budget",
    "Choose",
    "Compare",
    "Comparison",
    "Critique",
    "Cut",
    "Data",
    "Dpo",
    "Evaluate",
    "Hardware",
    "Judge",
    "Lora",
    "OtherModel",
    "Plan",
    "PreferenceTraining",
    "Sft",
    "Split",
    "Stage",
    "Step",
    "StepRun",
    "Study",
    "Track",
    "Training",
    "json_schema",
    "load_study",
    "model_location",
    "plan_study",
    "refuse_unbuilt",
    "resolved_yaml",
    "source_location",
    "study_sha256",
]

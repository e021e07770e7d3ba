"""Try a model on one picture: base beside tuned."""

from __future__ import annotations

from pathlib import Path

from sightline.data.pictures import read_picture
from sightline.errors import MissingDataError, StudyError
from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.adapters import detach_adapter, load_adapter
from sightline.models.loading import LoadedModel, load_model
from sightline.records import Message, Sample
from sightline.runner.prepare import base_of, common_setting, study_family
from sightline.study import load_study, plan_study


def ask_model(model: str, image: Path, question: str, *, max_new_tokens: int = 64) -> dict[str, str]:
    """Answer one question.

    Args:
        model: a base (hub name, folder, "builtin:tiny"), or DIR:MODEL for a model of a study.
        image: the picture.
        question: as a user would put it.
        max_new_tokens: longest answer, in tokens.

    Returns:
        "base" and, for a model of a study, its own answer under its name.

    Raises:
        MissingDataError: if the study has no such model.
        PictureError: if the picture cannot be read.
    """
    if not image.is_file():
        raise MissingDataError(f"--image {image}: there is no such file")
    picture, _ = read_picture(image, name=image.name)
    sample = Sample(id="asked", pictures=(picture,), messages=(Message(role="user", content=(0, question)),), answer="")
    decoding = Decoding(max_new_tokens=max_new_tokens)

    def answer(loaded: LoadedModel, name: str) -> str:
        [[given]] = answer_samples(loaded, [sample], decoding, model=name, data="asked")
        return given.text

    if (Path(model) / "study.yaml").exists():
        raise StudyError(f"{model} is a study; write {model}:MODEL, where MODEL is {', '.join(_made(Path(model)))}")
    directory, _, name = model.rpartition(":")
    if not directory or not (Path(directory) / "study.yaml").exists():
        return {model: answer(load_model(model), model)}
    study = load_study(Path(directory) / "study.yaml")
    folder = Path(directory) / "models" / name
    if name != "base" and not folder.is_dir():
        raise MissingDataError(f"{directory} has no model {name!r}; it has {', '.join(_made(Path(directory)))}")
    plan = plan_study(study)
    location = base_of(study, plan, name)
    loaded = load_model(  # as it was trained and asked in the study
        location,
        study_family(study, plan, location),
        precision=common_setting(plan, "precision", study.hardware.precision),  # pyright: ignore
        quantize=common_setting(plan, "quantize", None),  # pyright: ignore
    )
    answers = {"base": answer(loaded, "base")}
    if name != "base":
        load_adapter(loaded, folder)
        answers[name] = answer(loaded, name)
        detach_adapter(loaded)
    return answers


def _made(directory: Path) -> list[str]:
    return ["base", *sorted(place.name for place in (directory / "models").glob("[!.]*"))]

"""Try a model on pictures: base beside tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightline.data.pictures import read_picture
from sightline.errors import MissingDataError, StudyError
from sightline.generation.answering import Wording, answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.loading import LoadedModel, load_model
from sightline.records import Message, Sample
from sightline.runner.make import Shelf
from sightline.runner.prepare import wording_of
from sightline.runner.reading import Prepared
from sightline.study import Study, load_study, model_location, plan_study


def ask_model(model: str, images: Sequence[Path], question: str, *, max_new_tokens: int = 64) -> dict[str, str]:
    """Answer one question.

    Args:
        model: a base (hub name, folder, "builtin:tiny"), or DIR:MODEL for a model of a study: one that it made, "base",
            or a name of its `models`.
        images: the pictures, in the order in which the model sees them, before the question.
        question: as a user would put it.
        max_new_tokens: longest answer, in tokens.

    Returns:
        The model's answer under its name; where the model is an adapter, its base's before it: under "base" if that is
        the study's, else under its own name.

    Raises:
        MissingDataError: if there is no such picture, study or model.
        PictureError: if a picture cannot be read.
    """
    sample = _sample(images, question)
    decoding = Decoding(max_new_tokens=max_new_tokens)

    def answer(loaded: LoadedModel, name: str, wording: Wording | None = None) -> str:
        [[given]] = answer_samples(loaded, [sample], decoding, model=name, data="asked", wording=wording)
        return given.text

    if _is_study(Path(model)):
        names = ", ".join(_models(load_study(Path(model)), Path(model)))
        raise StudyError(f"{model} is a study; write {model}:MODEL, where MODEL is {names}")
    directory, _, name = model.rpartition(":")
    if not directory or directory == "builtin" or Path(model).exists():
        return {model: answer(load_model(model), model)}
    if not _is_study(Path(directory)):
        raise MissingDataError(f"{model}: write DIR:MODEL; {directory} is no study's directory, there is no study.yaml")
    study = load_study(Path(directory))
    if name not in (known := _models(study, Path(directory))):
        raise MissingDataError(f"{directory} has no model {name!r}; it has {', '.join(known)}")
    shelf = Shelf(Prepared(study=study, plan=plan_study(study), sets={}, loaded={}), Path(directory))
    text, system = wording_of(shelf.prepared.plan, "{question}")
    wording = Wording(text=text, system=system)  # as it was trained and asked in the study
    answers = {}
    if shelf.adapter_folder(name) is not None:
        base = shelf.base_of(name)
        beside = "base" if base == model_location(study, study.base) else base
        answers[beside] = answer(shelf.base(base), beside, wording)
    return answers | {name: answer(shelf.wear(name), name, wording)}


def _sample(images: Sequence[Path], question: str) -> Sample:
    for image in images:
        if not image.is_file():
            raise MissingDataError(f"--image {image}: there is no such file")
    pictures = tuple(read_picture(image, name=image.name)[0] for image in images)
    content = (*range(len(pictures)), question)
    return Sample(id="asked", pictures=pictures, messages=(Message(role="user", content=content),), answer="")


def _is_study(directory: Path) -> bool:
    return (directory / "study.yaml").exists()


def _models(study: Study, directory: Path) -> list[str]:
    """What can be asked: the base, the study's other models, and those it has made so far."""
    return ["base", *study.models, *sorted(place.name for place in (directory / "models").glob("[!.]*"))]

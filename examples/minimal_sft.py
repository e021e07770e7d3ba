"""Fine-tune a vision-language model on questions about images, without the study machinery.

    python examples/minimal_sft.py [rows.csv]

`rows.csv` has the columns image, question, answer; without it, pictures drawn by code are used. The steps are those of
a study: samples, rendered by the model's own chat template, laid out as trees, a loop, an adapter.
"""

import sys
from pathlib import Path

from sightline.data.formats import load_source
from sightline.data.phantom import phantom_samples
from sightline.data.problems import require_clean
from sightline.data.splits import split_samples
from sightline.generation.answering import answer_samples
from sightline.generation.sampling import Decoding
from sightline.models.adapters import attach_lora, save_adapter
from sightline.models.loading import load_model
from sightline.study import Training
from sightline.training.loop import RenderedSet, train
from sightline.trees.render import render


def main() -> None:
    """Tune, watching the validation loss, then answer a few questions."""
    if len(sys.argv) > 1:
        file = Path(sys.argv[1]).resolve()
        samples = require_clean(load_source(file.name, root=file.parent)["all"], on_bad_row="stop")
        base = "llava-hf/llava-1.5-7b-hf"
    else:
        samples = phantom_samples(40)
        base = "builtin:tiny"
    # By image: no picture is on two sides.
    parts = split_samples(samples, {"train": 0.8, "validation": 0.1, "test": 0.1})

    model = load_model(base)
    attach_lora(model, rank=16, alpha=32)

    def rendered(chosen):
        for sample in chosen:
            model.features.register(sample.pictures)
        return RenderedSet(
            sequences=[render(model.family, s.messages, s.pictures, s.answer, name=s.id) for s in chosen],
            image_ids=[sample.image_id for sample in chosen],
        )

    settings = Training(epochs=1, learning_rate=1e-3)
    steps = train(model, rendered(parts["train"]), settings, validation=rendered(parts["validation"]))
    for record in steps:  # a callback is a for-loop: log, stop early, look inside the model
        print(f"step {record.step}/{record.num_steps}: loss {record.loss:.3f}, {record.samples} samples")

    folder = Path("minimal_adapter")
    folder.mkdir(exist_ok=True)
    save_adapter(model, folder)

    by_id = {sample.id: sample for sample in parts["test"][:6]}
    for row in answer_samples(model, list(by_id.values()), Decoding(max_new_tokens=16), model="tuned", data="test"):
        for answer in row:
            print(f"{by_id[answer.sample_id].question} -> {answer.text} (reference: {by_id[answer.sample_id].answer})")


if __name__ == "__main__":
    main()

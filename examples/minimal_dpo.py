"""Teach a vision-language model which of two answers is better, without the study machinery.

    python examples/minimal_dpo.py

The pairs are descriptions of drawn pictures: what is there, and the same with sentences that are not true. Both answers
of a pair, and all pairs of a picture, are branches of one tree; the reference is the model before its adapter is on.
"""

from sightline.data.phantom import phantom_pairs
from sightline.models.adapters import attach_lora
from sightline.models.loading import load_model
from sightline.study import PreferenceTraining
from sightline.training.loop import RenderedSet, train
from sightline.training.objectives import Preference
from sightline.training.reference import answer_logprobs
from sightline.trees.render import render


def main() -> None:
    """Prefer true descriptions to false ones, watching how far the two move apart."""
    pairs = phantom_pairs(8)
    model = load_model("builtin:tiny")
    for pair in pairs:
        model.features.register(pair.pictures)
    sequences = [
        render(model.family, pair.messages, pair.pictures, answer, name=pair.id)
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)  # in this order
    ]
    data = RenderedSet(sequences=sequences, image_ids=[pair.image_id for pair in pairs], together=2)

    reference = answer_logprobs(model, data, row_tokens=2048)
    attach_lora(model, rank=16, alpha=32)
    settings = PreferenceTraining(epochs=2, batch_size=4, learning_rate=1e-4)
    for record in train(model, data, settings, objective=Preference(reference_N=reference, beta=0.1)):
        margin, right = record.metrics["rewards/margins"], record.metrics["rewards/accuracies"]
        print(f"step {record.step}/{record.num_steps}: loss {record.loss:.3f}, margin {margin:+.3f}, right {right:.0%}")


if __name__ == "__main__":
    main()

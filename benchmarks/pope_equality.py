"""Whether sharing changes what a model says to POPE's questions: greedy tokens, and the log-odds of yes against no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sightline.generation.answering import Wording, render_asked, row_length
from sightline.models.forward import hidden_states_at
from sightline.models.loading import LoadedModel
from sightline.records import Sample
from sightline.trees.render import Rendered, render
from sightline.trees.sampler import group_by_image, step_rows


def log_odds(
    loaded: LoadedModel, prompts: Sequence[Rendered], samples: Sequence[Sample], pair: Sequence[int], layout: Any
) -> np.ndarray:
    """Log-odds of the first against the second token after each prompt: of shared rows, or of one prompt a row."""
    found = np.zeros(len(prompts))
    rows = step_rows(
        range(len(prompts)),
        rendered=prompts.__getitem__,
        image_ids=[sample.image_id for sample in samples],
        row_tokens=row_length(loaded) if layout == "tree" else max(map(len, prompts)),
        layout=layout,
    )
    head = loaded.family.head(loaded.inner)
    with torch.no_grad():
        for row in rows:
            places, back = np.unique([path[-1] for path in row.paths], return_inverse=True)
            logits = head(hidden_states_at(loaded, row, places)).float()
            found[list(row.branches)] = (logits[:, pair[0]] - logits[:, pair[1]]).cpu().numpy()[back]
    return found


def stock_log_odds(
    loaded: LoadedModel, prompts: Sequence[Rendered], samples: Sequence[Sample], pair: Sequence[int]
) -> np.ndarray:
    """The same by the stock forward alone: a picture's common tokens once, into its cache, then all its questions."""
    found = np.zeros(len(prompts))
    for group in group_by_image(sample.image_id for sample in samples):
        ids = [prompts[number].token_ids_L.tolist() for number in group]
        same = [len(set(tokens)) == 1 for tokens in zip(*ids, strict=False)]
        shared = min([*(place for place, is_same in enumerate(same) if not is_same), len(same) - 1])
        rest = [torch.tensor(tokens[shared:]) for tokens in ids]
        padded = torch.nn.utils.rnn.pad_sequence(rest, batch_first=True)  # after the last token asked for: seen by none
        with torch.no_grad():
            prefix = torch.tensor([ids[0][:shared]], device=loaded.device)
            pixels = loaded.features.stock_inputs([prompts[group[0]].pictures[0]])
            cache = loaded.module(input_ids=prefix, **pixels, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(group))
            logits = loaded.module(input_ids=padded.to(loaded.device), past_key_values=cache, use_cache=True).logits
        for number, row, tokens in zip(group, logits.cpu().double(), rest, strict=True):
            last = row[len(tokens) - 1]
            found[number] = float(last[pair[0]] - last[pair[1]])
    return found


def compare_signs(loaded: LoadedModel, samples: Sequence[Sample]) -> dict[str, float]:
    """Compare log-odds of shared and unshared rows with the same weights' in float32; the model is float32 after."""
    prompts = render_asked(loaded, samples, Wording())
    first = samples[0]
    answered = [render(loaded.family, first.messages, first.pictures, answer) for answer in ("yes", "no")]
    pair = [int(each.token_ids_L[each.num_prompt]) for each in answered]
    assert pair[0] != pair[1]
    ours = {layout: log_odds(loaded, prompts, samples, pair, layout) for layout in ("tree", "flat")}
    loaded.module.float()
    exact = stock_log_odds(loaded, prompts, samples, pair)
    errors = {layout: np.abs(found - exact) for layout, found in ours.items()}
    same = np.sign(ours["tree"]) == np.sign(exact)
    # One question's error is a draw: beyond the largest of them no sign may differ, beyond its own a few may.
    clear, beyond_own = np.abs(exact) > errors["flat"].max(), np.abs(exact) > errors["flat"]
    # Random weights lean to one answer; what tells questions apart is the rest.
    middle = float(np.median(exact))
    apart = np.abs(exact - middle) > errors["flat"].max()
    return {
        "questions": len(samples),
        "beyond flat's largest error": int(clear.sum()),
        "of these, tree has the sign": int(same[clear].sum()),
        "beyond flat's error on the same question": int(beyond_own.sum()),
        "of these too, tree has the sign": int(same[beyond_own].sum()),
        "of these too, largest margin where not": float(np.abs(exact[beyond_own & ~same]).max(initial=0)),
        "less their median, beyond flat's largest error": int(apart.sum()),
        "of these, tree has the sign of the rest": int(
            (np.sign(ours["tree"] - middle) == np.sign(exact - middle))[apart].sum()
        ),
        "tree and flat have one sign": int((np.sign(ours["tree"]) == np.sign(ours["flat"])).sum()),
        "median margin": float(np.median(np.abs(exact))),
        "spread of the log-odds": float(np.std(exact)),
        "tree's median error": float(np.median(errors["tree"])),
        "flat's median error": float(np.median(errors["flat"])),
        "tree's largest error": float(errors["tree"].max()),
        "flat's largest error": float(errors["flat"].max()),
    }

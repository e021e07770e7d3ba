"""What exactly answered: each model's base, the hash of its adapter, and how the base was stored."""

from __future__ import annotations

from collections.abc import Mapping

from sightline.report.reading import StudyFiles


def model_origins(files: StudyFiles) -> tuple[tuple[str, str], ...]:
    """Say what each model that was asked consists of, as its answers' manifest recorded it.

    Args:
        files: the study's content.

    Returns:
        model name and what it is, in the models' order; models without a record are left out.
    """
    return tuple((model, _in_words(origin)) for model, origin in files.origins.items())


def _in_words(origin: Mapping[str, str]) -> str:
    if "server" in origin:
        return f"{origin.get('model') or 'the only model'} on {origin['server']}"
    parts = [f"base {origin.get('base', 'unknown')}"]
    if origin.get("quantize", "None") != "None":
        parts.append(f"stored as {origin['quantize']}")
    weights = [name for name in origin if name.startswith("adapter_model.")]
    parts += [f"adapter {origin[name]}" for name in weights]
    if made_for := origin.get("adapter made for"):
        parts.append(f"which says it was made for {made_for}")
    return ", ".join(parts)

"""Pictures of a few pixels, encoded: what tests of data formats put where a real set has its films."""

from __future__ import annotations

import io

from PIL import Image


def png(colour: int, *, width: int = 8, height: int = 6) -> bytes:
    """Encode a picture of one colour; different numbers up to 255 give different pictures."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (colour, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()

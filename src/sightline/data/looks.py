"""What a picture looks like, reduced until copies of it can be found: resized, saved anew, brightened.

Shapes: S side of a small grey picture in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is compared of a picture.

    Args:
        hash: 64 bits of the perceptual hash, by the signs of its lowest cosine frequencies.
        small: uint8[S, S], grey.
    """

    hash: int
    small: NDArray[np.uint8]


def look_at(image: Image.Image) -> Look:
    """Reduce a picture to what is compared.

    Source: pHash by Zauner 2010, as ImageHash computes it.
    """
    from imagehash import phash
    from PIL import Image

    grey = image.convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Look(int(str(phash(grey)), 16), small)

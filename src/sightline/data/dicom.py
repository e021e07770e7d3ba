"""DICOM pictures: one frame, its grey values brought into a window, as RGB; nothing else of the file is kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sightline.data.pictures import MAX_PIXELS, MIN_SIDE, PictureError, quiet_decoder
from sightline.errors import install_advice

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

PERCENTILES = (0.5, 99.5)
"""Between these percentiles of its grey values a picture without a window is spread from black to white."""

IDENTITY = (
    "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientAddress", "PatientTelephoneNumbers",
    "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDate", "InstitutionName",
    "InstitutionAddress", "StationName", "DeviceSerialNumber", "PatientComments", "ImageComments",
)  # fmt: skip
"""Tags by which a person may be found, beside every tag that holds a person's name."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomFacts:
    """What the tags of a DICOM file say about privacy; the values themselves are not kept.

    Args:
        burnt_in: whether the pixels are said to show who it is (tag BurnedInAnnotation); "unknown" when it is not said.
        identity: names of the tags that hold something by which a person may be found.
        num_frames: frames in the file.
    """

    burnt_in: Literal["yes", "no", "unknown"]
    identity: tuple[str, ...]
    num_frames: int


def is_dicom(content: bytes) -> bool:
    """Tell a DICOM file by its mark, after 128 bytes of anything."""
    return content[128:132] == b"DICM"


def read_facts(content: bytes) -> DicomFacts:
    """Read what a DICOM file's tags say about privacy.

    Args:
        content: the file.

    Raises:
        PictureError: the file cannot be read, or pydicom is not installed.
    """
    with quiet_decoder(), _damage_named():
        dataset = _parse(content, stop_before_pixels=True)
        said = str(dataset.get("BurnedInAnnotation") or "").strip().lower()
        names = {str(element.keyword) for element in dataset.iterall() if element.VR == "PN" and element.value}
        names |= {name for name in IDENTITY if dataset.get(name)}
        return DicomFacts(
            burnt_in="yes" if said == "yes" else "no" if said == "no" else "unknown",
            identity=tuple(sorted(names)),
            num_frames=_num_frames(dataset),
        )


def decode_dicom(content: bytes, frame: int | None = None) -> Image.Image:
    """Decode one frame as viewers show it first.

    Grey values are rescaled (RescaleSlope and RescaleIntercept, or the modality's table), then brought into the
    file's first window (WindowCenter, WindowWidth and VOILUTFunction), else through its table of values of interest,
    else spread between `PERCENTILES`; padding does not count. MONOCHROME1, where low is bright, is turned round.

    Args:
        content: the file.
        frame: which one, from 1; None where there is only one.

    Returns:
        uint8 RGB image.

    Raises:
        PictureError: the file is damaged, holds no picture or several of which none is named, or a decoder or pydicom
            itself is not installed.

    Source: DICOM PS3.3, C.11.1 (modality), C.11.2 (window) and C.7.6.3 (pixels).
    """
    from PIL import Image

    with quiet_decoder(), _damage_named():
        dataset = _parse(content)
        place = _frame_index(dataset, frame)
        pixels = _pixels(dataset, place)
        if str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
            pixels = _as_grey(dataset, pixels, place)
        elif pixels.dtype.itemsize > 1:
            pixels = pixels / (2 ** _depth(dataset, pixels) - 1) * 255
        return Image.fromarray(_rounded(pixels)).convert("RGB")


@contextmanager
def _damage_named() -> Iterator[None]:
    """Say what raised: like every decoder, pydicom raises nearly anything on damaged bytes."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        raise PictureError("truncated-image", f"a damaged DICOM file ({error})") from None


def _parse(content: bytes, *, stop_before_pixels: bool = False) -> Any:
    try:
        from pydicom import dcmread
    except ImportError:
        raise PictureError("not-an-image", f"a DICOM file; {install_advice('dicom')}") from None
    # pydicom would inflate such a file without a limit, before anything of it can be looked at.
    if _DEFLATED in content:
        raise PictureError("not-an-image", "a DICOM file that is compressed as a whole (deflated)")
    return dcmread(io.BytesIO(content), stop_before_pixels=stop_before_pixels)


def _num_frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _frame_index(dataset: Any, frame: int | None) -> int:
    """Choose the frame, counted from 0, and refuse what cannot be one picture."""
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = getattr(dataset.get("SOPClassUID"), "name", "of an unknown kind")
        raise PictureError("not-an-image", f"a DICOM file without a picture ({kind})")
    width, height, num_frames = int(dataset.Columns), int(dataset.Rows), _num_frames(dataset)
    if min(width, height) < MIN_SIDE:
        raise PictureError("too-small", f"a picture of {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise PictureError("too-many-pixels", f"a picture of more than {MAX_PIXELS:,} pixels")
    if frame is None and num_frames > 1:
        found = f"a DICOM file of {num_frames} frames, of which none is named (the first is FILE#1)"
        raise PictureError("not-an-image", found)
    if frame is not None and not 1 <= frame <= num_frames:
        raise PictureError("missing-image", f"no frame {frame} in a DICOM file of {num_frames}")
    return (frame or 1) - 1


def _pixels(dataset: Any, place: int) -> np.ndarray:
    """Decode a frame: (height, width) stored grey values, or (height, width, 3) of red, green and blue."""
    from pydicom.pixels import apply_color_lut, get_decoder, pixel_array  # pyright: ignore[reportPrivateImportUsage]

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        lacking = "" if (decoder := get_decoder(syntax)).is_available else "; ".join(decoder.missing_dependencies)
    except NotImplementedError:
        lacking = "pydicom has none"
    if lacking:
        raise PictureError("not-an-image", f"a DICOM file that needs a decoder for {syntax.name} ({lacking})")
    pixels = pixel_array(dataset, index=place)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim != (2 if str(dataset.PhotometricInterpretation).startswith("MONOCHROME") else 3):
        raise PictureError("not-an-image", f"a DICOM picture in {dataset.PhotometricInterpretation}")
    return pixels


def _depth(dataset: Any, pixels: np.ndarray) -> int:
    """Bits of a colour; a palette's entries fill their type."""
    is_palette = dataset.PhotometricInterpretation == "PALETTE COLOR"
    return pixels.dtype.itemsize * 8 if is_palette else int(dataset.BitsStored)


def _as_grey(dataset: Any, stored: np.ndarray, place: int) -> np.ndarray:
    """Bring grey values to 0..255, black to white."""
    import numpy as np
    from pydicom.pixels import apply_modality_lut, apply_voi  # pyright: ignore[reportPrivateImportUsage]

    levels = _group(dataset, "PixelValueTransformationSequence", place)
    if "ModalityLUTSequence" in dataset:
        values = apply_modality_lut(stored, dataset).astype(np.float64)
    else:
        slope, intercept = levels.get("RescaleSlope"), levels.get("RescaleIntercept")
        values = stored.astype(np.float64) * float(1 if slope is None else slope) + float(intercept or 0)

    window = _group(dataset, "FrameVOILUTSequence", place)
    if window.get("WindowCenter") is not None and window.get("WindowWidth") is not None:
        function = str(window.get("VOILUTFunction") or "LINEAR")
        grey = windowed(values, _first(window.WindowCenter), _first(window.WindowWidth), function)
    elif "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        grey = apply_voi(values.astype(np.int64), dataset) / (2**bits - 1)
    else:
        counted = values[np.isfinite(values) & ~_padding(dataset, stored)]
        low, high = np.percentile(counted, PERCENTILES) if counted.size else (0.0, 0.0)
        grey = (values - low) / (high - low) if high > low else np.zeros_like(values)
    grey = np.clip(np.nan_to_num(grey), 0, 1)
    return 255 * (1 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Apply a window to grey values.

    Args:
        values: float, any shape; rescaled grey values, such as Hounsfield units.
        centre: WindowCenter.
        width: WindowWidth.
        function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

    Returns:
        Float of the same shape, from 0 (black) to 1 (white).

    Raises:
        PictureError: there is no such window.

    Source: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.
    """
    import numpy as np

    if function == "LINEAR" and width == 1:
        return (values > centre - 0.5).astype(np.float64)
    if function == "LINEAR" and width > 1:
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    if function == "LINEAR_EXACT" and width > 0:
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "SIGMOID" and width > 0:
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    raise PictureError("not-an-image", f"a DICOM file with an impossible window (width {width:g}, {function})")


def _group(dataset: Any, name: str, place: int) -> Any:
    """Find where a frame's values stand: in its own group, in the one all frames share, or in the file itself."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*own[place : place + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]:
        if group.get(name):
            return group[name].value[0]
    return dataset


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Mark what lies outside of the picture proper: one stored value, or all between two."""
    import numpy as np

    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (stored >= low) & (stored <= high)


def _first(value: Any) -> float:
    """Take the first of several windows: the one a viewer opens with."""
    return float(value[0] if hasattr(value, "__getitem__") else value)


def _rounded(pixels: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)

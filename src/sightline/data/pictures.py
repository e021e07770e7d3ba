"""Pictures: decoded once, turned upright, made RGB, and known by what they show."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sightline.data.identity import Told, told_by, told_by_dicom
from sightline.data.problems import REMEDIES
from sightline.errors import DataError, MissingDataError
from sightline.records import Picture
from sightline.storage import write_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What Pillow may decode; its other formats run other programs or have a history of faults."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".dcm")
"""File name endings of these formats and of DICOM, lower case."""

MAX_PIXELS = 2**26
"""The largest picture that is decoded (67 megapixels): a small file can claim gigabytes."""

MIN_SIDE = 2
"""The shortest side in pixels that shows anything."""

_ORIENTATION = 0x0112

_MAGIC = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


class PictureError(DataError):
    """A picture that cannot be used; `kind` is a key of `problems.REMEDIES`, `found` says what is there."""

    def __init__(self, kind: str, found: str):
        self.kind = kind
        self.found = found
        super().__init__(f"{found}; {REMEDIES[kind]}")


def read_picture(source: Path | bytes, *, name: str) -> tuple[Picture, tuple[str, ...]]:
    """Decode a picture once and find out what it is.

    Args:
        source: a file, or a file's content; "scan.dcm#2" is the second frame of a DICOM file.
        name: the picture's name as the data wrote it.

    Returns:
        The picture, and the repairs made on reading: "cmyk", "16-bit", "exif-rotated", "animated-first-frame".

    Raises:
        PictureError: the file is missing, empty, damaged, not a picture, or too small or large to be one.
    """
    decoded = decode_picture(source)
    width, height = decoded.image.size
    return picture_from(source, name=name, sha256=decoded.sha256, width=width, height=height), decoded.repairs


def picture_from(source: Path | bytes, *, name: str, sha256: str, width: int, height: int) -> Picture:
    """Make the record of a picture that has been decoded; arguments as in `read_picture` and `Picture`."""
    path, content = (None, source) if isinstance(source, bytes) else (str(source), None)
    return Picture(name=name, sha256=sha256, width=width, height=height, path=path, content=content)


def name_only(name: str) -> Picture:
    """Stand in for a picture that is not at hand: known by its name, of no size, and impossible to open.

    Args:
        name: the picture's name as the data wrote it; rows with the same name share the picture.

    Returns:
        A picture whose `sha256` is the hash of the name.
    """
    return Picture(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), width=0, height=0)


def open_picture(picture: Picture) -> Image.Image:
    """Open a picture for looking at: RGB, upright, without EXIF or any other tag.

    Args:
        picture: as `read_picture` or `save_picture` made it.

    Returns:
        uint8 RGB image of the picture's width and height.

    Raises:
        MissingDataError: neither bytes nor file are there.
        PictureError: the file changed since it was read.
    """
    try:
        decoded = decode_picture(source_of(picture))
    except PictureError as error:
        if error.kind == "missing-image":
            raise MissingDataError(f"picture {picture.name}: {error}") from None
        raise
    refuse_changed(picture, decoded.sha256)
    return decoded.image


def source_of(picture: Picture) -> Path | bytes:
    """Give what a picture is decoded from.

    Raises:
        MissingDataError: neither bytes nor file are there.
    """
    if picture.content is None and picture.path is None:
        raise MissingDataError(f"picture {picture.name}: only its name is known; load the data with its images folder")
    return Path(str(picture.path)) if picture.content is None else picture.content


def refuse_changed(picture: Picture, sha256: str) -> None:
    """Stop where a picture's file shows something else by now.

    Raises:
        PictureError: the hash is another than when the picture was read.
    """
    if sha256 != picture.sha256:
        raise PictureError("changed", f"{picture.path or picture.name} shows something else than when it was read")


def save_picture(picture: Picture, folder: Path) -> Picture:
    """Write a picture as PNG under the name of what it shows; equal pictures share one file.

    Args:
        picture: the picture to keep.
        folder: where to; made when absent.

    Returns:
        The picture with `path` naming the file and `content` empty.
    """
    path = folder / f"{picture.sha256[:16]}.png"
    if not path.exists():
        buffer = io.BytesIO()
        open_picture(picture).save(buffer, format="PNG")
        write_file(path, buffer.getvalue())
    return dataclasses.replace(picture, path=str(path), content=None)


def _read_file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise PictureError("missing-image", f"no file {path}")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("missing-image", f"cannot read {path} ({error.strerror})") from None


class _Silence:
    """Silences decoders' warnings while any thread decodes; that of a picture too large to be one becomes an error.

    What is heard is state of the whole process: the first thread to enter keeps it, the last to leave restores it, and
    none waits for another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._kept = warnings.catch_warnings()

    def __enter__(self) -> None:
        from PIL import Image

        with self._lock:
            if self._num_inside == 0:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._kept.__exit__(None, None, None)


_silence = _Silence()


def quiet_decoder() -> _Silence:
    """Give the context in which decoders are silent; threads share it."""
    return _silence


class Decoded(NamedTuple):
    """A picture decoded: RGB and upright, what was repaired for that, and what its file tells of people."""

    image: Image.Image
    repairs: tuple[str, ...]
    told: Told = Told()

    @property
    def sha256(self) -> str:
        """Hash of size and pixels."""
        digest = hashlib.sha256(f"{self.image.width}x{self.image.height}:".encode())
        digest.update(self.image.tobytes())
        return digest.hexdigest()


def decode_picture(source: Path | bytes) -> Decoded:
    """Decode a picture; arguments and errors as in `read_picture`."""
    if isinstance(source, bytes):
        return _decode(source, None)
    file, frame = file_of(source)
    return _decode(_read_file(file), frame)


def file_of(path: Path) -> tuple[Path, int | None]:
    """Tell a picture's file, and which frame of it is meant: "scan.dcm#2" is the second one of scan.dcm."""
    file, mark, frame = str(path).rpartition("#")
    return (Path(file), int(frame)) if mark and frame.isdecimal() and not path.is_file() else (path, None)


def _decode(content: bytes, frame: int | None) -> Decoded:
    from PIL import Image, ImageOps

    from sightline.data.dicom import decode_dicom, is_dicom

    if not content:
        raise PictureError("zero-bytes", "a picture of 0 bytes")
    if is_dicom(content):
        return Decoded(decode_dicom(content, frame), (), told_by_dicom(content))
    if frame is not None:
        raise PictureError("missing-image", f"frame {frame} of a file that is not DICOM")
    declared = _declared_size(content)
    if declared and min(declared) < MIN_SIDE:
        raise PictureError("too-small", f"a picture of {declared[0]} x {declared[1]} pixels")
    repairs = []
    with quiet_decoder():
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if min(image.size) < MIN_SIDE:
                raise PictureError("too-small", f"a picture of {image.width} x {image.height} pixels")
            if getattr(image, "is_animated", False):
                repairs.append("animated-first-frame")
            # Pillow takes the high byte of 16-bit colour while decoding; only the tile still knows.
            has_wide_colour = any(";16" in str(tile[3]) for tile in image.tile) and image.mode in ("RGB", "RGBA", "LA")
            told = told_by(image)
            # Pillow turns a TIFF upright while decoding, and drops the tag.
            if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
                repairs.append("exif-rotated")
            image.load()
            upright = ImageOps.exif_transpose(image)
        except PictureError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise PictureError("too-many-pixels", f"a picture of more than {MAX_PIXELS:,} pixels") from None
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            raise _undecodable(content, error) from None
    if upright.mode == "CMYK":
        repairs.append("cmyk")
    if has_wide_colour or upright.mode in ("F", "I") or upright.mode.startswith("I;"):
        repairs.append("16-bit")
    return Decoded(_as_rgb(upright), tuple(repairs), told)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Make an image RGB without tags.

    Values wider than 8 bits are scaled linearly from the image's own minimum and maximum to 0 and 255: the files
    seldom say how many of their 16 bits are used, and 12-bit films would come out black. Transparency is laid
    over white, as viewers show it.
    """
    from PIL import Image

    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        image = Image.fromarray(_scaled_to_bytes(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info = {}
    return image


def _scaled_to_bytes(image: Image.Image) -> np.ndarray:
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        raise PictureError("not-an-image", "a picture without a single finite value")
    low, high = values[finite].min(), values[finite].max()
    values = np.where(finite, values, low)
    return np.rint((values - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)


def _declared_size(content: bytes) -> tuple[int, int] | None:
    """Read width and height from the header: Pillow refuses pictures of no pixels without saying why."""
    if content.startswith(b"\x89PNG") and len(content) >= 24:
        return struct.unpack(">II", content[16:24])
    if content.startswith(b"GIF8") and len(content) >= 10:
        return struct.unpack("<HH", content[6:10])
    return None


def _undecodable(content: bytes, error: Exception) -> PictureError:
    for magic, name in _MAGIC.items():
        if content.startswith(magic):
            reason = str(error) if "cannot identify" not in str(error) else "its header is damaged"
            return PictureError("truncated-image", f"a damaged {name} ({reason})")
    other = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"<svg": "an SVG drawing", b"\x1f\x8b": "a gzip archive"}
    kind = next((name for magic, name in other.items() if content.startswith(magic)), "no picture")
    return PictureError("not-an-image", f"{kind}, starting with {content[:8]!r}")

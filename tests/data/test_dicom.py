"""DICOM pictures come out as a viewer first shows them, and nothing that names a person comes out at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from sightline.data.dicom import DicomFacts, decode_dicom, read_facts, windowed
from sightline.data.pictures import PictureError, open_picture, read_picture

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.fixture(scope="module")
def pydicom() -> Any:
    return pytest.importorskip("pydicom", reason="needs pydicom, which the extra `dicom` brings")


@pytest.fixture
def dicom(pydicom: Any) -> Callable[..., bytes]:
    """A function that writes pixels, and tags by their names, as a DICOM file."""

    def write(pixels: np.ndarray | None = RAMP, syntax: str = "ExplicitVRLittleEndian", **tags: object) -> bytes:
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        if pixels is not None:
            shape = pixels.shape[1:] if pixels.ndim == 3 and pixels.shape[-1] != 3 else pixels.shape
            bits = pixels.dtype.itemsize * 8
            dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *shape[:2], 3 if len(shape) == 3 else 1
            dataset.PhotometricInterpretation = "RGB" if len(shape) == 3 else "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
            dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
            dataset.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
            dataset["PixelData"].VR = "OW"
            if len(shape) == 3:
                dataset.PlanarConfiguration = 0
        for name, value in tags.items():
            setattr(dataset, name, value)
        buffer = io.BytesIO()
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset["PixelData"].is_undefined_length = True
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()

    return write


def grey(content: bytes, frame: int | None = None) -> np.ndarray:
    """The one channel of a picture that must be grey."""
    pixels = np.asarray(decode_dicom(content, frame)).astype(int)
    assert pixels.shape[-1] == 3 and np.ptp(pixels, axis=-1).max() == 0
    return pixels[..., 0]


@pytest.mark.parametrize(
    ("function", "centre", "width"),
    [("LINEAR", 40.0, 400.0), ("LINEAR", 500.0, 1.0), ("LINEAR_EXACT", 40.0, 0.5), ("SIGMOID", -200.0, 900.0)],
)
def test_windows_agree_with_pydicom(
    dicom: Callable[..., bytes], pydicom: Any, function: str, centre: float, width: float
):
    tags = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
    tags |= {"RescaleSlope": 0.5, "RescaleIntercept": -1024.0}
    content = dicom(RAMP, **tags)
    dataset = pydicom.dcmread(io.BytesIO(content))
    values = RAMP * 0.5 - 1024
    lowest, highest = -1024.0, 65_535 * 0.5 - 1024  # pydicom spreads over what the bits could hold
    expected = (pydicom.pixels.apply_windowing(values, dataset) - lowest) / (highest - lowest) * 255
    assert np.abs(grey(content) - expected).max() <= 0.5 + 1e-6
    assert np.allclose(windowed(values, centre, width, function) * 255, expected, rtol=0, atol=1e-6)


def test_a_window_by_hand(dicom: Callable[..., bytes]):
    """Centre 2 and width 5, linear: (x - 1.5) / 4 + 0.5, so 0 and less is an eighth, 3.5 white."""
    pixels = np.array([[0, 1], [2, 4]], dtype=np.uint16)
    assert grey(dicom(pixels, WindowCenter=2, WindowWidth=5)).tolist() == [[32, 96], [159, 255]]


def test_the_first_of_several_windows_is_taken(dicom: Callable[..., bytes]):
    several = dicom(WindowCenter=[1000, 50], WindowWidth=[500, 10])
    assert np.array_equal(grey(several), grey(dicom(WindowCenter=1000, WindowWidth=500)))


def test_without_a_window_percentiles_spread_the_values_and_padding_does_not_count(dicom: Callable[..., bytes]):
    low, high = np.percentile(RAMP, (0.5, 99.5))
    expected = np.clip((RAMP - low) / (high - low), 0, 1) * 255
    assert np.abs(grey(dicom()) - expected).max() <= 0.5 + 1e-6

    signed = (RAMP.astype(np.int16) % 100) - 50
    signed[:32] = -2000
    padded = grey(dicom(signed, PixelPaddingValue=-2000))
    assert (padded[:32].max(), padded[32:].min(), padded[32:].max()) == (0, 0, 255)
    assert len(np.unique(padded[32:])) > 90
    unpadded = grey(dicom(signed))
    assert unpadded[32:].min() > 200


def test_a_flat_picture_is_black(dicom: Callable[..., bytes]):
    assert grey(dicom(np.full((4, 4), 700, np.uint16))).max() == 0


def test_monochrome1_is_turned_round(dicom: Callable[..., bytes]):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    inverted = grey(dicom(PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(inverted - (255 - grey(dicom(**window)))).max() <= 1  # where rounding meets a half
    assert inverted[0, 0] == 255 and inverted[-1, -1] == 0


def test_rescaling_and_tables(dicom: Callable[..., bytes], pydicom: Any):
    """A modality table turns values round before the window sees them; a table of interest takes a window's place."""

    def table(values: list[int]) -> Any:
        item = pydicom.Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [len(values), 0, 16], "US"
        item.LUTData = np.array(values, dtype="<u2").tobytes()
        return pydicom.Sequence([item])

    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    modality = dicom(pixels, ModalityLUTSequence=table([300, 200, 100, 0]), WindowCenter=150, WindowWidth=301)
    assert grey(modality).tolist() == [[255, 170], [85, 0]]
    interest = dicom(pixels, VOILUTSequence=table([0, 65_535, 0, 65_535]))
    assert grey(interest).tolist() == [[0, 255], [0, 255]]


def test_colour_is_kept(dicom: Callable[..., bytes], pydicom: Any):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(decode_dicom(dicom(pixels))), pixels)
    wide = pixels.astype(np.uint16) * 257
    assert np.array_equal(np.asarray(decode_dicom(dicom(wide))), pixels)
    planar = dicom(pixels, PlanarConfiguration=1, PixelData=np.moveaxis(pixels, -1, 0).tobytes())
    assert np.array_equal(np.asarray(decode_dicom(planar)), pixels)
    full = pydicom.pixels.convert_color_space(pixels, "RGB", "YBR_FULL")
    turned = np.asarray(decode_dicom(dicom(full, PhotometricInterpretation="YBR_FULL"))).astype(int)
    assert np.abs(turned - pixels).max() <= 2


def test_a_palette_gives_its_colours(dicom: Callable[..., bytes]):
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in {"Red": [0, 65_535], "Green": [0, 32_896], "Blue": [65_535, 0]}.items():
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = np.array(values, dtype="<u2").tobytes()
    pixels = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    assert np.asarray(decode_dicom(dicom(pixels, **tags))).tolist() == [
        [[0, 0, 255], [255, 128, 0]],
        [[255, 128, 0], [0, 0, 255]],
    ]


def test_frames_are_named_or_refused(dicom: Callable[..., bytes], tmp_path: Path):
    frames = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    frames[:, 0, 0] = 0
    content = dicom(frames, NumberOfFrames=3, WindowCenter=128, WindowWidth=256)
    (tmp_path / "scan.dcm").write_bytes(content)
    with pytest.raises(PictureError, match=r"3 frames, of which none is named \(the first is FILE#1\)"):
        read_picture(tmp_path / "scan.dcm", name="scan")
    pictures = [read_picture(tmp_path / f"scan.dcm#{number}", name="scan")[0] for number in (1, 2, 3)]
    assert [np.asarray(open_picture(picture))[1, 1, 0] for picture in pictures] == [10, 20, 30]
    with pytest.raises(PictureError, match="no frame 4 in a DICOM file of 3"):
        read_picture(tmp_path / "scan.dcm#4", name="scan")
    (tmp_path / "odd.dcm#1").write_bytes(dicom())  # a file that is really called so
    assert read_picture(tmp_path / "odd.dcm#1", name="odd")[0].width == 64


def test_a_frame_has_its_own_window_and_rescaling(dicom: Callable[..., bytes], pydicom: Any):
    def groups(**tags: float) -> Any:
        group, item = pydicom.Dataset(), pydicom.Dataset()
        for name, value in tags.items():
            setattr(item, name, value)
        if "WindowCenter" in tags:
            group.FrameVOILUTSequence = pydicom.Sequence([item])
        else:
            group.PixelValueTransformationSequence = pydicom.Sequence([item])
        return group

    frames = np.full((2, 2, 2), 100, np.uint16)
    content = dicom(
        frames,
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=pydicom.Sequence([groups(RescaleSlope=2.0, RescaleIntercept=1.0)]),
        PerFrameFunctionalGroupsSequence=pydicom.Sequence(
            [groups(WindowCenter=201.5, WindowWidth=11.0), groups(WindowCenter=301.5, WindowWidth=11.0)]
        ),
    )
    assert (grey(content, 1)[0, 0], grey(content, 2)[0, 0]) == (128, 0)  # 201 lies in the middle of the first


def test_a_frame_of_another_kind_of_file_is_refused(tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="frame 2 of a file that is not DICOM"):
        read_picture(tmp_path / "a.png#2", name="a")


def test_compression_is_read_or_named(dicom: Callable[..., bytes], pydicom: Any):
    dataset = pydicom.dcmread(io.BytesIO(dicom(WindowCenter=2048, WindowWidth=4096)))
    dataset.compress(pydicom.uid.RLELossless)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert np.array_equal(grey(buffer.getvalue()), grey(dicom(WindowCenter=2048, WindowWidth=4096)))

    fragments = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + bytes(60)])
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGLSLossless)
    expected = "a damaged DICOM file" if decoder.is_available else "needs a decoder for JPEG-LS Lossless"
    with pytest.raises(PictureError, match=expected):
        decode_dicom(dicom(syntax="JPEGLSLossless", PixelData=fragments))
    with pytest.raises(PictureError, match=r"compressed as a whole \(deflated\)"):
        decode_dicom(dicom(syntax="DeflatedExplicitVRLittleEndian"))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, r"impossible window \(width 0, LINEAR\)"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CURVE"}, "impossible window"),
        ({"Rows": 65_535, "Columns": 65_535}, "more than 67,108,864 pixels"),
        ({"Rows": 1}, "64 x 1 pixels"),
        ({"Rows": 128}, "a damaged DICOM file"),
        ({"NumberOfFrames": 1, "BitsAllocated": 13}, "a damaged DICOM file"),
    ],
)
def test_what_cannot_be_shown_is_said(dicom: Callable[..., bytes], tags: dict[str, object], message: str):
    with pytest.raises(PictureError, match=message):
        decode_dicom(dicom(**tags))


def test_files_without_a_picture_and_torn_files_are_named(dicom: Callable[..., bytes]):
    with pytest.raises(PictureError, match=r"without a picture \(Secondary Capture Image Storage\)"):
        decode_dicom(dicom(None))
    whole = dicom()
    for length in range(140, len(whole), 397):
        with pytest.raises(PictureError):
            decode_dicom(whole[:length])


def test_identity_is_dropped_and_burnt_in_text_reported(dicom: Callable[..., bytes]):
    person = {"PatientName": "Sentinel^Name", "PatientID": "sentinel-id", "InstitutionName": "Sentinel Hospital"}
    content = dicom(**person, OperatorsName="Sentinel^Operator", BurnedInAnnotation="YES", StudyDate="")
    assert read_facts(content) == DicomFacts(
        burnt_in="yes",
        identity=("InstitutionName", "OperatorsName", "PatientID", "PatientName"),
        num_frames=1,
    )
    assert read_facts(dicom(BurnedInAnnotation="NO")) == DicomFacts(burnt_in="no", identity=(), num_frames=1)
    assert read_facts(dicom(np.zeros((5, 4, 4), np.uint8), NumberOfFrames=5)).num_frames == 5
    assert read_facts(dicom()).burnt_in == "unknown"

    picture, repairs = read_picture(content, name="scan")
    opened = open_picture(picture)
    assert (opened.mode, opened.info, repairs) == ("RGB", {}, ())
    buffer = io.BytesIO()
    opened.save(buffer, format="PNG")
    assert b"entinel" not in buffer.getvalue()


def test_without_pydicom_the_error_says_what_to_install(python_without: Callable[..., CompletedProcess[str]]):
    code = """
from sightline.data.pictures import PictureError, read_picture
try:
    read_picture(bytes(128) + b"DICM" + bytes(60), name="scan")
except PictureError as error:
    print(error)
"""
    finished = python_without(["pydicom"], code)
    assert "pip install '.[dicom]'" in finished.stdout, finished.stderr

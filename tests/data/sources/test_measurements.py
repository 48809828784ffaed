"""Medical images, sound and TIFF: the values of their libraries and definitions, in tables and predictions."""

import csv
import struct
import wave

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from PIL import Image  # noqa: E402

from keras_resnet import data, evaluation, training  # noqa: E402
from keras_resnet.data.array_files import (
    InvalidArrayFile,  # noqa: E402
    read_measurement,  # noqa: E402
)


def write_dicom(path, pixels, slope=1.0, intercept=0.0, kind="MONOCHROME2", frames=1):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    found = pydicom.Dataset()
    found.file_meta = meta
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.Rows, found.Columns = pixels.shape[-2:]
    if frames > 1:
        found.NumberOfFrames = frames
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, kind
    found.BitsAllocated = found.BitsStored = 16
    found.HighBit, found.PixelRepresentation = 15, 0
    found.RescaleSlope, found.RescaleIntercept = slope, intercept
    found.PixelData = pixels.astype("<u2").tobytes()
    found.save_as(path, enforce_file_format=True)


def test_dicom_is_read_in_the_units_of_its_modality(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 5))
    write_dicom(tmp_path / "ct.dcm", pixels, slope=2.0, intercept=-1024)
    np.testing.assert_array_equal(read_measurement(tmp_path / "ct.dcm")[..., 0], pixels * 2.0 - 1024)
    write_dicom(tmp_path / "xray.dcm", pixels, kind="MONOCHROME1")
    inverted = read_measurement(tmp_path / "xray.dcm")[..., 0]
    np.testing.assert_array_equal(inverted, 2**16 - 1 - pixels)  # whatever the brightest pixel is
    frames = np.random.default_rng(1).integers(0, 400, (4, 6, 5))
    write_dicom(tmp_path / "many.dcm", frames, frames=4)
    np.testing.assert_array_equal(read_measurement(tmp_path / "many.dcm")[..., 0], frames)


def write_enhanced(path, frames, shared=None, each=None):
    """A multi-frame image whose slopes stand in functional groups."""
    import pydicom

    write_dicom(path, frames, frames=len(frames))
    found = pydicom.dcmread(path)
    del found.RescaleSlope, found.RescaleIntercept

    def group(slope):
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = slope
        outer.PixelValueTransformationSequence = [inner]
        return outer

    if shared is not None:
        found.SharedFunctionalGroupsSequence = [group(shared)]
    if each is not None:
        found.PerFrameFunctionalGroupsSequence = [group(slope) for slope in each]
    found.save_as(path)


def test_slopes_of_enhanced_images_stand_in_functional_groups(tmp_path):
    pytest.importorskip("pydicom")
    frames = np.random.default_rng(0).integers(0, 2000, (3, 4, 5))
    write_enhanced(tmp_path / "ct.dcm", frames, shared=(1.0, -1024.0))
    np.testing.assert_array_equal(read_measurement(tmp_path / "ct.dcm")[..., 0], frames - 1024.0)
    write_enhanced(tmp_path / "mr.dcm", frames, each=[(0.5, 1.0), (1.0, 0.0), (2.0, -3.0)])
    expected = [frames[0] * 0.5 + 1, frames[1], frames[2] * 2.0 - 3]
    np.testing.assert_array_equal(read_measurement(tmp_path / "mr.dcm")[..., 0], expected)


def test_a_palette_is_applied(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    write_dicom(tmp_path / "us.dcm", np.array([[0, 1], [2, 1]]), kind="PALETTE COLOR")
    found = pydicom.dcmread(tmp_path / "us.dcm")
    colors = np.array([[0, 0, 0], [65535, 257, 0], [0, 514, 65535]])
    for place in range(3):  # red, green, blue
        found.add_new(0x00281101 + place, "US", [3, 0, 16])  # the descriptor, and the table of the color
        found.add_new(0x00281201 + place, "OW", colors[:, place].astype("<u2").tobytes())
    found.save_as(tmp_path / "us.dcm")
    values = read_measurement(tmp_path / "us.dcm")
    np.testing.assert_allclose(values, (colors / 257)[[[0, 1], [2, 1]]])


def test_a_scanner_s_own_file_is_read():
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm", download=False)
    stored = pydicom.dcmread(path)
    expected = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
    np.testing.assert_allclose(read_measurement(path)[..., 0], expected)


def test_nifti_is_turned_to_one_orientation(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1, 1, 1])), tmp_path / "ras.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume[::-1, ::-1], np.diag([-1.0, -1, 1, 1])), tmp_path / "lps.nii")
    for name in ("ras.nii.gz", "lps.nii"):  # the same body, stored in two directions
        np.testing.assert_array_equal(read_measurement(tmp_path / name)[..., 0], volume)


def write_tone(path, hz, rate=16_000, seconds=0.5):
    samples = np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 20_000).astype("<i2").tobytes())


def mel(hz):
    return 1127.0 * np.log1p(hz / 700.0)


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100])
def test_a_tone_stands_in_the_band_of_its_frequency_whatever_the_rate(tmp_path, rate):
    pytest.importorskip("soundfile")
    for hz in (300, 1000, 3000):
        write_tone(tmp_path / "tone.wav", hz, rate)
        found = read_measurement(tmp_path / "tone.wav")
        assert found.shape == (48, 64, 1) and found.dtype == "float32"  # (8000 - 400) // 160 + 1 frames
        centers = np.linspace(mel(125), mel(7500), 66)[1:-1]
        nearest = int(np.abs(centers - mel(hz)).argmin())
        assert abs(int(found[5:-5, :, 0].mean(axis=0).argmax()) - nearest) <= 1
        silent = read_tone_of_silence(tmp_path)
        np.testing.assert_allclose(silent, np.log(0.01), atol=1e-5)


def read_tone_of_silence(folder):
    write_tone(folder / "silence.wav", 0)
    return read_measurement(folder / "silence.wav")


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "uint16"), ("L", "uint8"), ("F", "float32"), ("RGB", "uint8")])
def test_tiff_keeps_its_range(tmp_path, mode, dtype):
    rng = np.random.default_rng(0)
    shape = (5, 7, 3) if mode == "RGB" else (5, 7)
    pixels = rng.uniform(0, 60_000 if mode == "I;16" else 250, shape).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "x.tiff")
    found = read_measurement(tmp_path / "x.tiff")
    np.testing.assert_array_equal(found if mode == "RGB" else found[..., 0], pixels)
    if mode == "L":
        pages = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        np.testing.assert_array_equal(read_measurement(tmp_path / "stack.tif")[..., 0], [pixels, pixels[::-1]])


def write_tiff(path, pixels, photometric=1, orientation=1):
    """An uncompressed little-endian TIFF of one strip (TIFF 6.0, section 2)."""
    height, width, *channels = pixels.shape
    depth, count = pixels.dtype.itemsize * 8, channels[0] if channels else 1
    depths = struct.pack(f"<{count}H", *[depth] * count)
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1), (262, 3, 1, photometric), (274, 3, 1, orientation)),
        *((277, 3, 1, count), (278, 4, 1, height), (279, 4, 1, pixels.nbytes)),
    ]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(258, 3, count, depth if count == 1 else start), (273, 4, 1, start + len(depths))]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + directory + bytes(4)
    path.write_bytes(head + depths + pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())


def test_tiff_of_16_bits_is_read_whole_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    gray, color = (rng.integers(0, 65536, shape).astype("uint16") for shape in ((5, 7), (5, 7, 3)))
    write_tiff(tmp_path / "black.tif", gray)
    write_tiff(tmp_path / "white.tif", gray, photometric=0)
    np.testing.assert_array_equal(read_measurement(tmp_path / "black.tif")[..., 0], gray)
    np.testing.assert_array_equal(read_measurement(tmp_path / "white.tif")[..., 0], 65535 - gray)
    write_tiff(tmp_path / "color.tif", color, photometric=2)
    with pytest.raises(InvalidArrayFile, match="16 bits per channel in color"):
        read_measurement(tmp_path / "color.tif")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_tiff_is_not_scrambled(tmp_path, orientation):
    pixels = np.arange(35, dtype="uint8").reshape(5, 7)
    write_tiff(tmp_path / "x.tif", pixels, orientation=orientation)
    found = read_measurement(tmp_path / "x.tif")[..., 0]
    turned = {5: pixels.T, 6: np.rot90(pixels, -1), 7: np.rot90(pixels.T, 2), 8: np.rot90(pixels)}[orientation]
    assert np.array_equal(found, turned) or np.array_equal(found, pixels)


@pytest.mark.parametrize("name", ["x.dcm", "x.nii", "x.nii.gz", "x.wav", "x.tif"])
@pytest.mark.parametrize("content", [b"", b"not one", bytes(3000)])
def test_what_is_none_is_one_error(tmp_path, name, content):
    for package in ("pydicom", "nibabel", "soundfile"):
        pytest.importorskip(package)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidArrayFile, match="cannot be read"):
        read_measurement(tmp_path / name)


@pytest.mark.slow
def test_a_run_on_scans_predicts_them_as_it_was_trained(tmp_path):
    rng = np.random.default_rng(0)
    with open(tmp_path / "scans.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient"])
        for index in range(48):
            label = index // 2 % 2
            pixels = rng.integers(900, 1100, (12, 12)) + label * 500
            write_dicom(tmp_path / f"{index}.dcm", pixels, intercept=-1024)
            writer.writerow([f"{index}.dcm", "bone" if label else "water", f"p{index // 2}"])
    spec = f"csv:{tmp_path / 'scans.csv'}"
    overrides = {"train.epochs": 8, "train.batch_size": 8, "model.width": 4, "data.normalization": "dataset"}
    run = training.fit("quick", model="resnet10", data=spec, out=tmp_path / "run", overrides=overrides, verbose=0)
    assert run.dataset.image_shape == (12, 12, 1) and run.metrics["test"]["accuracy"] == 1.0
    found = evaluation.predict(run.path, [tmp_path / "0.dcm", tmp_path / "2.dcm"])
    assert [answer["classes"][0]["name"] for answer in found] == ["water", "bone"]
    (tmp_path / "0.dcm").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"line 2, .*0.dcm' cannot be read"):
        data.load(spec)

"""`.npz` and `.npy` files, judged by their headers before a number in them is read."""

import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from keras_resnet.errors import MissingPackage
from keras_resnet.memory import SHARE, available_bytes, format_bytes

# Of sound, as in Hershey et al. 2017, "CNN Architectures for Large-Scale Audio Classification" (VGGish).
SAMPLE_RATE_HZ = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms and 10 ms
MEL_BANDS, LOWEST_HZ, HIGHEST_HZ, LOG_OFFSET = 64, 125.0, 7500.0, 0.01


def read_measurement(path: str | os.PathLike) -> np.ndarray:
    """Reads a file as an array with an axis of channels, in the file's units.

    DICOM: pixels after the rescaling of the modality (Hounsfield units of a CT), float32, `(rows, columns, 1)`, or
    `(frames, rows, columns, 1)`; MONOCHROME1, in which small is bright, is inverted; colors as
    they are, of a palette those of its table. NIfTI: float32
    `(x, y, z, 1)` in the orientation nearest to right, anterior, superior; a fourth axis becomes that of the channels.
    Sound: a log-mel spectrogram, float32 `(frames, 64, 1)`, of its mean over channels, resampled to 16 kHz, by windows
    of 25 ms every 10 ms, 125 to 7,500 Hz. TIFF: its own type and range, `(height, width, channels)`; several pages are
    a volume.
    """
    check_regular(path)
    try:
        return MEASUREMENTS[measurement_kind(path)](path)
    except (InvalidArrayFile, MissingPackage):
        raise
    except Exception as error:  # each library has its own errors, and damaged files find others
        raise InvalidArrayFile(f"it cannot be read ({type(error).__name__}: {error})") from error


def measurement_kind(path: str | os.PathLike) -> str:
    """Returns the extension of a file in small letters; both parts of `.nii.gz`."""
    name = pathlib.Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else pathlib.Path(name).suffix


def _dicom(path: str | os.PathLike) -> np.ndarray:
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_rescale
    except ImportError as error:
        raise _missing("pydicom", "medical", path) from error
    _check_deflated(path)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    frames = int(header.get("NumberOfFrames", 1) or 1)
    check_fits(int(header.Rows) * int(header.Columns) * frames * int(header.get("SamplesPerPixel", 1)) * 8)
    dicom = pydicom.dcmread(path)
    pixels, kind = dicom.pixel_array, dicom.get("PhotometricInterpretation")
    if kind == "PALETTE COLOR":  # the pixels are places in a table of colors
        colored = apply_color_lut(pixels, dicom)
        return colored if colored.dtype == np.uint8 else (colored / 257).astype("float32")
    colors = int(dicom.get("SamplesPerPixel", 1)) > 1
    if kind == "MONOCHROME1":
        # The ends of the range that is stored, so that a bright marker in a corner changes nothing.
        ends = -1 if int(dicom.get("PixelRepresentation", 0)) else 2 ** int(dicom.BitsStored) - 1
        pixels = ends - pixels.astype("int64")
    rescales = None if colors or "RescaleSlope" in dicom else _slopes_of_frames(dicom, frames)
    if rescales is not None:
        values = pixels * rescales[:, 0].reshape(-1, *[1] * 2) + rescales[:, 1].reshape(-1, *[1] * 2)
        values = values if pixels.ndim == 3 else values[0]
    else:
        values = pixels if colors else np.asarray(apply_rescale(pixels, dicom))
    return values if colors and values.dtype == np.uint8 else _with_channels(values.astype("float32"), colors)


def _check_deflated(path: str | os.PathLike) -> None:
    """Refuses a file that is compressed as a whole and unpacks to more than the memory takes."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))  # preamble, the element of the length, the group
        packed = file.read(CHUNK_BYTES)
        while packed:
            size += len(unpacker.decompress(packed, CHUNK_BYTES))
            check_fits(3 * size)  # as bytes, as elements, and as pixels
            packed = unpacker.unconsumed_tail or file.read(CHUNK_BYTES)


def _slopes_of_frames(found: Any, frames: int) -> np.ndarray | None:
    """Returns slope and intercept of each frame of an enhanced CT or MR image, `(frames, 2)`; None where it has none.

    They stand in functional groups, shared by all frames or for each of them (DICOM PS3.3, C.7.6.16.2.9).
    """

    def slope_in(group: Any) -> tuple[float, float] | None:
        transformations = group.get("PixelValueTransformationSequence")
        if not transformations:
            return None
        return float(transformations[0].RescaleSlope), float(transformations[0].RescaleIntercept)

    shared = found.get("SharedFunctionalGroupsSequence")
    usual = slope_in(shared[0]) if shared else None
    groups = found.get("PerFrameFunctionalGroupsSequence") or [{}] * frames
    rescales = [slope_in(group) or usual for group in groups]
    if not any(rescales):
        return None
    if len(rescales) != frames or not all(rescales):
        raise InvalidArrayFile(f"{sum(map(bool, rescales))} of its {frames} frames have a slope and an intercept")
    return np.array(rescales, "float64")


def _with_channels(values: np.ndarray, has_them: bool) -> np.ndarray:
    return values if has_them else values[..., None]


def _nifti(path: str | os.PathLike) -> np.ndarray:
    try:
        import nibabel
    except ImportError as error:
        raise _missing("nibabel", "medical", path) from error
    image: Any = nibabel.load(path)
    if image.dataobj.offset > MAX_OFFSET:
        raise InvalidArrayFile(
            f"its values begin at byte {image.dataobj.offset:,}, and {MAX_OFFSET:,} is the most allowed"
        )
    check_fits(int(np.prod(image.shape, dtype="int64")) * 8)
    values = np.asarray(nibabel.as_closest_canonical(image).dataobj, "float32")
    if values.ndim not in (3, 4):
        raise InvalidArrayFile(f"it has {values.ndim} axes, and 3 or 4 are allowed")
    return _with_channels(values, values.ndim == 4)


def _sound(path: str | os.PathLike) -> np.ndarray:
    try:
        import soundfile
    except ImportError as error:
        raise _missing("soundfile", "audio", path) from error
    header = soundfile.info(os.fspath(path))
    if header.samplerate < 2 * LOWEST_HZ:
        raise InvalidArrayFile(
            f"it has {header.samplerate} samples per second, and the spectrogram begins at {LOWEST_HZ:.0f} Hz, which "
            f"takes {2 * LOWEST_HZ:.0f}"
        )
    resampled = header.frames / header.samplerate * SAMPLE_RATE_HZ
    check_fits(int(header.frames * header.channels * 8 + resampled * SPECTRUM_BYTES))
    waves, rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    return log_mel(waves.mean(axis=1), rate)


def log_mel(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Returns the log-mel spectrogram of a sound, float32 `(frames, 64, 1)`."""
    import tensorflow as tf
    from scipy.signal import resample_poly

    if rate_hz != SAMPLE_RATE_HZ:
        shared = int(np.gcd(rate_hz, SAMPLE_RATE_HZ))
        wave = resample_poly(wave, SAMPLE_RATE_HZ // shared, rate_hz // shared).astype("float32")
    if len(wave) < WINDOW:
        raise InvalidArrayFile(f"it lasts {len(wave) / SAMPLE_RATE_HZ:.3f} s, less than a window of 0.025 s")
    with tf.device("CPU:0"):
        spectrum = tf.abs(tf.signal.stft(wave, WINDOW, HOP, FFT))
        bands = tf.signal.linear_to_mel_weight_matrix(MEL_BANDS, FFT // 2 + 1, SAMPLE_RATE_HZ, LOWEST_HZ, HIGHEST_HZ)
        return np.log(np.asarray(spectrum @ bands) + LOG_OFFSET)[..., None].astype("float32")


def _tiff(path: str | os.PathLike) -> np.ndarray:
    from PIL import Image, ImageSequence

    # As a file: by its name Pillow 13 maps it into memory, and then turns rows of another length.
    with open(path, "rb") as opened, Image.open(opened) as file:
        pages = getattr(file, "n_frames", 1)
        check_fits(file.width * file.height * pages * 16)
        if file.mode not in TIFF_MODES:
            raise InvalidArrayFile(f"its mode is {file.mode!r}, and {', '.join(TIFF_MODES)} are allowed")
        depths = file.tag_v2.get(BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        if file.mode == "RGB" and max(depths) > 8:
            raise InvalidArrayFile(
                f"it has {max(depths)} bits per channel in color, of which Pillow keeps 8. Save it as PNG"
            )
        is_inverted = file.mode.startswith("I;16") and file.tag_v2.get(PHOTOMETRIC) == 0  # type: ignore[attr-defined]
        for number in range(1, pages):
            first = (file.size, file.mode)
            file.seek(number)
            if (file.size, file.mode) != first:
                raise InvalidArrayFile(
                    f"its page {number + 1} has {file.width} x {file.height} pixels of mode {file.mode!r}, and the "
                    f"pages before it {first[0][0]} x {first[0][1]} of mode {first[1]!r}; the pages of a volume match"
                )
        stacked = np.stack([np.asarray(page) for page in ImageSequence.Iterator(file)])
        if is_inverted:  # WhiteIsZero, which Pillow turns round for 8 bits alone
            stacked = 65535 - stacked
    values = stacked[0] if pages == 1 else stacked
    values = values if values.dtype == np.uint8 else values.astype("float32")
    return _with_channels(values, values.ndim == (3 if pages == 1 else 4))


DEFLATED = "1.2.840.10008.1.2.1.99"  # Deflated Explicit VR Little Endian
CHUNK_BYTES = 2**22
MAX_OFFSET = 2**26  # bytes of a NIfTI header with its extensions
SPECTRUM_BYTES = 32  # for each sample at 16 kHz: the samples, their complex spectrum every 160, and its absolute values
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF 6.0
TIFF_MODES = ("L", "RGB", "I;16", "I;16B", "I", "F")


def _missing(package: str, extra: str, path: str | os.PathLike) -> MissingPackage:
    return MissingPackage(
        f"{os.fspath(path)!r} needs {package}, which is not installed. It comes with the extra {extra!r}. Run: pip "
        f"install 'keras-resnet-zoo[{extra}]'"
    )


MEASUREMENTS: dict[str, Callable[[str | os.PathLike], np.ndarray]] = {
    ".dcm": _dicom,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".wav": _sound,
    ".flac": _sound,
    ".ogg": _sound,
    ".tif": _tiff,
    ".tiff": _tiff,
}


NPY = b"\x93NUMPY"  # with which a file of one array begins
# Above this size an archive must not be packed more tightly than any picture is.
ALWAYS_ALLOWED_BYTES, MAX_PACKED = 2**30, 500


class InvalidArrayFile(ValueError):
    """The file is not read; the message is the reason, for the caller, who knows what is allowed."""


def open_npz(path: str | os.PathLike) -> Any:
    """Returns the open archive of an `.npz` file, whose arrays are whole and fit the memory."""
    check_regular(path)
    with open(path, "rb") as plain:
        if plain.read(len(NPY)) == NPY:
            raise InvalidArrayFile("it holds a single array")
    with zipfile.ZipFile(path) as archive:
        total = packed = 0
        for member in archive.infolist():
            with archive.open(member) as file:
                size = _check_array(member.filename, file, member.file_size)
            total, packed = total + size, packed + member.compress_size
    check_unpacked(total, packed)
    return np.load(path, allow_pickle=False)


def check_unpacked(total: int, packed: int) -> None:
    """Raises InvalidArrayFile for a file that unpacks to far more than real data do, or than memory holds."""
    if total > ALWAYS_ALLOWED_BYTES and total > MAX_PACKED * packed:
        raise InvalidArrayFile(
            f"its {format_bytes(packed)} unpack to {format_bytes(total)}, more than {MAX_PACKED} times as much"
        )
    check_fits(total)


def check_regular(path: str | os.PathLike) -> None:
    """Raises InvalidArrayFile for a pipe, a device or a folder: some never end."""
    if pathlib.Path(path).exists() and not pathlib.Path(path).is_file():
        raise InvalidArrayFile("it is not a regular file")


def check_fits(size: int) -> None:
    """Raises InvalidArrayFile for arrays that are larger than the memory that is left."""
    free = available_bytes()
    if free is not None and size > SHARE * free:
        raise InvalidArrayFile(f"its arrays need {format_bytes(size)} of memory, and {format_bytes(free)} are free")


def _check_array(name: str, file: IO[bytes], length: int) -> int:
    """Returns the bytes of an array, by its header."""
    try:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            return length
        shape, _, dtype = readers[version](file)
    except ValueError as error:
        raise InvalidArrayFile(f"its array {name.removesuffix('.npy')!r} cannot be read ({error})") from None
    if dtype.hasobject:
        raise InvalidArrayFile(f"its array {name.removesuffix('.npy')!r} holds pickled objects")
    size = math.prod(shape) * dtype.itemsize
    if size != length - file.tell():
        raise InvalidArrayFile(
            f"its array {name.removesuffix('.npy')!r} is to have {format_bytes(size)} by its header, and has "
            f"{format_bytes(length - file.tell())}"
        )
    return size

"""Small files that would take much memory or time are refused by their headers."""

import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")

from keras_resnet import data  # noqa: E402
from keras_resnet.data import array_files  # noqa: E402
from keras_resnet.data.examples import encoded  # noqa: E402
from keras_resnet.memory import available_bytes, format_bytes  # noqa: E402

JPEG = tf.io.encode_jpeg(np.zeros((16, 24, 3), "uint8")).numpy()


def png(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(blocks):
    head = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0, 0, 0) + b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02"
    return head + b"\x01a" * blocks + b"\0;"


BOMBS = {
    "one_bit.png": (lambda: png(13370, 13370), "13370 x 13370 pixels, more than max_pixels"),
    "walk.jpg": (lambda: JPEG[:2] + b"\xff\xfe\x00\x02" * (5 * 2**20) + JPEG[2:], "damaged header"),
    "fill.jpg": (lambda: JPEG[:2] + b"\xff" * (20 * 2**20) + JPEG[2:], "damaged header"),
    "app1.jpg": (lambda: JPEG[:2] + b"\xff\xe1\x00\x00" + JPEG[2:], "damaged header"),
    "app1_one.jpg": (lambda: JPEG[:2] + b"\xff\xe1\x00\x01" + JPEG[2:], "damaged header"),
    "blocks.gif": (lambda: gif(10 * 2**20), "cannot be used"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_header(tmp_path, name):
    make, told = BOMBS[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(data.BadImageError):  # whatever is loaded at the first call does not count
        data.read_image(tmp_path / name)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(data.BadImageError, match=told):
        data.read_image(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB
    assert time.process_time() - started < 1.0  # it was six seconds and more


def test_a_file_with_holes_is_not_read(tmp_path):
    path = tmp_path / "sparse.png"
    path.write_bytes(tf.io.encode_png(np.zeros((8, 8, 3), "uint8")).numpy())
    os.truncate(path, 6 * 2**30)
    with pytest.raises(data.BadImageError, match="6442450944 bytes for 8 x 8 pixels"):
        data.read_image(path)


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, content) in members.items():
            held = io.BytesIO()
            np.lib.format.write_array_header_1_0(held, {"descr": "<f4", "fortran_order": False, "shape": shape})
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(held.getvalue())
                for part in content:
                    file.write(part)
    return path


def test_arrays_that_are_larger_than_they_look_are_refused(tmp_path):
    huge = npz(tmp_path / "huge.npz", x=((10**6, 10**6), [b"0" * 400]), y=((2,), [bytes(8)]))
    zeros = npz(tmp_path / "zeros.npz", x=((2, 2**28), [bytes(2**26)] * 32), y=((2,), [bytes(8)]))
    assert zeros.stat().st_size < 4 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"'x' is to have 3,725.3 GiB by its header, and has 0.0 MiB"):
        data.load(f"npz:{huge}")
    with pytest.raises(ValueError, match="unpack to 2.0 GiB, more than 500 times"):
        data.load(f"npz:{zeros}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            data.load(f"npz:{path}")


def test_a_sound_of_one_sample_per_second_is_refused(tmp_path):
    wave = struct.pack("<IHHIIHH", 16, 1, 1, 1, 2, 2, 16)
    body = b"WAVEfmt " + wave + b"data" + struct.pack("<I", 200_000) + bytes(200_000)
    pytest.importorskip("soundfile")
    (tmp_path / "slow.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(array_files.InvalidArrayFile, match="1 samples per second"):
        array_files.read_measurement(tmp_path / "slow.wav")


def test_the_pages_of_a_tiff_have_one_size(tmp_path):
    pages = [Image.new("L", size) for size in ((8, 8), (8, 8), (20_000, 20_000))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(array_files.InvalidArrayFile, match="page 3 has 20000 x 20000"):
        array_files.read_measurement(tmp_path / "a.tif")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_a_deflated_dicom_is_measured_before_it_is_unpacked(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    examples = pydicom.dcmread(pydicom.examples.get_path("ct"))
    examples.file_meta.TransferSyntaxUID = array_files.DEFLATED
    examples.save_as(tmp_path / "good.dcm")
    assert array_files.read_measurement(tmp_path / "good.dcm").shape == (128, 128, 1)
    examples.add_new((0x0009, 0x0010), "LO", "bomb")
    examples.add_new((0x0009, 0x1001), "OB", bytes(300 * 2**20))
    examples.save_as(tmp_path / "bomb.dcm")
    assert (tmp_path / "bomb.dcm").stat().st_size < 2**20
    monkeypatch.setattr(array_files, "available_bytes", lambda: 400 * 2**20)
    with pytest.raises(array_files.InvalidArrayFile, match="are free"):
        array_files.read_measurement(tmp_path / "bomb.dcm")


def test_the_values_of_a_nifti_begin_near_its_header(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), "int16"), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112] = struct.pack("<f", 2.0**40)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(array_files.InvalidArrayFile, match="begin at byte"):
        array_files.read_measurement(tmp_path / "a.nii.gz")


def test_a_table_that_says_one_cell_many_times_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    label = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, "int32"), ["x" * 60_000])
    table = pyarrow.table({"path": [f"{number}.png" for number in range(20_000)], "label": label})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(ValueError, match="unpack to 1.1 GiB"):
        data.load(f"csv:{tmp_path}/a.parquet")


def test_shards_with_odd_sizes_are_refused(tmp_path):
    negative = tarfile.TarInfo("a.jpg")
    head = bytearray(negative.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    (tmp_path / "train-0.tar").write_bytes(bytes(head) + bytes(1024))
    with pytest.raises(ValueError, match="size -512"):
        data.load(f"wds:{tmp_path}/train-0.tar")
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 6 * 2**30
    with open(tmp_path / "train-0.tar", "wb") as file:
        file.write(long.tobuf(tarfile.GNU_FORMAT))
        file.truncate(7 * 2**30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="a header of 6,442,450,944 bytes"):
        data.load(f"wds:{tmp_path}/train-0.tar")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


def test_arrays_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", x=np.zeros((20, 64, 64, 3), "float32"), y=np.arange(20) % 2)
    monkeypatch.setattr(array_files, "available_bytes", lambda: 10**5)
    with pytest.raises(ValueError, match=r"need 0.9 MiB of memory, and 0.1 MiB are free"):
        data.load(f"npz:{tmp_path / 'd.npz'}")


def test_a_limit_of_the_address_space_counts():
    free = available_bytes()
    assert free is None or free > 2**20
    assert (format_bytes(2**31), format_bytes(1.5 * 2**20)) == ("2.0 GiB", "1.5 MiB")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30));"
        "from keras_resnet import memory; print(memory._of_address_space())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 or 0 < int(done.stdout) < 2**30


def test_large_pictures_are_decoded_fewer_at_a_time(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            (tmp_path / name / f"{number}.png").write_bytes(png(40 + number, 30))
    found = data.load(f"folder:{tmp_path}", validation_fraction=0.2, test_fraction=0.2)
    examples = found.split("train")
    monkeypatch.setattr(encoded, "PARALLEL_CALLS", 16)
    free = {}
    monkeypatch.setattr(encoded, "available_bytes", lambda: free["bytes"])
    # The largest has 45 x 30 pixels of 3 bytes, and as many float32 while it is resized, of a quarter of the memory.
    for free["bytes"], calls in ((None, 16), (2**30, 16), (4 * 5 * 45 * 30 * 15, 5), (0, 1)):
        assert examples.parallel_calls == calls
        batch, labels = next(iter(found.training_batches(4, seed=0, image_size=16)))
        assert batch.shape == (4, 16, 16, 3) and not np.asarray(batch).any()

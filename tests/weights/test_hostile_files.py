"""Files of weights with bytes changed at random: weights, or one error of ours, in little time and memory."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("safetensors.numpy")
ROOT = pathlib.Path(__file__).resolve().parents[2]
TRIES = 400

# In its own process: the largest resident size of the others' tests is not this one's.
SCRIPT = """
import pathlib, sys, time
import numpy as np
from keras_resnet import ResNet18, weights
from keras_resnet.errors import BadType, BadValue
from tests.weights.test_parity import checkpoint

folder, tries = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

model = ResNet18(width=2, classes=3, input_shape=(32, 32, 3))
ours = weights.save_weights(model, folder / "a.safetensors")
names = weights.save_weights(model, folder / "b.safetensors", names="timm")
tensors = weights.open_tensors(names)
checkpoint(folder / "c.pth", {name: tensors.read(name) for name in tensors.shapes})
ResNet18(weights=ours)
draw, before, slowest, refused = np.random.default_rng(int(sys.argv[3])), resident(), 0.0, 0
for index in range(tries):
    source = (ours, names, folder / "c.pth")[index % 3]
    content = bytearray(source.read_bytes())
    # Most of a file is numbers, of which any is a weight: the header is what is read.
    reach = min(len(content), 4096) if index % 2 else len(content)
    for _ in range(int(draw.integers(1, 6))):
        content[int(draw.integers(0, reach))] = int(draw.integers(0, 256))
    if index % 5 == 0:
        content = content[: int(draw.integers(0, len(content)))]
    path = folder / f"changed{source.suffix}"
    path.write_bytes(content)
    started = time.perf_counter()
    try:
        ResNet18(weights=path)
    except (BadValue, BadType) as error:
        refused += 1
        assert len(str(error).splitlines()) == 1, error
    slowest = max(slowest, time.perf_counter() - started)
print(f"{tries} tried, {refused} refused, slowest {slowest:.2f} s, grown by {resident() - before:.0f} MiB")
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", [0, 1])
def test_changed_bytes_end_in_weights_or_in_one_error(tmp_path, seed):
    command = [sys.executable, "-c", SCRIPT, tmp_path, str(TRIES), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"(\d+) tried, (\d+) refused, slowest ([\d.]+) s, grown by (-?\d+) MiB", done.stdout)
    print(found[0])
    assert int(found[2]) > TRIES / 4
    assert int(found[4]) < 200


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_nothing_under_the_final_name(tmp_path):
    """On a real file system of 1 MiB; W4."""
    from keras_resnet import weights
    from keras_resnet.errors import NoRoom
    from keras_resnet.models import build

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes rights that this process lacks")
    try:
        model = build("resnet18", width=32, classes=3)
        with pytest.raises(
            NoRoom, match="net.safetensors.*could not be written: there is no room.* MiB are free there"
        ):
            weights.save_weights(model, place / "net.safetensors")
        assert list(place.iterdir()) == []
        small = build("resnet18", width=2, stem="small", classes=3, input_shape=(8, 8, 3))
        weights.save_weights(small, place / "net.safetensors")
        assert np.isfinite(weights.open_tensors(place / "net.safetensors").read("predictions/bias")).all()
    finally:
        subprocess.run(["umount", place], check=True)

"""Training on pictures that are not held in memory: resident memory after each gigabyte of decoded pixels.

    python -m benchmarks.streaming [--gigabytes 10] [--pictures 2000] [--sources folder wds tfds] [--json FILE]

A small ResNet-18 is trained by `model.fit` on pictures of 256 px, cut to 32 px, that are read again and again: from
class folders, from tar shards (`wds:`), and from TFRecord files as TFDS writes them. Each source is a process of its
own with `in_memory_limit=0`. Resident is VmRSS, of the whole process, and peak VmHWM; the page cache is not part.
`--quick` takes 128 pictures and 0.1 GB.
"""

import argparse
import io
import json
import pathlib
import tarfile
import tempfile
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.contest import machine, told_by
from keras_resnet import files

SIDE_PX = 256
SHARDS = 4
PROCESS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import keras, numpy as np
from keras_resnet import ResNet18, data
spec, data_dir, gigabytes = sys.argv[1], sys.argv[2], float(sys.argv[3])

def resident(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

dataset = data.load(spec, data_dir=data_dir, in_memory_limit=0)
side = 256
model = ResNet18(input_shape=(32, 32, 3), stem="small", width=8, classes=dataset.num_outputs)
model.compile("sgd", "sparse_categorical_crossentropy")
each = max(1, round(1e9 / (64 * side * side * 3)))  # batches of a gigabyte

class Watch(keras.callbacks.Callback):
    after = []
    def on_epoch_end(self, epoch, logs=None):
        self.after.append(resident("VmRSS"))

batches = dataset.training_batches(64, seed=0, image_size=32, crop="random")
parts = max(1, round(gigabytes)) if gigabytes >= 1 else 2
steps = each if gigabytes >= 1 else max(1, round(each * gigabytes / 2))
model.fit(batches, steps_per_epoch=steps, epochs=parts, verbose=0, shuffle=False, callbacks=[Watch()])
print(json.dumps({"decoded_gigabytes": parts * steps * 64 * side * side * 3 / 1e9, "mebibytes": Watch.after,
                  "peak": resident("VmHWM")}))
"""


def make_pictures(folder: pathlib.Path, count: int) -> dict[str, str]:
    """Writes smooth JPEG pictures as class folders, tar shards and TFRecord files; returns the spec of each.

    Args:
        folder: to write into.
        count: how many pictures.
    """
    draw = np.random.default_rng(0)
    features, records = _tfds_features(), [[] for _ in range(SHARDS)]
    shards = [tarfile.open(folder / f"train-{number}.tar", "w") for number in range(SHARDS)]  # noqa: SIM115 - several
    for index in range(count):
        small = Image.fromarray(draw.integers(0, 256, (16, 16, 3), "uint8"))
        content = io.BytesIO()
        small.resize((SIDE_PX, SIDE_PX)).save(content, "JPEG", quality=90)
        path = folder / "pictures" / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getvalue())
        example = {"image": content.getvalue(), "label": index % 2}
        records[index % SHARDS].append(features.serialize_example(example))
        for suffix, part in (("jpg", content.getvalue()), ("cls", str(index % 2).encode())):
            member = tarfile.TarInfo(f"{index:06d}.{suffix}")
            member.size = len(part)
            shards[index % SHARDS].addfile(member, io.BytesIO(part))
    for shard in shards:
        shard.close()
    _write_records(folder / "pictures_of_noise" / "1.0.0", features, records)
    return {
        "folder": f"folder:{folder / 'pictures'}",
        "wds": f"wds:{folder}/train-*.tar",
        "tfds": "tfds:pictures_of_noise",
    }


def _tfds_features() -> Any:
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    return tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(names=["a", "b"])})


def _write_records(folder: pathlib.Path, features: Any, records: list[list[bytes]]) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True)
    name = folder.parent.name
    for number, shard in enumerate(records):
        with tf.io.TFRecordWriter(str(folder / f"{name}-train.tfrecord-{number:05d}-of-{SHARDS:05d}")) as writer:
            for record in shard:
                writer.write(record)
    sizes, total = [len(shard) for shard in records], sum(len(record) for shard in records for record in shard)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, split="train", filetype_suffix="tfrecord"
    )
    split = tfds.core.SplitInfo(name="train", shard_lengths=sizes, num_bytes=total, filename_template=template)
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], supervised_keys=("image", "label")
    )


def measure(spec: str, data_dir: str, gigabytes: float) -> dict[str, Any]:
    """Returns the memory of one training.

    Args:
        spec: of the data.
        data_dir: for TFDS.
        gigabytes: of decoded pixels.
    """
    return told_by(PROCESS, spec, data_dir, str(gigabytes))


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="decoded pixels of each source")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--sources", nargs="+", default=["folder", "wds", "tfds"], choices=["folder", "wds", "tfds"])
    parser.add_argument("--quick", action="store_true", help="128 pictures, 0.1 GB")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    gigabytes, pictures = (0.1, 128) if options.quick else (options.gigabytes, options.pictures)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        specs = make_pictures(pathlib.Path(folder), pictures)
        for name in options.sources:
            row = rows[name] = measure(specs[name], folder, gigabytes)
            first, last = row["mebibytes"][0], row["mebibytes"][-1]
            print(
                f"{name:<8} {row['decoded_gigabytes']:6.1f} GB decoded; resident {first:6.0f} MiB after the first, "
                f"{last:6.0f} MiB at the end, peak {row['peak']:6.0f} MiB",
                flush=True,
            )
    if options.json:
        files.write_text(options.json, json.dumps({"machine": machine(), "sources": rows}, indent=1))


if __name__ == "__main__":
    main()

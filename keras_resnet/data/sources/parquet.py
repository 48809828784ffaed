"""Image sets of Hugging Face in parquet files: laid out once as tar shards in the cache, and read from there."""

import hashlib
import io
import json
import os
import pathlib
import re
import tarfile
from collections.abc import Sequence
from typing import Any

from keras_resnet import files
from keras_resnet.arguments import suggestion
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.data.sources.listing import EXTENSIONS
from keras_resnet.data.sources.shards import find_shards, load_shards
from keras_resnet.data.sources.table_labels import MISSING
from keras_resnet.errors import BadValue, require

ROWS_AT_ONCE = 64
# Encoded images hardly shrink in parquet: a file that lays out more holds one image many times.
MAX_TIMES, SPARE_BYTES = 20, 64 * 2**20
LABEL_NAMES = ("label", "labels")
# Columns that hold numbers beside the label.
NUMBERED = re.compile(r".*id|.*index|idx|width|height|size|fold|split|year|.*count|.*number|.*path|.*name")
# Of the layout below; another one is made anew.
VERSION = 2


def load_parquet(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns the images of parquet files, which hold a column of encoded images and one of labels."""
    require("pyarrow.parquet", f"spec={spec!r}", "hf")
    import pyarrow

    shards = find_shards(spec, argument, options, suffix=".parquet")
    digest = hashlib.sha256(repr((VERSION, options.label_key)).encode())
    for path in (path for paths in shards.values() for path in paths):
        status = os.stat(path)
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    folder = files.cache_home() / "parquet" / digest.hexdigest()[:32]
    report: list[str] = []
    for split, paths in shards.items():
        for number, path in enumerate(paths):
            place = folder / f"{split}-{number:06d}.tar"
            if place.is_file():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            try:
                names = _copy(spec, path, place, options.label_key)
            except pyarrow.lib.ArrowException as error:
                raise BadValue(
                    f"{spec}: {path!r} cannot be read ({str(error).splitlines()[0]}). Allowed are whole parquet files. "
                    "Fetch it again."
                ) from error
            if names:
                files.write_text(folder / "classnames.txt", "".join(f"{name}\n" for name in names))
            report.append(f"laid out {path} in {folder}")
    hidden = [split for split in shards if split != "train" and _is_unlabeled(folder, split)]
    report += [f"ignored split {split!r} of {spec}, which holds no labels" for split in hidden]
    places = [place for place in sorted(folder.glob("*.tar")) if place.name.partition("-")[0] not in hidden]
    dataset = load_shards(spec, "", options, [os.fspath(place) for place in places])
    dataset.report = [*report, *dataset.report]
    return dataset


def _copy(spec: str, path: str, place: pathlib.Path, label_key: str | None) -> Sequence[str]:
    """Writes a parquet file as a tar shard; returns the names of the classes, if it has them."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as table:
        schema = table.schema_arrow
        image, label = _columns(spec, path, schema, label_key)

        most = SPARE_BYTES + MAX_TIMES * os.path.getsize(path)

        def write(half: pathlib.Path) -> None:
            row = 0
            with tarfile.open(half, "w") as tar:
                for batch in table.iter_batches(ROWS_AT_ONCE, columns=[image, label]):
                    for picture, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                        content, name = _content(spec, path, row, picture)
                        if value is None:
                            raise BadValue(f"{spec}: row {row} of {path!r} has no label. Fill it in, or leave it out.")
                        suffix = pathlib.PurePath(name).suffix.lower()
                        kind = suffix if suffix in EXTENSIONS else ".jpg"
                        for ending, data in ((kind, content), (".cls", _label(spec, path, row, value))):
                            member = tarfile.TarInfo(f"{row:08d}{ending}")
                            member.size = len(data)
                            tar.addfile(member, io.BytesIO(data))
                        if tar.offset > most:
                            raise BadValue(
                                f"{spec}: {path!r} has {os.path.getsize(path):,} bytes, and its images more than "
                                f"{tar.offset:,}. Allowed is {MAX_TIMES} times the file, which holds encoded images. "
                                "Leave repeated images out."
                            )
                        row += 1

        files.write_atomically(place, write)
        return _names(schema, label)


def _label(spec: str, path: str, row: int, value: Any) -> bytes:
    """Returns a label as it is written: a word, or a number without a fraction of zero."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    if isinstance(value, (list, dict)) or not text or text in MISSING:
        raise BadValue(
            f"{spec}: row {row} of {path!r} has the label {value!r}. Allowed is a number or a word. Choose another "
            "column as data.label_key, or write several labels into a table (csv:FILE)."
        )
    return text.encode()


def _content(spec: str, path: str, row: int, picture: Any) -> tuple[bytes, str]:
    """Returns the bytes of an image and the name of its file, if it has one."""
    content, name = (picture.get("bytes"), picture.get("path")) if isinstance(picture, dict) else (picture, None)
    if not isinstance(content, bytes):
        raise BadValue(
            f"{spec}: row {row} of {path!r} has no image in it. Allowed are the bytes of an encoded image, as Hugging "
            "Face's `push_to_hub` and `to_parquet` of embedded files write them. Embed the files."
        )
    return content, name or ""


def _columns(spec: str, path: str, schema: Any, label_key: str | None) -> tuple[str, str]:
    """Returns the names of the columns of the image and of the label."""
    import pyarrow

    def is_image(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(field.name == "bytes" and pyarrow.types.is_binary(field.type) for field in kind)
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    def is_label(kind: Any) -> bool:
        return pyarrow.types.is_integer(kind) or pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)

    images = [field.name for field in schema if is_image(field.type)]
    labels = [field.name for field in schema if is_label(field.type)]
    # What is called so is the label, whatever its type.
    label_column = next((name for name in LABEL_NAMES if name in schema.names and name not in images), None)
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    if label_key is not None and label_key not in (*labels, label_column):
        raise BadValue(
            f"label_key={label_key!r} was given with {spec}. {suggestion(label_key, labels)}Its columns for a label "
            f"are {labels}. Choose one of them."
        )
    likely = [name for name in labels if not NUMBERED.fullmatch(name.lower())]
    label = label_key or label_column or (labels[0] if len(labels) == len(likely) == 1 else None)
    if image is None or label is None:
        raise BadValue(
            f"{spec}: {path!r} has the columns {dict(zip(schema.names, map(str, schema.types), strict=True))}. Allowed "
            "is one of encoded images and one of labels, a number or a word. Choose the label as data.label_key, or "
            "name the columns 'image' and 'label'."
        )
    return image, label


def _names(schema: Any, label: str) -> Sequence[str]:
    """Returns the names of the classes that Hugging Face's description in the file gives a column of numbers."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    is_list = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    return [" ".join(name.split()) for name in names] if is_list else ()


def _is_unlabeled(folder: pathlib.Path, split: str) -> bool:
    """Returns whether the labels of a split are those of one that hides them: -1."""
    place = next(iter(sorted(folder.glob(f"{split}-*.tar"))))
    with tarfile.open(place, "r:") as tar:
        for member in tar:
            if member.name.endswith(".cls"):
                content = tar.extractfile(member)
                return content is not None and content.read() == b"-1"
    return False


PARQUET = Source("hf", load_parquet, "hf:PATH", options=("label_key",), endings=(".parquet",))

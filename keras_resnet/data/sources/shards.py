"""Images in tar shards as WebDataset lays them out, read from where they lie, so that any can be picked."""

import concurrent.futures
import dataclasses
import io
import json
import os
import pathlib
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.encoded import EncodedExamples, common_shape
from keras_resnet.data.examples.splits import divided, division
from keras_resnet.data.images.decoding import inspect_part
from keras_resnet.data.images.headers import Header, Part, apply_bad_image_policy
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.data.sources.listing import EXTENSIONS, split_of
from keras_resnet.errors import BadValue

THREADS = 8
# What ends the name of a member that holds a label: a number or a name, or JSON that has one; the first that there is.
# A text beside the others is a caption.
LABELS = ("cls", "json", "txt")
KEYS = ("label", "cls", "class")
NAMES = ("classnames.txt", "classes.txt")
LABEL_BYTES = 2**16
HEADER_BYTES = 2**20
MAX_SHARDS = 100_000


@dataclasses.dataclass
class Picture:
    """An image of a shard.

    Attributes:
        name: of its member.
        offset: of its first byte in the shard.
        size: in bytes.
        header: what it says about itself, or why it cannot be used.
        label: as it is written; None where there is none.
    """

    name: str
    offset: int
    size: int
    header: Header | str
    label: str | None = None


def load_shards(spec: str, argument: str, options: LoadOptions, paths: Sequence[str] | None = None) -> Dataset:
    """Returns the images of tar shards, read from where they lie."""
    if not options.task.is_exclusive:
        raise BadValue(
            f"task={options.task.name!r} was given with spec={spec!r}. Allowed is task='classification'. "
            "Use an npz: spec for regression."
        )
    shards = find_shards(spec, argument, options) if paths is None else _divided(spec, map(pathlib.Path, paths))
    report: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        pictures_of_split = {
            split: list(zip(paths, pool.map(lambda path: _pictures(spec, path, options), paths), strict=True))
            for split, paths in shards.items()
        }
    rows = {
        split: [(path, picture) for path, pictures in parts for picture in pictures]
        for split, parts in pictures_of_split.items()
    }
    everything = [row for split in rows.values() for row in split]
    if not everything:
        raise BadValue(
            f"{spec}: {sum(map(len, shards.values()))} shards hold no image. Allowed are members such as '000001.jpg' "
            "beside '000001.cls'. Look into a shard with tar -t."
        )
    bad = [(_named(*row), row[1].header) for row in everything if isinstance(row[1].header, str)]
    apply_bad_image_policy([(name, str(reason)) for name, reason in bad], len(everything), options, report)
    names = _class_names(spec, pathlib.Path(everything[0][0]).parent, [picture for _, picture in everything], options)
    splits = {split: _examples(spec, part, names, options) for split, part in rows.items()}
    for split, examples in splits.items():
        counts = np.bincount(examples.labels, minlength=len(names))
        summary = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        report.append(f"split {split!r}: {len(examples)} images in {len(shards[split])} shards: {summary}")
    counted, count = len(splits), len(report) - len(splits)
    splits = divided(splits, options)
    report[count] += division(splits, counted)
    return Dataset(spec, dict(splits), class_names=names, num_outputs=len(names), report=report)


def find_shards(spec: str, argument: str, options: LoadOptions, suffix: str = ".tar") -> dict[str, list[str]]:
    """Returns the paths of the shards of each split, in order."""
    root = options.data_dir or pathlib.Path()
    paths: list[pathlib.Path] = []
    for pattern in _expanded(spec, argument):
        place = root / pathlib.Path(pattern).expanduser()
        if place.is_dir():
            paths += sorted(place.rglob(f"*{suffix}"))
        elif place.exists():
            paths.append(place)
        elif re.search(r"[*?\[]", pattern):
            anchor = pathlib.Path(place.anchor) if place.is_absolute() else pathlib.Path()
            paths += sorted(anchor.glob(str(place.relative_to(anchor))))
        else:
            raise BadValue(f"{spec}: {str(place)!r} does not exist. Check the path and --data-dir.")
    if not paths:
        raise BadValue(
            f"{spec}: no shard matches in {str(root.absolute())!r}. Allowed are a folder with {suffix} files, a "
            f"pattern such as 'shards/*{suffix}', and a range such as 'train-{{0000..0146}}{suffix}'. Correct it."
        )
    for path in paths:
        if not path.is_file():  # a named pipe has no end
            raise BadValue(f"{spec}: {str(path)!r} is not a regular file. Name {suffix} files.")
    return _divided(spec, dict.fromkeys(paths))


def _divided(spec: str, paths: Iterable[pathlib.Path]) -> dict[str, list[str]]:
    """Returns the shards of each split, which their names say, or the folders in which they lie."""
    shards: dict[str, list[str]] = {}
    whole = [path.absolute() for path in paths]
    root = os.path.commonpath([path.parent for path in whole])
    for path in whole:
        # The nearest folder first; what all shards have in common says nothing.
        names = [path.name, *reversed(path.parent.relative_to(root).parts)]
        split = next((split for name in names if (split := split_of(name)) is not None), "train")
        shards.setdefault(split, []).append(str(path))
    if "train" not in shards:
        if len(shards) > 1:
            raise BadValue(f"{spec}: the shards are of {', '.join(shards)}, and none of train. Name those too.")
        shards = {"train": next(iter(shards.values()))}
    return {split: shards[split] for split in ("train", "validation", "test") if split in shards}


def _expanded(spec: str, pattern: str) -> list[str]:
    """Returns the patterns that a range in braces stands for."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_SHARDS:
        raise BadValue(f"{spec}: {match[0]} is not a range of 1 to {MAX_SHARDS} shards. Correct it.")
    width = len(match[1])
    numbers = (f"{number:0{width}d}" for number in range(first, last + 1))
    return [done for number in numbers for done in _expanded(spec, pattern.replace(match[0], number, 1))]


class _Headers(io.RawIOBase):
    """The headers of a tar file, which are small: a long name, a few attributes."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def seek(self, place: int, whence: int = 0) -> int:
        """Moves to a place of the file."""
        return self.file.seek(place, whence)

    def tell(self) -> int:
        """Returns the place in the file."""
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes of a header."""
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes")
        return self.file.read(size)


def _pictures(spec: str, path: str, options: LoadOptions) -> list[Picture]:
    """Returns the images of a shard with their labels, in the order of the shard."""
    pictures: dict[str, Picture] = {}
    labels: dict[str, dict[str, str]] = {}
    further: set[str] = set()  # pictures whose names have more than one dot
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=_Headers(file), mode="r:") as tar:
            whole = os.fstat(file.fileno()).st_size
            for member in tar:
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name!r} has the size {member.size}")
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > whole:
                    raise tarfile.ReadError("the file ends within a member")
                folder, _, base = member.name.rpartition("/")
                if base.startswith("."):  # "._000001.jpg" of macOS
                    continue
                stem, _, suffix = base.partition(".")
                if "." in suffix:  # as in "22.05.png"; a second picture of an example is "000001.mask.png"
                    stem, _, suffix = base.rpartition(".")
                    further.add(f"{folder}/{stem}")
                key = f"{folder}/{stem}"
                part = Part(file, member.offset_data, member.size)
                if f".{suffix.lower()}" in EXTENSIONS:
                    if key in pictures:
                        raise tarfile.ReadError(f"it holds two images of the name {key!r}")
                    header = inspect_part(part, member.size, options.max_pixels)  # type: ignore[arg-type]
                    pictures[key] = Picture(member.name, member.offset_data, member.size, header)
                elif suffix.lower() in LABELS and member.size <= LABEL_BYTES and (found := _label(suffix, part.read())):
                    labels.setdefault(key, {})[suffix.lower()] = found
    except (OSError, tarfile.TarError, ValueError) as error:
        raise BadValue(
            f"{spec}: {path!r} cannot be read ({error}). Allowed are whole, uncompressed tar files. Make it again."
        ) from error
    for key, picture in pictures.items():
        found_labels = labels.get(key, {})
        picture.label = next((found_labels[kind] for kind in LABELS if kind in found_labels), None)
    # A further picture of an example, which has its label under the name before its first dot.
    beside = {key for key in further & set(pictures) if pictures[key].label is None and _first_name(key) in labels}
    return [picture for key, picture in pictures.items() if key not in beside]


def _first_name(key: str) -> str:
    """Returns the name of a member without whatever follows its first dot."""
    folder, slash, base = key.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _label(suffix: str, content: bytes) -> str | None:
    """Returns the class that a member declares; None if it declares none."""
    text = content.decode("utf-8").strip()
    if suffix.lower() != "json":
        return text or None
    values: Any = json.loads(text)
    labels = [values[key] for key in KEYS if isinstance(values, dict) and key in values]
    return str(labels[0]) if labels and isinstance(labels[0], (str, int)) else None


def _class_names(spec: str, folder: pathlib.Path, pictures: Sequence[Picture], options: LoadOptions) -> tuple[str, ...]:
    """Returns the names of the classes, in the order of their numbers."""
    missing = [picture.name for picture in pictures if picture.label is None]
    if missing:
        raise BadValue(
            f"{spec}: {len(missing)} of {len(pictures)} images have no label, the first is {missing[0]!r}. Allowed is "
            "a member beside each, such as '000001.cls' with a number or a name, or '000001.json' with 'label'. Add it."
        )
    labels = {str(picture.label) for picture in pictures}
    negative = [picture for picture in pictures if re.fullmatch(r"-\d+", str(picture.label))]
    if negative:
        raise BadValue(
            f"{spec}: {len(negative)} of {len(pictures)} images have a negative label, the first is "
            f"{negative[0].name!r} with {negative[0].label}. Allowed are numbers from 0 on. Leave these images out."
        )
    are_numbers = all(label.isascii() and label.isdigit() and len(label) < 7 for label in labels)
    written = next((_lines(folder / name) for name in NAMES if (folder / name).is_file()), None)
    if options.class_names is not None:
        for picture in pictures if are_numbers and written is not None else ():
            # A number is of the data's own names, whose order need not be the model's.
            number = int(str(picture.label))
            picture.label = written[number] if written is not None and number < len(written) else picture.label
        return options.class_names
    if not are_numbers:
        names = tuple(sorted(labels))
    else:
        count = max(map(int, labels)) + 1
        if written is not None and len(written) < count:
            raise BadValue(
                f"{spec}: {str(folder)!r} names {len(written)} classes, and a label says {count - 1}. Complete "
                "the names."
            )
        # Without names numbers stand for themselves: from 1, or with gaps, they make no classes that no picture has.
        names = tuple(written or sorted(labels, key=lambda label: (int(label), label)))
    if len(names) < 2 or len(set(names)) < len(names):
        raise BadValue(f"{spec} has the classes {names[:10]}. Allowed are two or more different ones. Correct them.")
    return names


def _lines(path: pathlib.Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def _examples(
    spec: str, rows: Sequence[tuple[str, Picture]], names: tuple[str, ...], options: LoadOptions
) -> EncodedExamples:
    readable = [(path, picture, header) for path, picture in rows if isinstance(header := picture.header, Header)]
    place = {name: index for index, name in enumerate(names)}
    labels = np.array([place.get(str(picture.label), -1) for _, picture, _ in readable], "int32")
    unknown = labels < 0
    if unknown.any():
        numbers = [str(readable[index][1].label) for index in np.flatnonzero(unknown)]
        # Numbers stand for the names in their order.
        labels[unknown] = [
            int(number) if number.isascii() and number.isdigit() and int(number) < len(names) else -1
            for number in numbers
        ]
    if (labels < 0).any():
        path, picture, _ = readable[int(np.flatnonzero(labels < 0)[0])]
        raise BadValue(
            f"{spec}: {_named(path, picture)} has the label {picture.label!r}. Allowed are {', '.join(names[:10])}"
            f"{', ...' * (len(names) > 10)}. Correct it."
        )
    orientations = np.array([header.orientation if options.apply_exif else 1 for _, _, header in readable], "int32")
    shapes = [
        (header.width, header.height) if turned >= 5 else (header.height, header.width)
        for (_, _, header), turned in zip(readable, orientations, strict=True)
    ]
    return EncodedExamples(
        _objects(os.fsencode(path) for path, _, _ in readable),
        labels,
        orientations,
        common_shape(shapes),
        _objects(f"{_named(path, picture)} {picture.size}" for path, picture, _ in readable),
        _objects(header.signature for _, _, header in readable),
        are_files=False,
        is_deep=any(header.bits == 16 for _, _, header in readable),
        largest=max((height * width for height, width in shapes), default=0),
        spans=np.array([(picture.offset, picture.size) for _, picture, _ in readable], "int64").reshape(-1, 2),
    )


def _objects(values: Iterator[Any]) -> np.ndarray:
    objects = list(values)
    array = np.empty(len(objects), object)
    array[:] = objects
    return array


def _named(path: str, picture: Picture) -> str:
    return f"{os.path.basename(path)}/{picture.name}"


SHARDS = Source("wds", load_shards, "wds:PATTERN", endings=(".tar",))

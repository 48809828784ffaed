"""Sets prepared by TensorFlow Datasets: read from disk, never downloaded."""

import hashlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.arguments import suggestion
from keras_resnet.data.dataset import Dataset
from keras_resnet.data.examples.arrays import ArrayExamples
from keras_resnet.data.examples.encoded import EncodedExamples, known
from keras_resnet.data.examples.plan import Plan
from keras_resnet.data.examples.splits import divided, rounded_count
from keras_resnet.data.examples.streamed import Shard, StreamedExamples
from keras_resnet.data.images.decoding import decode
from keras_resnet.data.images.headers import BadImageError, reason_of, unreadable
from keras_resnet.data.options import LoadOptions, Source
from keras_resnet.errors import BadValue, MissingPackage, require
from keras_resnet.tasks.labels import check_labels

SPLITS = ("train", "validation", "test")
DEFAULT_DATA_DIR = "~/tensorflow_datasets"


def load_tfds(spec: str, argument: str, options: LoadOptions) -> Dataset:
    """Returns a prepared set: decoded in memory, encoded in memory, or streamed, whichever fits."""
    if not options.task.is_exclusive:
        raise BadValue(
            f"task={options.task.name!r} was given with spec={spec!r}. Allowed is task='classification'. "
            "Use an npz: spec for regression."
        )
    tensorflow_datasets = require("tensorflow_datasets", f"spec={spec!r}")
    try:  # loaded only now, and with it the descriptions that protobuf must understand
        _ = tensorflow_datasets.features
    except AttributeError:
        raise MissingPackage(
            f"spec={spec!r} needs tensorflow-datasets, which does not load: its tensorflow-metadata wants a newer "
            "protobuf than this TensorFlow allows. Run: pip install 'tensorflow-metadata<1.17.2'"
        ) from None
    folder = find_prepared(spec, argument, options.data_dir)
    _check_features(spec, folder)
    try:
        info = tensorflow_datasets.builder_from_directory(folder).info
    except Exception as error:  # whatever a damaged description makes TFDS raise
        raise BadValue(
            f"{spec} in {folder} cannot be opened: {error}. Allowed is a folder that TFDS finished preparing. "
            "Delete it and prepare the set again."
        ) from error
    report: list[str] = []
    streams = _streams(spec, info, options, report)
    labels = info.features[_keys(spec, info, options.label_key)[1]]
    names = tuple(labels.names) if labels.names else tuple(str(label) for label in range(labels.num_classes))
    splits = _hold(streams, len(names), options, report)
    return Dataset(spec, splits, class_names=names, num_outputs=len(names), report=report)


def _check_features(spec: str, folder: pathlib.Path) -> None:
    """Raises ValueError where a set's description names a class outside of TFDS, which TFDS would import."""
    names: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names.extend(
            str(value) for key, value in pairs if key in ("pythonClassName", "python_class_name") or key == "type"
        )

    path = folder / "features.json"
    try:
        json.loads(path.read_text("utf-8"), object_pairs_hook=note)
    except (OSError, ValueError, RecursionError):
        return  # TFDS says what it lacks
    known_class = re.compile(r"tensorflow_datasets(\.\w+)+", re.ASCII)
    foreign = [name for name in names if "." in name and not known_class.fullmatch(name)]
    if foreign:
        raise BadValue(
            f"{spec}: {os.fspath(path)!r} names {foreign[0]!r}, whose module TFDS would run. Allowed are the features "
            "that TFDS has. Take the set from whom you trust, and prepare it again."
        )


def find_prepared(spec: str, argument: str, data_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder of a prepared set, of the newest version where the spec names none."""
    root = (data_dir or pathlib.Path(DEFAULT_DATA_DIR)).expanduser()
    name, _, version = argument.partition(":")
    if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", name) or ".." in name:
        raise BadValue(
            f"spec={spec!r} does not name a dataset. Allowed is 'tfds:NAME', 'tfds:NAME/CONFIG' or "
            "'tfds:NAME:VERSION'. Correct the name."
        )
    folders = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    prepared = sorted((folder for folder in folders if _version(folder)), key=_version)
    for folder in reversed(prepared):
        if version in ("", folder.name):
            return folder
    names = [folder.name for folder in prepared]
    half = [path.name for path in (root / name).glob("incomplete*")] if (root / name).is_dir() else []
    if names:
        what = f"versions {names}"
    elif half:
        what = f"an unfinished preparation, {half[0]}"
    else:
        others = sorted({path.parents[1].relative_to(root).as_posix() for path in root.glob("*/*/dataset_info.json")})
        what = f"only {others}" if others else "no prepared set"
    suffix = f":{version}" if version else ""
    raise BadValue(
        f"{spec} is not prepared in data_dir={str(root)!r}, which holds {what}. Nothing is downloaded here. Prepare it "
        f'once with: python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}{suffix}', data_dir='{root}').download_and_prepare()\" "
        "or pass the data_dir where it is."
    )


def _version(folder: pathlib.Path) -> tuple[int, ...]:
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", folder.name)
    return tuple(int(part) for part in match.groups()) if match else ()


def _keys(spec: str, info: Any, label_key: str | None) -> tuple[str, str]:
    """Returns the names of the image and the label feature."""
    import tensorflow_datasets as tfds

    features = info.features
    images = [
        key for key, kind in features.items() if isinstance(kind, tfds.features.Image) and kind.np_dtype == np.uint8
    ]
    labels = sorted(
        key
        for key, kind in features.items()
        if isinstance(kind, tfds.features.ClassLabel) and kind.num_classes is not None
    )
    if label_key is not None and label_key not in labels:
        raise BadValue(
            f"label_key={label_key!r} was given with {spec}. {suggestion(label_key, labels)}Its class labels are "
            f"{labels}. Choose one of them."
        )
    usual = info.supervised_keys if info.supervised_keys and len(info.supervised_keys) == 2 else ("image", "label")
    image = usual[0] if usual[0] in images else images[0] if len(images) == 1 else None
    label = label_key or (usual[1] if usual[1] in labels else labels[0] if len(labels) == 1 else None)
    if image is None or (label is None and not labels):
        raise BadValue(
            f"{spec} has the features {dict(features)}. Allowed are sets with a uint8 image and a class label. "
            "Convert it to folder: or npz:, or choose another set."
        )
    if label is None:
        raise BadValue(
            f"{spec} has several class labels, {labels}, and none by default. Choose one of them as label_key, in a "
            "recipe data.label_key."
        )
    return image, label


def _streams(spec: str, info: Any, options: LoadOptions, report: list[str]) -> dict[str, StreamedExamples]:
    """Returns a reader of each split; a split that holds no labels is left out and reported."""
    image_key, label_key = _keys(spec, info, options.label_key)
    if "train" not in info.splits:
        raise BadValue(
            f"{spec} has the splits {sorted(info.splits)}. Allowed are sets with a 'train' split. Choose another set."
        )
    report.extend(f"ignored split {name!r} of {spec}" for name in sorted(set(info.splits) - set(SPLITS)))
    streams = {}
    for name in SPLITS:
        if name not in info.splits or not info.splits[name].num_examples:
            continue
        stream = _stream(f"{spec} split {name!r}", info, info.splits[name], image_key, label_key)
        if int(next(iter(_named(stream, stream.records().map(stream.parse))))[1]) < 0:
            report.append(f"ignored split {name!r} of {spec}, which holds no labels")
            continue
        streams[name] = stream
    return streams


def _stream(name: str, info: Any, split: Any, image_key: str, label_key: str) -> StreamedExamples:
    import tensorflow_datasets as tfds

    features, image_feature = info.features, info.features[image_key]
    num_classes = features[label_key].num_classes
    partial = tfds.decode.PartialDecoding({image_key: features[image_key], label_key: features[label_key]})
    selected = partial.extract_features(features)
    shards = tuple(Shard(str(part.filename), part.skip, part.take) for part in split.file_instructions)
    missing = [shard.path for shard in shards if not pathlib.Path(shard.path).is_file()]
    if missing:
        raise BadImageError(
            f"{name} lacks {len(missing)} of {len(shards)} files, the first is {missing[0]}. "
            "Allowed is a folder that TFDS finished preparing. Prepare the set again."
        )

    def parse(record: Any) -> tuple[Any, Any]:
        example = selected.deserialize_example(record, decoders={image_key: tfds.decode.SkipDecoding()})
        label = example[label_key]
        in_range = tf.logical_and(label >= -1, label < num_classes)
        checked = tf.debugging.Assert(in_range, [f"{name} holds a label outside 0 to {num_classes - 1}:", label])
        with tf.control_dependencies([checked] if checked is not None else []):
            return example[image_key], tf.cast(label, tf.int32)

    shape = tuple(image_feature.shape)
    is_fixed = None not in shape

    def pixels(contents: Any, window: Any = None, scaled_for: tuple[int, int] | None = None) -> Any:
        # Sets of one size keep their own channels, one for gray; others are read as RGB, as files are.
        if not is_fixed:
            return decode(contents, 1, window, scaled_for=scaled_for)
        image = image_feature.decode_example(contents)
        if window is None:
            return image
        top, left, height, width = window(shape[0], shape[1])
        return image[top : top + height, left : left + width]

    return StreamedExamples(
        name,
        shards,
        parse,
        pixels,
        shape if is_fixed else (*shape[:2], 3),
        -(-split.num_bytes // split.num_examples),
    )


def _hold(
    streams: dict[str, StreamedExamples], num_classes: int, options: LoadOptions, report: list[str]
) -> dict[str, Any]:
    """Returns the splits in the quickest form that fits in memory, divided where one is missing."""
    decoded = sum(
        len(stream) * int(np.prod([size or 2**31 for size in stream.image_shape], dtype="float64"))
        for stream in streams.values()
    )
    encoded = sum(len(stream) * stream.record_bytes for stream in streams.values())
    if decoded > options.in_memory_limit and encoded > options.in_memory_limit and options.fold is None:
        return _divide_head(streams, options, report)
    read = _decode if decoded <= options.in_memory_limit else _encode
    splits = {name: read(stream, num_classes) for name, stream in streams.items()}
    return divided(splits, options)


def _decode(stream: StreamedExamples, num_classes: int) -> ArrayExamples:
    images = np.empty((len(stream), *known(stream.image_shape)), "uint8")
    labels = np.empty(len(stream), "int32")
    first = 0
    for image_batch, label_batch in _named(stream, stream.finite(Plan(512))):
        images[first : first + len(label_batch)] = image_batch
        labels[first : first + len(label_batch)] = label_batch
        first += len(label_batch)
    return ArrayExamples(images, check_labels(labels, num_classes, where=f"labels of {stream.name}"))


def _encode(stream: StreamedExamples, num_classes: int) -> EncodedExamples:
    pairs = list(_named(stream, stream.records().map(stream.parse).apply(_count(len(stream)))))
    contents = np.empty(len(pairs), object)
    contents[:] = [image.numpy() for image, _ in pairs]
    labels = np.array([int(label) for _, label in pairs], "int32")
    identities = [
        f"{stream.name}[{index}], sha256 {hashlib.sha256(image).hexdigest()[:16]}"
        for index, image in enumerate(contents)
    ]
    return EncodedExamples(
        contents,
        check_labels(labels, num_classes, where=f"labels of {stream.name}"),
        np.ones(len(pairs), "int32"),
        stream.image_shape,
        np.array(identities, object),
        signatures=np.array([hashlib.sha256(image).hexdigest() for image in contents], object),
        are_files=False,
    )


def _count(count: int) -> Any:
    return tf.data.experimental.assert_cardinality(count)


def _named(stream: StreamedExamples, dataset: tf.data.Dataset) -> Any:
    """Iterates over `dataset`; an error says of which dataset and split it is."""
    try:
        yield from dataset
    except tf.errors.OpError as error:
        raise unreadable(stream.name, reason_of(error)) from error


def _divide_head(
    streams: dict[str, StreamedExamples], options: LoadOptions, report: list[str]
) -> dict[str, StreamedExamples]:
    """Takes missing splits from the end of the training records, which TFDS has shuffled when it wrote them."""
    splits = dict(streams)
    shares = [("validation", options.validation_fraction)]
    if set(streams) == {"train"}:
        shares.insert(0, ("test", options.test_fraction))
    for name, fraction in shares:
        train = splits["train"]
        if name in splits or not fraction:
            continue
        count = rounded_count(fraction, len(train))
        if not 0 < count < len(train):
            raise BadValue(
                f"{name}_fraction={fraction:g} takes {count} of {len(train)} examples. "
                "Allowed is at least one example on each side. Use another fraction."
            )
        splits["train"] = train.take(np.arange(len(train) - count))
        splits[name] = train.take(np.arange(len(train) - count, len(train)))
        report.append(f"split {name!r} is the last {count} training records; it is not stratified by class")
    return {name: splits[name] for name in SPLITS if name in splits}


TFDS = Source("tfds", load_tfds, "tfds:NAME[:VERSION]", options=("label_key",), is_path=False)

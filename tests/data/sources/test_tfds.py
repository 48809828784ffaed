"""Sets prepared by TFDS: found, read three ways, streamed resumably, and their faults named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

from keras_resnet import data, evaluation, preprocessing, training  # noqa: E402
from keras_resnet.data.examples.plan import Plan  # noqa: E402

NAMES = ["ant", "bee", "cow"]


SHARDS = 4


def to_array_records(folder):
    """Writes the records of a prepared set as TFDS writes them with `file_format="array_record"`."""
    module = pytest.importorskip("array_record.python.array_record_module")
    for path in folder.glob("*.tfrecord-*"):
        writer = module.ArrayRecordWriter(str(path).replace(".tfrecord", ".array_record"), "group_size:1")
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            writer.write(record)
        writer.close()
        path.unlink()
    description = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**description, "fileFormat": "array_record"}))


def prepare(root, name, shape, image_of, labels=("label",), supervised=("image", "label")):
    """Writes what TFDS writes: records, features, and a description; the labels count on from one another."""
    folder = root / name / "1.2.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape),
            **{key: tfds.features.ClassLabel(names=NAMES) for key in labels},
        }
    )
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    splits = []
    for split, numbers in (("train", range(60)), ("test", range(60, 84))):
        lengths, num_bytes = [], 0
        for shard in range(SHARDS):
            path = folder / f"{name}-{split}.tfrecord-{shard:05d}-of-{SHARDS:05d}"
            records = [
                features.serialize_example(
                    {"image": image_of(number), **{key: (number + place) % 3 for place, key in enumerate(labels)}}
                )
                for number in np.array_split(numbers, SHARDS)[shard]
            ]
            with tf.io.TFRecordWriter(str(path)) as writer:
                for record in records:
                    writer.write(record)
            lengths.append(len(records))
            num_bytes += sum(map(len, records))
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=num_bytes,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=folder, template=template, dataset_name=name, split=split, filetype_suffix="tfrecord"
                ),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=splits,
        filename_template=template,
        supervised_keys=supervised,
    )
    description = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**description, "name": name, "version": "1.2.0"}))


def many_sizes(number):
    return np.full((8 + number % 5, 9 + number % 7, 3), number, "uint8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    prepare(root, "tiny_colors", (10, 12, 3), lambda number: np.full((10, 12, 3), number, "uint8"))
    prepare(root, "many_sizes", (None, None, 3), many_sizes)
    return root


@pytest.fixture
def data_dir(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "tfds")


LIMITS = {"decoded": 2**30, "encoded": 15_000, "streamed": 0}


def flat(batches):
    return [array for batch in batches.as_numpy_iterator() for array in batch]


@pytest.mark.parametrize("how", LIMITS)
def test_every_example_is_read_once_however_it_is_held(prepared, how):
    dataset = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=LIMITS[how])
    kind = {"decoded": "ArrayExamples", "encoded": "EncodedExamples", "streamed": "StreamedExamples"}[how]
    assert {type(examples).__name__ for examples in dataset.splits.values()} == {kind}
    assert dataset.sizes == {"train": 54, "validation": 6, "test": 24}
    assert dataset.class_names == tuple(NAMES) and dataset.image_shape == (10, 12, 3)
    seen = []
    for split in dataset.sizes:
        batches = dataset.batches(split, 5)
        assert int(batches.cardinality()) == -(-dataset.sizes[split] // 5)
        for images, labels in batches.as_numpy_iterator():
            assert (images[:, 0, 0, 0] % 3 == labels).all()
            seen += images[:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(84))


@pytest.mark.slow
@pytest.mark.parametrize("how", LIMITS)
def test_array_records_give_the_batches_of_the_same_set_in_tfrecords(prepared, tmp_path, how):
    to_array_records(shutil.copytree(prepared / "tiny_colors", tmp_path / "tiny_colors") / "1.2.0")
    found, same = (
        data.load("tfds:tiny_colors", data_dir=root, in_memory_limit=LIMITS[how]) for root in (tmp_path, prepared)
    )
    assert found.sizes == same.sizes
    for one, other in zip(*(flat(one.training_batches(8, seed=3).take(20)) for one in (found, same)), strict=True):
        np.testing.assert_array_equal(one, other)
    part = flat(found.training_batches(8, seed=3, start_step=5, shard=(1, 2)).take(2))
    np.testing.assert_array_equal(part[0], flat(same.training_batches(8, seed=3, start_step=5).take(1))[0][4:])


@pytest.mark.slow
@pytest.mark.parametrize("how", LIMITS)
def test_training_goes_on_bit_identically_from_any_step(prepared, how):
    dataset = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=LIMITS[how])
    options = {"seed": 3, "augmentation": preprocessing.augmentation(flip=True, pad_and_crop=2)}
    assert dataset.training_batches(8, **options).cardinality() == tf.data.INFINITE_CARDINALITY
    whole = flat(dataset.training_batches(8, **options).take(20))
    for start in (1, 6, 7, 17):
        tf.random.set_seed(start)
        for expected, found in zip(
            whole[2 * start :],
            flat(dataset.training_batches(8, start_step=start, **options).take(20 - start)),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", LIMITS)
def test_each_epoch_holds_every_example_once_in_an_order_of_its_own(prepared, how):
    dataset = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=LIMITS[how])

    def epochs(seed):
        batches = dataset.training_batches(9, seed=seed).take(18).as_numpy_iterator()
        return np.concatenate([images[:, 0, 0, 0] for images, _ in batches]).reshape(3, 54)

    first, other = epochs(1), epochs(2)
    for epoch in (*first, *other):
        assert len(set(epoch)) == 54
    assert len({tuple(epoch) for epoch in (*first, *other, np.sort(first[0]))}) == 7


def test_records_of_one_file_are_shuffled_by_epoch_and_seed(prepared):
    stream = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=0).splits["train"]
    one_file = dataclasses.replace(stream, shards=stream.shards[:1])

    def epochs(seed):
        plan = Plan(batch_size=15, seed=seed, start_step=0, image_size=None, crop="none")
        return [tuple(images[:, 0, 0, 0]) for images, _ in one_file.training(plan).take(3).as_numpy_iterator()]

    orders = {*epochs(0), *epochs(1), tuple(range(15))}
    assert len(orders) == 7 and {tuple(sorted(numbers)) for numbers in orders} == {tuple(range(15))}


@pytest.mark.parametrize("how", ["encoded", "streamed"])
def test_pictures_of_many_sizes_are_cropped(prepared, how):
    dataset = data.load("tfds:many_sizes", data_dir=prepared, in_memory_limit=2**25 if how == "encoded" else 0)
    assert dataset.image_shape == (None, None, 3)
    images, labels = next(iter(dataset.training_batches(8, seed=0, image_size=6)))
    assert images.shape == (8, 6, 6, 3)
    np.testing.assert_array_equal(np.round(images[:, 0, 0, 0]).astype(int) % 3, labels)
    again = next(iter(dataset.training_batches(8, seed=0, image_size=6)))[0]
    np.testing.assert_array_equal(images, again)


def test_the_newest_version_is_taken_and_another_may_be_named(data_dir):
    newer = shutil.copytree(data_dir / "tiny_colors" / "1.2.0", data_dir / "tiny_colors" / "1.10.0")
    info = json.loads((newer / "dataset_info.json").read_text())
    info["version"] = "1.10.0"
    info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
    (newer / "dataset_info.json").write_text(json.dumps(info))
    assert data.load("tfds:tiny_colors", data_dir=data_dir).sizes == {"train": 49, "validation": 5, "test": 6}
    assert data.load("tfds:tiny_colors:1.2.0", data_dir=data_dir).sizes["test"] == 24
    with pytest.raises(ValueError, match=r"holds versions \['1.2.0', '1.10.0'\]"):
        data.load("tfds:tiny_colors:9.9.9", data_dir=data_dir)


def test_a_set_that_is_not_prepared_says_what_to_do(data_dir, tmp_path):
    with pytest.raises(ValueError, match="which holds only .*tiny_colors.*Nothing is downloaded.*download_and_prepare"):
        data.load("tfds:cifar11", data_dir=data_dir)
    with pytest.raises(ValueError, match="no prepared set"):
        data.load("tfds:cifar10", data_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="does not name a dataset"):
        data.load("tfds:../../etc", data_dir=data_dir)


def test_a_half_prepared_set_is_refused(data_dir):
    folder = data_dir / "tiny_colors"
    (folder / "1.2.0").rename(folder / "incomplete.ABC_1.2.0")
    (folder / "incomplete.ABC_1.2.0" / "dataset_info.json").unlink()
    with pytest.raises(ValueError, match="an unfinished preparation, incomplete.ABC_1.2.0"):
        data.load("tfds:tiny_colors", data_dir=data_dir)


def test_missing_files_are_counted_and_named(data_dir):
    shards = sorted((data_dir / "tiny_colors" / "1.2.0").glob("*-train.tfrecord*"))
    shards[0].unlink()
    with pytest.raises(
        data.BadImageError, match=f"split 'train' lacks 1 of {len(shards)} files, the first is {shards[0]}"
    ):
        data.load("tfds:tiny_colors", data_dir=data_dir)


@pytest.mark.parametrize("description", ["dataset_info.json", "features.json"])
def test_a_damaged_description_is_refused(data_dir, description):
    path = data_dir / "tiny_colors" / "1.2.0" / description
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="tfds:tiny_colors in .* cannot be opened"):
        data.load("tfds:tiny_colors", data_dir=data_dir)


DAMAGES = {
    "a flipped bit": lambda content: content[:400] + bytes([content[400] ^ 4]) + content[401:],
    "a wrong check sum": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "the end missing": lambda content: content[:-30],
    "nothing left": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("how", LIMITS)
def test_damaged_records_are_named_by_set_and_split(data_dir, damage, how):
    path = sorted((data_dir / "tiny_colors" / "1.2.0").glob("*-train.tfrecord*"))[-1]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    def read():
        dataset = data.load("tfds:tiny_colors", data_dir=data_dir, in_memory_limit=LIMITS[how])
        with data.explain_decode_errors(dataset):
            for split in dataset.sizes:
                for _ in dataset.batches(split, 8):
                    pass

    with pytest.raises(data.BadImageError, match="tfds:tiny_colors split 'train' cannot be read"):
        read()


def test_the_fingerprint_tells_versions_and_splits_apart(prepared):
    for limit in LIMITS.values():
        prints = [
            data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=limit, **options).fingerprint
            for options in ({}, {}, {"validation_fraction": 0.2})
        ]
        assert prints[0] == prints[1] != prints[2]


@pytest.mark.data
def test_the_real_cifar_10_is_read(real_data):
    dataset = data.load("tfds:cifar10", data_dir=real_data / "tfds")
    assert dataset.sizes == {"train": 45000, "validation": 5000, "test": 10000}
    assert dataset.class_names[0] == "airplane" and dataset.image_shape == (32, 32, 3)
    images, labels = dataset.arrays("test")
    assert np.bincount(labels).tolist() == [1000] * 10
    # The channel means of the test images, as published with many CIFAR-10 recipes: 0.494, 0.485, 0.450.
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)) / 255, [0.494, 0.485, 0.450], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("how", LIMITS)
def test_the_epochs_of_a_set_are_in_random_orders_however_it_is_held(prepared, how):
    """The former order kept half of the neighbors of such sets together in some epochs; here by chance two do."""
    dataset = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=LIMITS[how])
    size, epochs = dataset.sizes["train"], 120
    batches = dataset.training_batches(size, seed=4).take(epochs).as_numpy_iterator()
    found = np.stack([images[:, 0, 0, 0] for images, _ in batches]).astype(int)
    places = np.argsort(np.argsort(found, axis=1), axis=1)  # numbers of the examples, without gaps
    neighbors = (np.abs(np.diff(places, axis=1)) == 1).sum(axis=1)
    assert abs(neighbors.mean() - 2 * (size - 1) / size) < 5 * np.sqrt(2 / epochs) and neighbors.max() < 14
    assert abs((places == np.arange(size)).sum(axis=1).mean() - 1) < 5 / np.sqrt(epochs)
    assert abs(places[:, 0].mean() - (size - 1) / 2) < 5 * size / np.sqrt(12 * epochs)
    assert len({order.tobytes() for order in places}) == epochs


@pytest.mark.parametrize("how", LIMITS)
def test_repeated_augmentation_holds_an_example_several_times_however_it_is_held(prepared, how):
    dataset = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=LIMITS[how])
    options = {"seed": 1, "repeats": 3}
    whole = [images[:, 0, 0, 0] for images, _ in dataset.training_batches(12, **options).take(8).as_numpy_iterator()]
    for batch in whole:  # 12 places, 4 examples
        assert np.array_equal(batch, np.repeat(batch[::3], 3)) and len(set(batch)) == 4
    first, second = np.concatenate(whole[:4]), np.concatenate(whole[4:])
    assert len(set(first)) == 16 and len(set(second)) == 16 and first.tolist() != second.tolist()
    rest = dataset.training_batches(12, start_step=2, **options).take(6).as_numpy_iterator()
    assert all(np.array_equal(images[:, 0, 0, 0], batch) for (images, _), batch in zip(rest, whole[2:], strict=True))


def test_the_shards_of_streamed_batches_are_the_batches_of_one_process(prepared):
    dataset = data.load("tfds:many_sizes", data_dir=prepared, in_memory_limit=0)
    options = {"seed": 3, "start_step": 1, "image_size": 12, "crop": "random"}
    whole = dataset.training_batches(4, **options).take(4).as_numpy_iterator()
    parts = [dataset.training_batches(4, shard=(k, 2), **options).take(4).as_numpy_iterator() for k in range(2)]
    for (images, labels), *shards in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([part for part, _ in shards]), images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in shards]), labels)


@pytest.mark.parametrize("count", [2, 3])
def test_a_process_decodes_its_part_of_streamed_batches_alone_in_evaluation(prepared, count):
    dataset = data.load("tfds:many_sizes", data_dir=prepared, in_memory_limit=0)
    stream = dataset.splits["test"]
    decoded = []

    def decode(contents, *window):
        tf.numpy_function(lambda image: decoded.append(hash(image)) or np.int64(0), [contents], tf.int64)
        return stream.decode(contents, *window)

    dataset.splits["test"] = dataclasses.replace(stream, decode=decode)
    options = {"image_size": 12, "crop": "center"}
    whole = list(dataset.batches("test", 7, **options).as_numpy_iterator())
    size = dataset.sizes["test"]
    assert size % 7 and len(decoded) == size  # the last batch is a part, which two and three cannot divide
    decoded.clear()
    parts = [list(dataset.batches("test", 7, shard=(k, count), **options).as_numpy_iterator()) for k in range(count)]
    assert len(decoded) == sum(len(labels) for part in parts for _, labels in part) < size + count * len(whole)
    for (images, labels), *mine in zip(whole, *parts, strict=True):
        assert len({len(part) for part, _ in mine}) == 1
        np.testing.assert_array_equal(np.concatenate([part for part, _ in mine])[: len(images)], images)
        np.testing.assert_array_equal(np.concatenate([part for _, part in mine])[: len(labels)], labels)


def test_streamed_examples_are_taken_as_a_run_of_neighbors(prepared):
    stream = data.load("tfds:tiny_colors", data_dir=prepared, in_memory_limit=0).splits["train"]
    whole, part = stream.arrays(None), stream.take(np.arange(5, 17)).arrays(None)
    assert stream.labels is None
    np.testing.assert_array_equal(part[0], whole[0][5:17])
    with pytest.raises(ValueError, match="Allowed is a run of neighbors"):
        stream.take(np.array([1, 3]))


def test_the_label_is_the_default_the_only_one_or_the_one_that_is_named(tmp_path):
    def image_of(number):
        return np.full((4, 4, 1), number, "uint8")

    prepare(tmp_path, "one", (4, 4, 1), image_of, labels=("species",), supervised=None)
    prepare(tmp_path, "two", (4, 4, 1), image_of, labels=("color", "shape"), supervised=None)
    found = data.load("tfds:one", data_dir=tmp_path)
    images, labels = found.arrays("test")
    assert (labels == images[:, 0, 0, 0] % 3).all()
    with pytest.raises(ValueError, match="several class labels.*data.label_key"):
        data.load("tfds:two", data_dir=tmp_path)
    with pytest.raises(ValueError, match="label_key='shapes'.*Did you mean 'shape'"):
        data.load("tfds:two", data_dir=tmp_path, label_key="shapes")
    images, labels = data.load("tfds:two", data_dir=tmp_path, label_key="shape").arrays("test")
    assert (labels == (images[:, 0, 0, 0] + 1) % 3).all()
    with pytest.raises(ValueError, match="It is for 'hf:' and 'tfds:'"):
        data.load("digits", label_key="shape")


@pytest.mark.slow
def test_a_run_remembers_which_label_it_learned(tmp_path):
    prepare(tmp_path, "two", (8, 8, 1), lambda number: np.full((8, 8, 1), number, "uint8"), ("color", "shape"), None)
    words = {"data.label_key": "shape", "model.width": 2, "train.epochs": 1, "train.batch_size": 8}
    run = training.fit(
        "quick", model="resnet10", data="tfds:two", data_dir=tmp_path, out=tmp_path / "run", overrides=words, verbose=0
    )
    assert evaluation.evaluate(run.path)["examples"] == 24
    loaded = data.load("tfds:two", data_dir=tmp_path, label_key="shape")
    assert training.Run.load(run.path).recipe.data.label_key == "shape" and loaded.fingerprint == run.about.fingerprint

"""Examples in TFRecord or ArrayRecord files too large to hold: read in order, shuffled by shard and by buffer."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.plan import PARALLEL_CALLS, Plan, permutation
from keras_resnet.data.images.headers import BadImageError, reason_of, unreadable
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing.batch_transforms import derive_seed
from keras_resnet.preprocessing.record import BYTES

# Encoded records held for shuffling: 256 MiB is about 2300 ImageNet photographs on top of the shuffled shards.
SHUFFLED_BYTES = 2**28
SHARDS_AT_ONCE = 16
RECORDS_AT_ONCE = 64  # of an ArrayRecord file


@dataclasses.dataclass(frozen=True)
class Shard:
    """A run of records in one file: `take` of them after the first `skip`."""

    path: str
    skip: int
    take: int

    @property
    def is_array_record(self) -> bool:
        """Whether the file is an ArrayRecord, and not a TFRecord."""
        return ".array_record" in self.path.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class StreamedExamples:
    """One split, in files."""

    name: str
    shards: tuple[Shard, ...]
    parse: Callable[[Any], tuple[Any, Any]]
    decode: Callable[..., Any]
    image_shape: tuple[int | None, ...]
    record_bytes: int

    def __len__(self) -> int:
        """Returns the number of examples."""
        return sum(shard.take for shard in self.shards)

    is_deep = False  # TFDS decodes 8 bits

    @property
    def pixel_range(self) -> tuple[float, float]:
        """[0, 255], in which image files are decoded."""
        return BYTES

    def fingerprint(self) -> bytes:
        """Returns a sha256 over the name and the numbers of records; the records themselves carry check sums."""
        shards = [(shard.path.rpartition("/")[2], shard.skip, shard.take) for shard in self.shards]
        return hashlib.sha256(repr((self.name, shards, self.record_bytes)).encode()).digest()

    @property
    def signatures(self) -> None:
        """None: the images stand in the files."""
        return None

    def digest_of(self, index: int) -> bytes:
        """Raises NotImplementedError: records are not picked one by one."""
        raise NotImplementedError

    def file_of(self, index: int) -> None:
        """Returns None: records lie in larger files."""

    def name_of(self, index: int) -> str:
        """Returns the number of the record."""
        return f"record {index}"

    @property
    def labels(self) -> None:
        """None: they stand in the files."""
        return None

    @property
    def weights(self) -> None:
        """None: records have none."""
        return None

    def take(self, indices: np.ndarray) -> "StreamedExamples":
        """Returns the split that holds these examples, which must follow each other."""
        first, last = int(indices[0]), int(indices[-1]) + 1
        if len(indices) != last - first or (np.diff(indices) != 1).any():
            raise BadValue(
                f"{self.name} is streamed from files, and {len(indices)} examples between {first} and {last - 1} were "
                "asked for. Allowed is a run of neighbors. Raise in_memory_limit to pick single examples."
            )
        shards, start = [], 0
        for shard in self.shards:
            low, high = max(first - start, 0), min(last - start, shard.take)
            if low < high:
                shards.append(Shard(shard.path, shard.skip + low, high - low))
            start += shard.take
        return dataclasses.replace(self, shards=tuple(shards))

    def arrays(self, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels, all or the first `limit`."""
        batches = self.finite(Plan(256)).unbatch().take(-1 if limit is None else limit)
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.stack(images), np.stack(labels)

    def records(self) -> tf.data.Dataset:
        """Returns the records in order."""
        return self._shard_numbers(tf.range(len(self.shards), dtype=tf.int64)).flat_map(self._reader())

    def training(self, plan: Plan) -> tf.data.Dataset:
        """Returns infinite batches from `plan.start_step` on; what comes before is skipped without decoding."""
        steps_per_epoch = plan.steps_per_epoch(len(self))
        used = steps_per_epoch * plan.batch_size
        num_shards = len(self.shards)
        reader = self._reader()

        def epoch_of(epoch: Any) -> tf.data.Dataset:
            numbers = permutation(num_shards, epoch, plan.seed)
            records = self._shard_numbers(numbers).interleave(
                reader,
                cycle_length=min(SHARDS_AT_ONCE, num_shards),
                num_parallel_calls=min(PARALLEL_CALLS, SHARDS_AT_ONCE, num_shards),
                deterministic=True,
            )
            # A file that lost its end would shorten the epoch and shift every step after it.
            records = records.apply(tf.data.experimental.assert_cardinality(len(self)))
            records = self._shuffle(records, epoch, plan.seed)
            if plan.repeats > 1:
                records = records.flat_map(lambda record: tf.data.Dataset.from_tensors(record).repeat(plan.repeats))
            return records.take(used)

        records = tf.data.Dataset.counter(plan.start_step // steps_per_epoch).flat_map(epoch_of)
        records = records.skip(plan.start_step % steps_per_epoch * plan.batch_size)
        if plan.num_shards > 1:
            mine = slice(plan.first_of_shard, plan.first_of_shard + plan.shard_size)
            records = records.batch(plan.batch_size, drop_remainder=True).map(lambda batch: batch[mine]).unbatch()

        def example_of(place: Any, record: Any) -> tuple[Any, Any]:
            step, within = place // plan.shard_size, place % plan.shard_size
            return self._example(step * plan.batch_size + plan.first_of_shard + within, record, plan)

        examples = records.enumerate(plan.start_step * plan.shard_size).map(
            example_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True
        )
        batches = examples.batch(plan.shard_size, drop_remainder=True)
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def finite(self, plan: Plan) -> tf.data.Dataset:
        """Returns every example once, in order."""
        return self._decoded(self._numbered(), plan).batch(plan.batch_size)

    def finite_part(self, plan: Plan, index: int, count: int) -> tf.data.Dataset:
        """Returns the part of one process of every batch, in order, as `shards.finite_part` does.

        Every process reads all records, since they follow each other in their files, and decodes its own.
        """

        def cut(places: Any, records: Any) -> tuple[Any, Any]:
            size = tf.shape(places)[0]
            part = -(-size // count)
            rows = tf.minimum(index * part + tf.range(part), size - 1)
            return tf.gather(places, rows), tf.gather(records, rows)

        mine = self._numbered().batch(plan.batch_size).map(cut).unbatch()
        return self._decoded(mine, plan).batch(-(-plan.batch_size // count))

    def explain(self) -> BadImageError | None:
        """Returns the error that says why the records cannot be read, by reading all of them; None if they can."""
        try:
            records = self.records().apply(tf.data.experimental.assert_cardinality(len(self)))
            for _ in records.map(lambda record: self.decode(self.parse(record)[0])):
                pass
        except tf.errors.OpError as error:
            return unreadable(self.name, reason_of(error))
        return None

    def _numbered(self) -> tf.data.Dataset:
        """Returns pairs of the place of a record and the record, in order."""
        return self.records().apply(tf.data.experimental.assert_cardinality(len(self))).enumerate()

    def _decoded(self, numbered: tf.data.Dataset, plan: Plan) -> tf.data.Dataset:
        example_of = functools.partial(self._example, plan=plan)
        return numbered.map(example_of, num_parallel_calls=PARALLEL_CALLS, deterministic=True)

    def _example(self, sample: Any, record: Any, plan: Plan) -> tuple[Any, Any]:
        contents, label = self.parse(record)
        window = None if plan.cut is None else functools.partial(plan.cut, sample=sample)
        image = self.decode(contents, window, plan.scaled_for)
        return plan.resize(image), label

    def _shard_numbers(self, numbers: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(numbers)

    def _reader(self) -> Callable[[Any], tf.data.Dataset]:
        paths = tf.constant([shard.path for shard in self.shards])
        skips = tf.constant([shard.skip for shard in self.shards], tf.int64)
        takes = tf.constant([shard.take for shard in self.shards], tf.int64)

        def read(number: Any) -> tf.data.Dataset:
            if self.shards[0].is_array_record:
                rows = tf.data.Dataset.range(skips[number], skips[number] + takes[number]).batch(RECORDS_AT_ONCE)
                return rows.map(functools.partial(_array_records, paths[number])).unbatch()
            return tf.data.TFRecordDataset(paths[number]).skip(skips[number]).take(takes[number])

        return read

    def _shuffle(self, records: tf.data.Dataset, epoch: Any, seed: int) -> tf.data.Dataset:
        # Dataset.shuffle mixes its seed with TensorFlow's global one; the op itself takes the two seeds it is given.
        spec = tf.TensorSpec((), tf.string)
        variant = tf.raw_ops.ShuffleDataset(
            input_dataset=tf.data.experimental.to_variant(records),
            buffer_size=tf.constant(max(1, SHUFFLED_BYTES // max(1, self.record_bytes)), tf.int64),
            seed=tf.constant(derive_seed(seed, "shuffle") + 1, tf.int64),
            seed2=tf.cast(epoch, tf.int64) + 1,  # two zeros would mean "draw a random seed"
            output_types=[spec.dtype],
            output_shapes=[spec.shape],
            reshuffle_each_iteration=False,
        )
        return tf.data.experimental.from_variant(variant, spec)


def _array_records(path: Any, rows: Any) -> Any:
    """Returns some records of an ArrayRecord file inside a graph."""
    records = tf.numpy_function(_read_records, [path, rows], tf.string, stateful=False)
    return tf.ensure_shape(records, (None,))


def _read_records(path: bytes, rows: np.ndarray) -> np.ndarray:
    reader = _reader_of(path)
    if len(rows) and int(rows[-1]) >= reader.num_records():
        raise EOFError(f"{path.decode()} has {reader.num_records()} records")
    records = np.empty(len(rows), object)
    records[:] = reader.read([int(row) for row in rows])
    return records


@functools.lru_cache(maxsize=SHARDS_AT_ONCE)
def _reader_of(path: bytes) -> Any:
    from array_record.python import array_record_module

    return array_record_module.ArrayRecordReader(path.decode())

"""Pooled features of a network for a set of examples: what is near a picture, and what is unlike all of them."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.arguments import check_int, choose
from keras_resnet.data.options import BAD_IMAGE_POLICIES
from keras_resnet.errors import BadValue, require
from keras_resnet.evaluation.predictor import Predictor, open_features
from keras_resnet.evaluation.probes import dataset_for_features, feature_model, features_of
from keras_resnet.evaluation.scoring import example_files, read_batches
from keras_resnet.tasks import TASKS

SUFFIX, METADATA = ".parquet", b"keras_resnet"
NEIGHBORS = 10
ROWS = 1024  # whose distances to all others are in memory at once


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Features of examples, for search.

    Attributes:
        vectors: float32 `(examples, features)`, each of length 1.
        names: file of each example, or its place in the source.
        labels: its class, its classes, or its values, as text.
        distances: to its tenth neighbor among the others, `(examples,)`, of which `novelty` makes a share.
        network: run folder, file or NAME:TAG that made them.
        sha256: of the weights of that network.
    """

    vectors: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...]
    distances: np.ndarray
    network: str
    sha256: str

    def save(self, path: str | os.PathLike) -> None:
        """Writes a parquet file with the columns `path`, `label`, `vector` and `distance`.

        Raises:
            ValueError: the name does not end in .parquet, or the file exists.
            ImportError: pyarrow is not installed.
        """
        parquet = require("pyarrow.parquet", "A file of embeddings", "hf")
        import pyarrow

        target = pathlib.Path(path).expanduser()
        if target.suffix != SUFFIX:
            raise BadValue(f"out={os.fspath(path)!r} does not end in {SUFFIX}. Name such a file.")
        if target.exists():
            raise BadValue(f"out={os.fspath(path)!r} exists, and embeddings never replace a file. Choose another name.")
        files.check_parent(target)
        facts = {"network": self.network, "sha256": self.sha256}
        columns = {
            "path": list(self.names),
            "label": list(self.labels),
            "vector": pyarrow.FixedSizeListArray.from_arrays(self.vectors.ravel(), self.vectors.shape[1]),
            "distance": self.distances,
        }
        table = pyarrow.table(columns).replace_schema_metadata({METADATA: json.dumps(facts)})
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(target, lambda where: parquet.write_table(table, where))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Embeddings":
        """Reads a file of `save`.

        Raises:
            ValueError: it is not such a file.
            ImportError: pyarrow is not installed.
        """
        parquet = require("pyarrow.parquet", "A file of embeddings", "hf")
        import pyarrow

        try:
            table = parquet.read_table(os.fspath(path))
            facts = json.loads(table.schema.metadata[METADATA])
            vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            names, labels = (tuple(table[name].to_pylist()) for name in ("path", "label"))
            return cls(vectors, names, labels, table["distance"].to_numpy(), facts["network"], facts["sha256"])
        except (OSError, KeyError, TypeError, ValueError, pyarrow.lib.ArrowException) as error:
            raise BadValue(
                f"index={os.fspath(path)!r} is not a file of embeddings: {type(error).__name__}: {error}. Allowed is "
                "one that `keras-resnet embed` wrote. Make it again."
            ) from error

    def nearest(self, vectors: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices and the cosine distances of the nearest examples of each vector, the nearest first.

        Args:
            vectors: `(queries, features)`, each of length 1.
            top: how many; at most all.
        """
        parts = [_nearest(self.vectors, vectors[first : first + ROWS], top) for first in range(0, len(vectors), ROWS)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def novelty(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the share of examples that are closer to the others than each vector is: 1 for unlike all of them."""
        _, distances = self.nearest(vectors, NEIGHBORS)
        return np.searchsorted(np.sort(self.distances), distances[:, -1], side="left") / len(self.distances)

    def closest_pairs(self, top: int = 100) -> list[dict[str, Any]]:
        """Returns the pairs of examples that are most alike, the closest first: near copies, if there are any.

        Each example is paired with its nearest neighbor. Mirrored copies are as close where the network was trained
        with flips.

        Args:
            top: how many pairs at most, >= 1.

        Returns:
            For each pair `{"distance", "names", "labels"}`: the cosine distance in [0, 2], and two of each.
        """
        check_int("top", top)
        indices, distances = self.nearest(self.vectors, 2)
        others = np.where(indices[:, 0] == np.arange(len(indices)), 1, 0)  # a copy may come before the example itself
        rows = np.arange(len(indices))
        neighbors = zip(rows.tolist(), indices[rows, others].tolist(), distances[rows, others].tolist(), strict=True)
        pairs = {(min(row, other), max(row, other)): distance for row, other, distance in neighbors}
        closest = sorted(pairs.items(), key=lambda pair: (pair[1], pair[0]))[:top]
        return [
            {"distance": distance, "names": [self.names[i] for i in pair], "labels": [self.labels[i] for i in pair]}
            for pair, distance in closest
        ]


def _nearest(vectors: np.ndarray, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    distances = np.maximum(1 - queries @ vectors.T, 0)
    count = min(top, len(vectors))
    some = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(distances, some, axis=1), axis=1, kind="stable")
    indices = np.take_along_axis(some, order, axis=1)
    return indices, np.take_along_axis(distances, indices, axis=1)


def embed(run_or_model: Any, data: Any = None, *, data_dir: Any = None, split: str | None = None) -> Embeddings:
    """Returns the pooled features of the examples of a split, with the distances between them.

    Args:
        run_or_model: a run folder, a `.keras` file, NAME:TAG of weights, a `Run` or a `keras.Model`.
        data: a spec or a loaded dataset, of any classes; None for the data of the run.
        data_dir: where TFDS finds its prepared data sets.
        split: "train", "validation", "test" or "all"; None for "train" of a run's own data, and for "all" of others.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, or there are fewer than two examples.

    Source:
        Distance to the k-th neighbor as a score of novelty: Sun et al. 2022, "Out-of-Distribution Detection with Deep
        Nearest Neighbors".
    """
    predictor = open_features(run_or_model)
    dataset = dataset_for_features(predictor, data, data_dir)
    network = feature_model(predictor.model)
    split = split or ("train" if data is None else "all")
    features, labels = features_of(network, predictor, dataset, split)
    if len(features) < 2:
        raise BadValue(f"split={split!r} of data={dataset.spec!r} has one example. An index needs two. Name another.")
    vectors = _of_length_one(features)
    names = tuple(dataset.name_of(split, index) for index in range(len(vectors)))
    texts = tuple(_text(dataset, label) for label in labels)
    source = predictor.run.path if predictor.run is not None else run_or_model
    embeddings = Embeddings(vectors, names, texts, np.zeros(0), _name_of(source), _hash_of(network))
    # Each example is the nearest to itself.
    _, distances = embeddings.nearest(vectors, NEIGHBORS + 1)
    return dataclasses.replace(embeddings, distances=distances[:, -1])


def similar(
    index: Embeddings | str | os.PathLike,
    image_paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    top: int = NEIGHBORS,
    run_or_model: Any = None,
    on_bad_image: str = "error",
) -> list[dict[str, Any]]:
    """Returns the examples that are most similar to pictures, and how unlike all of them each picture is.

    Args:
        index: `Embeddings`, or a file of them.
        image_paths: as for `predict`.
        top: how many for each picture.
        run_or_model: the network that made the index; None for the one that it names.
        on_bad_image: "error" stops at a file that cannot be read; "skip" leaves it out.

    Returns:
        For each picture `{"image", "novelty", "neighbors": [{"name", "label", "distance"}, ...]}`: cosine distances in
        [0, 2], and the share of the examples of the index that are closer to the others than the picture is, in [0, 1].

    Raises:
        ValueError: the index is not a file of embeddings, a file cannot be read, or the network has other weights than
            those of the index.
    """
    check_int("top", top)
    embeddings = index if isinstance(index, Embeddings) else Embeddings.load(index)
    predictor = open_features(embeddings.network if run_or_model is None else run_or_model)
    network = feature_model(predictor.model)
    if _hash_of(network) != embeddings.sha256:
        raise BadValue(
            f"{embeddings.network!r} has other weights than those that made the index. Their features cannot be "
            "compared. Make the index again, or give the network of before."
        )
    paths = example_files([image_paths] if isinstance(image_paths, (str, os.PathLike)) else image_paths)
    choose("on_bad_image", on_bad_image, BAD_IMAGE_POLICIES)
    answers: list[dict[str, Any]] = []
    for path in paths:
        try:
            answers += _answers(embeddings, network, predictor, path, top)
        except BadValue:
            if on_bad_image == "error":
                raise
    return answers


def _answers(
    embeddings: Embeddings, network: keras.Model, predictor: Predictor, path: str | os.PathLike, top: int
) -> Iterable[dict[str, Any]]:
    for names, examples in read_batches(path, predictor):
        vectors = _of_length_one(np.asarray(network.predict_on_batch(examples)))
        rows = zip(names, *embeddings.nearest(vectors, top), embeddings.novelty(vectors), strict=True)
        for name, indices, distances, novelty in rows:
            neighbors = [
                {"name": embeddings.names[place], "label": embeddings.labels[place], "distance": float(distance)}
                for place, distance in zip(indices, distances, strict=True)
            ]
            yield {"image": name, "novelty": float(novelty), "neighbors": neighbors}


def _of_length_one(features: np.ndarray) -> np.ndarray:
    features = features.astype("float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _text(dataset: datasets.Dataset, label: Any) -> str:
    task = TASKS[dataset.task]
    if task.is_exclusive:
        return str(dataset.class_names[int(label)])
    if task.has_classes:
        return ", ".join(name for name, value in zip(dataset.class_names, label, strict=True) if value == 1)
    return ", ".join(f"{value:g}" for value in np.atleast_1d(label))


def _name_of(source: Any) -> str:
    if isinstance(source, keras.Model):
        return str(source.name)
    text = os.fspath(source)
    return os.path.abspath(text) if os.path.exists(text) else text


def _hash_of(network: keras.Model) -> str:
    digest = hashlib.sha256()
    for value in network.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()

"""Embeddings: neighbors against scikit-learn, novelty, files, and networks that are not those of the index."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("pyarrow")

import pyarrow.parquet  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

from keras_resnet import data, evaluation  # noqa: E402
from keras_resnet.cli import main  # noqa: E402
from keras_resnet.evaluation.embeddings import Embeddings  # noqa: E402


@pytest.fixture(scope="module")
def index(digits_run):
    return evaluation.embed(digits_run.path)


def test_neighbors_and_distances_are_those_of_scikit_learn(index, digits_run, tmp_path):
    images, _ = data.load("digits").arrays("test", 7)
    np.save(tmp_path / "x.npy", images)
    features = keras.Model(digits_run.model.input, digits_run.model.get_layer("head_pool").output)
    train, _ = data.load("digits").arrays("train")
    own, asked = (features.predict(part.astype("float32"), verbose=0) for part in (train, images))
    search = NearestNeighbors(n_neighbors=11, metric="cosine").fit(own)
    distances, indices = search.kneighbors(asked)
    answers = evaluation.similar(index, tmp_path / "x.npy", top=5)
    for answer, near, places in zip(answers, distances, indices, strict=True):
        assert [neighbor["distance"] for neighbor in answer["neighbors"]] == pytest.approx(near[:5], abs=1e-5)
        assert [neighbor["name"] for neighbor in answer["neighbors"]] == [index.names[place] for place in places[:5]]
    tenth = search.kneighbors(own)[0][:, 10]
    np.testing.assert_allclose(index.distances, tenth, atol=1e-5)
    expected = [(tenth < near[9]).mean() for near in distances]
    assert [answer["novelty"] for answer in answers] == pytest.approx(expected, abs=3 / len(train))


def test_labels_are_those_of_the_examples(index):
    truth = data.load("digits").arrays("train")[1]
    assert index.labels == tuple(str(label) for label in truth)


def test_noise_is_more_unlike_than_digits_are(index, tmp_path):
    images, _ = data.load("digits").arrays("test", 100)
    np.save(tmp_path / "digits.npy", images)
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).uniform(0, 16, (100, 8, 8, 1)).astype("float32"))
    own, noise = (
        np.median([answer["novelty"] for answer in evaluation.similar(index, tmp_path / name)])
        for name in ("digits.npy", "noise.npy")
    )
    assert own < 0.7 and noise > 0.95


def test_a_file_is_read_as_it_was_written_and_by_others(index, tmp_path):
    index.save(tmp_path / "index.parquet")
    read = Embeddings.load(tmp_path / "index.parquet")
    assert (read.names, read.labels, read.network, read.sha256) == (
        index.names,
        index.labels,
        index.network,
        index.sha256,
    )
    np.testing.assert_array_equal(read.vectors, index.vectors)
    np.testing.assert_array_equal(read.distances, index.distances)
    table = pyarrow.parquet.read_table(tmp_path / "index.parquet").to_pylist()
    assert set(table[0]) == {"path", "label", "vector", "distance"} and len(table) == len(index.names)
    assert np.linalg.norm(table[0]["vector"]) == pytest.approx(1, abs=1e-5)


def test_another_network_is_refused(index, digits_run):
    other = keras.saving.load_model(digits_run.path / "best.keras")
    other.set_weights([value * 1.01 for value in other.get_weights()])
    with pytest.raises(ValueError, match="has other weights than those that made the index"):
        evaluation.similar(index, "image.png", run_or_model=other)


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_file_that_is_no_index_is_refused(tmp_path, content):
    path = tmp_path / "index.parquet"
    if content is None:
        pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of embeddings"):
        evaluation.similar(path, "image.png")


def test_a_file_of_another_name_is_refused_before_anything_is_written(index, tmp_path):
    with pytest.raises(ValueError, match="does not end in .parquet"):
        index.save(tmp_path / "index.csv")
    assert not list(tmp_path.iterdir())


def test_the_network_of_an_index_may_have_been_moved(index, digits_run, tmp_path, capsys):
    dataclasses.replace(index, network="moved").save(tmp_path / "index.parquet")
    np.save(tmp_path / "x.npy", data.load("digits").arrays("test", 1)[0])
    words = ["similar", str(tmp_path / "index.parquet"), str(tmp_path / "x.npy")]
    assert main(words) == 2
    assert "run_or_model='moved' is not there" in capsys.readouterr().err
    assert main([*words, "--network", str(digits_run.path)]) == 0


def test_the_closest_pairs_are_those_of_scikit_learn(index):
    distances, indices = NearestNeighbors(n_neighbors=2, metric="cosine").fit(index.vectors).kneighbors(index.vectors)
    pairs = {
        tuple(sorted((row, int(near[1])))): far[1]
        for row, (near, far) in enumerate(zip(indices, distances, strict=True))
    }
    best = sorted(pairs.items(), key=lambda pair: pair[1])[:20]
    got = index.closest_pairs(20)
    assert [pair["distance"] for pair in got] == pytest.approx([distance for _, distance in best], abs=1e-5)
    by_names = {tuple(pair["names"]) for pair in got[:5]}
    assert by_names == {(index.names[first], index.names[second]) for (first, second), _ in best[:5]}
    assert all(pair["labels"] == [index.labels[index.names.index(name)] for name in pair["names"]] for pair in got)


def test_a_copy_among_the_examples_is_the_first_pair(index):
    vectors = index.vectors.copy()
    vectors[[7, 900]] = vectors[400]
    copied = dataclasses.replace(index, vectors=vectors)
    pairs = copied.closest_pairs(2)
    assert {name for pair in pairs for name in pair["names"]} == {index.names[place] for place in (7, 400, 900)}
    assert [pair["distance"] for pair in pairs] == pytest.approx([0, 0], abs=1e-6)
    with pytest.raises(ValueError, match="top must be an int >= 1, got 0"):
        index.closest_pairs(0)


def test_predict_says_how_unlike_the_index_each_picture_is(index, digits_run, tmp_path, capsys):
    images, _ = data.load("digits").arrays("test", 2)
    np.save(tmp_path / "x.npy", images)
    index.save(tmp_path / "index.parquet")
    arrays, where = str(tmp_path / "x.npy"), str(tmp_path / "index.parquet")
    assert main(["predict", str(digits_run.path), arrays, "--index", where, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert [answer["novelty"] for answer in got] == [each["novelty"] for each in evaluation.similar(index, arrays)]
    assert main(["similar", where, "--top", "3", "--json-lines"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == index.closest_pairs(3)
    assert main(["similar", where, "--top", "3"]) == 0 and len(capsys.readouterr().out.splitlines()) == 3


def test_a_table_and_a_page_say_how_unlike_each_picture_is(index, digits_run, tmp_path, capsys):
    images, _ = data.load("digits").arrays("test", 2)
    (tmp_path / "pictures").mkdir()
    np.save(tmp_path / "pictures" / "x.npy", images)
    (tmp_path / "pictures" / "y.png").write_bytes(b"no picture")
    index.save(tmp_path / "index.parquet")
    words = ["predict", str(digits_run.path), str(tmp_path / "pictures"), "--index", str(tmp_path / "index.parquet")]
    words += ["--on-bad-image", "skip"]
    expected = [each["novelty"] for each in evaluation.similar(index, tmp_path / "pictures" / "x.npy")]
    assert main([*words, "--csv", str(tmp_path / "a.csv"), "--page", str(tmp_path / "a.html")]) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [float(row["novelty"]) for row in rows[:2]] == expected and rows[2]["novelty"] == "" != rows[2]["error"]
    page = (tmp_path / "a.html").read_text()
    assert all(f"; novelty {share:.1%}" in page for share in expected)
    with pytest.raises(ValueError, match="y.png"):
        evaluation.similar(index, tmp_path / "pictures")


def test_the_commands_give_what_python_gives(digits_run, tmp_path, capsys):

    images, _ = data.load("digits").arrays("test", 2)
    np.save(tmp_path / "x.npy", images)
    where, arrays = str(tmp_path / "index.parquet"), str(tmp_path / "x.npy")
    assert main(["embed", str(digits_run.path), "--out", where]) == 0
    assert "32 features of 1,293 examples" in capsys.readouterr().out
    assert (
        main(["similar", str(tmp_path / "index.parquet"), str(tmp_path / "x.npy"), "--top", "2", "--json-lines"]) == 0
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers == evaluation.similar(where, arrays, top=2)
    assert main(["similar", where, arrays]) == 0
    assert capsys.readouterr().out.count("more unlike the others than") == 2

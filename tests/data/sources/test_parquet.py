"""Parquet files as Hugging Face writes them: the pictures of a folder in them give the batches of the folder."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

from keras_resnet import data  # noqa: E402
from keras_resnet.data.sources import parquet  # noqa: E402
from tests.data.sources.test_shards import batches_of, picture  # noqa: E402

NAMES = ("cat", "dog", "fox")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(path, contents, labels, *, names=NAMES, **columns):
    """Writes what `datasets.Dataset.to_parquet` writes: a struct of bytes and path, and the features as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": f"{index:03d}.png"} for index, content in enumerate(contents)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    arrays = {"image": pyarrow.array(images, kind), "label": pyarrow.array(labels), **columns}
    table = pyarrow.table(arrays)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    pyarrow.parquet.write_table(table, path, row_group_size=5)


def test_parquet_gives_the_batches_of_a_folder_and_is_laid_out_once(tmp_path, home):
    contents = [picture(index, "PNG", (20 + index % 2, 24)) for index in range(36)]
    for index, content in enumerate(contents):
        path = tmp_path / "folder" / NAMES[index // 12] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for part in range(2):
        rows = range(18 * part, 18 * part + 18)
        write(tmp_path / "set" / "data" / f"train-0000{part}-of-00002.parquet",
              [contents[row] for row in rows], [row // 12 for row in rows])  # fmt: skip
    folder, found = data.load(f"folder:{tmp_path}/folder"), data.load("hf:set", data_dir=tmp_path)
    assert found.class_names == folder.class_names == NAMES and found.sizes == folder.sizes
    for (one, labels), (other, others) in zip(batches_of(folder), batches_of(found), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(labels, others)
    shards = list(home.rglob("*.tar"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    again = data.load("hf:set", data_dir=tmp_path)
    assert len(shards) == 2 and [shard.stat().st_mtime_ns for shard in shards] == times
    assert again.fingerprint == found.fingerprint and not any("laid out" in line for line in again.report)


def test_splits_words_and_hidden_labels(tmp_path):
    contents = [picture(index, "PNG") for index in range(12)]
    write(tmp_path / "train.parquet", contents, ["a", "b"] * 6, names=(), other=pyarrow.array(range(12)))
    write(tmp_path / "validation.parquet", contents[:4], ["a", "b"] * 2, names=())
    write(tmp_path / "test.parquet", contents[:2], [-1, -1], names=())
    found = data.load(f"hf:{tmp_path}", validation_fraction=0.0)
    assert found.class_names == ("a", "b") and found.sizes == {"train": 12, "validation": 4}
    assert any("ignored split 'test'" in line for line in found.report)
    numbers = data.load(f"hf:{tmp_path}/train.parquet", label_key="other", validation_fraction=0, test_fraction=0)
    assert numbers.class_names == tuple(map(str, range(12)))
    with pytest.raises(ValueError, match=r"label_key='othr'.*Did you mean 'other'\?.*\['label', 'other'\]"):
        data.load(f"hf:{tmp_path}/train.parquet", label_key="othr")


def test_what_is_wrong_with_a_parquet_file_is_named(tmp_path, home):
    contents = [picture(index, "PNG") for index in range(4)]
    write(tmp_path / "null.parquet", contents, [0, None, 1, 0])
    with pytest.raises(ValueError, match=r"row 1 of '.*null\.parquet' has no label"):
        data.load(f"hf:{tmp_path}/null.parquet")
    write(tmp_path / "path.parquet", [contents[0], None], [0, 1])
    with pytest.raises(ValueError, match=r"row 1 of '.*path\.parquet' has no image in it"):
        data.load(f"hf:{tmp_path}/path.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [0]}), tmp_path / "text.parquet")
    with pytest.raises(ValueError, match=r"has the columns \{'text': 'string', 'label': 'int64'\}"):
        data.load(f"hf:{tmp_path}/text.parquet")
    content = (tmp_path / "null.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.parquet' cannot be read"):
        data.load(f"hf:{tmp_path}/half.parquet")
    write(tmp_path / "bad.parquet", [*contents[:3], b"none"], [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"train-000000\.tar/00000003\.png .not a JPEG"):
        data.load(f"hf:{tmp_path}/bad.parquet")
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix not in (".tar", ".txt")]


def test_an_image_that_is_repeated_without_end_is_refused(tmp_path, home, monkeypatch):
    monkeypatch.setattr(parquet, "SPARE_BYTES", 2**20)
    path = tmp_path / "bomb.parquet"
    write(path, [picture(0, "PNG", (20, 24)) + bytes(2**14)] * 400, [row % 2 for row in range(400)])
    assert path.stat().st_size < 2**18
    with pytest.raises(ValueError, match="Allowed is 20 times the file"):
        data.load("hf:bomb.parquet", data_dir=tmp_path)
    assert not list(home.rglob("*.tar"))

import re
import xml.etree.ElementTree as tree

import keras
import pytest

import keras_resnet
from keras_resnet.models import VARIANTS
from keras_resnet.models.drawing import rows_of
from tests import harness

NAMESPACE = {"s": "http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", harness.VARIANTS)
def test_the_rows_are_the_blocks_of_the_table(name):
    model = getattr(keras_resnet, VARIANTS[name].constructor)(input_shape=(32, 32, 3), width=4)
    rows = rows_of(model)
    blocks = [row for row in rows if row.shortcut is not None]
    assert [row.name for row in rows if row.shortcut is None] == ["stem", "head"]
    for index, count in enumerate(VARIANTS[name].depths):
        assert sum(row.times for row in blocks if row.name == f"stage{index + 2}") == count
    boxes = len(VARIANTS[name].block.branch) + ("attention" in VARIANTS[name].defaults)
    assert all(len(row.branch) == boxes for row in blocks)


def test_a_row_says_kernels_channels_strides_and_what_the_shortcut_does():
    rows = {(row.name, row.shortcut == ()): row for row in rows_of(keras_resnet.ResNet50())}
    assert rows["stem", False].branch == ("7x7 conv, 64, /2", "3x3 max, /2")
    assert rows["stage3", False].branch == ("1x1 conv, 128", "3x3 conv, 128, /2", "1x1 conv, 512")
    assert rows["stage3", False].shortcut == ("1x1 conv, 512, /2",)
    assert rows["stage3", True].times == 3 and rows["stage3", True].shape == (28, 28, 512)
    assert rows["head", False].branch == ("mean of all places", "dense, 1000")
    grouped = {row.name: row for row in rows_of(keras_resnet.ResNeXt50_32x4d(kernel_initializer="zeros"))}
    assert grouped["stage5"].branch[1] == "3x3 conv, 1024, 32 groups"


def test_what_is_added_to_a_network_is_drawn():
    model = keras_resnet.ResNet18(
        input_shape=(64, 32, 32, 2),
        width=4,
        classes=3,
        version="v2",
        shortcut="pool",
        attention="se",
        drop_path_rate=0.2,
        dropout_rate=0.3,
    )
    boxes = [box for row in rows_of(model) for box in (*row.branch, *(row.shortcut or ()))]
    assert {"7x7x7 conv, 4, /2", "squeeze-excite", "drop path 0.2", "2x2x2 mean, /2", "dense, 3"} <= set(boxes)
    assert any("0.3" in box for box in boxes)


def test_the_picture_is_whole_svg_with_a_box_for_each_part(tmp_path):
    svg = keras_resnet.diagram("resnet34", tmp_path / "r.svg", input_shape=(64, 64, 1), classes=7)
    assert (tmp_path / "r.svg").read_text("utf-8") == svg
    root = tree.fromstring(svg)
    model = keras_resnet.ResNet34(input_shape=(64, 64, 1), classes=7)
    expected = sum(len(row.branch) + len(row.shortcut or ()) for row in rows_of(model))
    assert len(root.findall("s:rect", NAMESPACE)) == expected
    texts = [text.text for text in root.findall("s:text", NAMESPACE)]
    assert "resnet34, input 64 x 64 x 1" in texts and "stage4 x 5" in texts and "dense, 7" in texts
    height = float(root.get("height"))
    assert all(float(box.get("y")) + float(box.get("height")) < height for box in root.findall("s:rect", NAMESPACE))


def test_a_network_with_layers_before_the_stem_shows_them():
    image = keras.Input((16, 16, 3))
    x = keras_resnet.preprocessing.InputNormalization("imagenet", name="preprocessing")(image)
    model = keras_resnet.ResNet18(input_tensor=x, stem="small", width=4, classes=2)
    assert rows_of(model)[0].branch == ("preprocessing",)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        keras_resnet.diagram("resnet19")
    with pytest.raises(ValueError, match=re.escape("not an SVG file")):
        keras_resnet.diagram("resnet18", tmp_path / "r.png")
    with pytest.raises(TypeError, match="neither|a name or a Keras model"):
        keras_resnet.diagram(3)
    with pytest.raises(TypeError, match="no effect"):
        keras_resnet.diagram(keras_resnet.ResNet18(width=4), width=4)
    with pytest.raises(ValueError, match="no block of keras_resnet"):
        keras_resnet.diagram(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))

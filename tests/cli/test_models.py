import re

import pytest

import keras_resnet


def test_list_prints_every_model_with_its_parameters_and_multiply_adds(run):
    status, out, err = run("list")
    rows = dict(re.findall(r"^(\w+) +([\d,]+ +[\d,]+)$", out, re.MULTILINE))
    assert (status, err) == (0, "")
    assert list(rows) == keras_resnet.list_models()
    # torchvision's counts, and He et al. 2015, table 1: 3.8e9 for ResNet-50 with the stride on the first 1x1.
    assert rows["resnet18"].split() == ["11,689,512", "1,814,073,344"]
    assert rows["resnet50"].split() == ["25,557,032", "4,089,184,256"]


def test_info_prints_the_stages_of_a_model_by_name(run):
    status, out, _ = run("info", "resnet50")
    assert status == 0
    assert out.startswith("resnet50, input 224x224x3\n")
    assert [line.split()[0] for line in out.splitlines()[2:9]] == [
        *("stem", "stage2", "stage3", "stage4", "stage5", "head", "total")
    ]


def test_info_takes_an_input_shape_and_arguments_of_the_model(run):
    status, out, _ = run(
        "info", "resnet18", "--input-shape", "8,8,1", "--set", "model.stem=small", "--set", "model.width=4"
    )
    assert status == 0
    assert out.startswith("resnet18, input 8x8x1\n")
    assert re.search(r"^stem +8x8x4 ", out, re.MULTILINE)


def test_info_reads_a_saved_model(run, tmp_path):
    model = keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=3)
    model.save(tmp_path / "model.keras")
    status, out, _ = run("info", tmp_path / "model.keras")
    assert status == 0
    assert re.search(r"^head +3 ", out, re.MULTILINE)


def test_info_draws_the_block_diagram_of_a_name_and_of_a_saved_model(run, tmp_path):
    words = ["--input-shape", "32,32,3", "--set", "model.stem=small", "--svg", tmp_path / "n.svg"]
    status, out, _ = run("info", "resnet18", *words)
    assert status == 0 and out.endswith(f"{tmp_path / 'n.svg'}\n")
    assert "3x3 conv, 64" in (tmp_path / "n.svg").read_text("utf-8")
    keras_resnet.ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=3).save(tmp_path / "m.keras")
    status, *_ = run("info", tmp_path / "m.keras", "--svg", tmp_path / "m.svg")
    assert status == 0 and "dense, 3" in (tmp_path / "m.svg").read_text("utf-8")


@pytest.mark.parametrize(
    "words, message",
    [
        (["resnet19"], "Did you mean 'resnet18'?"),
        (["resnet18", "--set", "model.widht=4"], "Did you mean 'width'?"),
        (["resnet18", "--set", "model.stem=smal"], "Did you mean 'small'?"),
        (["resnet18", "--set", "train.epochs=4"], "--set train.epochs has no effect here"),
        (["resnet18", "--set", "width"], "--set width is not of the form section.field=value"),
        (["resnet18", "--input-shape", "large"], "--input-shape large is not a list of sizes"),
        (["resnet18", "--input-shape", "224"], "input_shape"),
        (["none.keras"], "MODEL='none.keras' is not known"),
        (["."], "."),
    ],
)
def test_info_refuses_what_it_cannot_show(run, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("info", *words)
    assert (status, out) == (2, "")
    assert message in err and err.startswith("keras-resnet info: ")

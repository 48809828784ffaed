"""The page of a run: what it holds, for classifiers, regressions, signals and volumes, and in a real browser."""

import base64
import io
import json
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from keras_resnet import evaluation, report, training
from keras_resnet.cli import main
from keras_resnet.report.run_page import principal_components

SMALL = {"model.width": 4, "train.epochs": 2, "train.batch_size": 64}


@pytest.fixture(scope="module")
def run(digits_run, tmp_path_factory):
    """A copy of the run, under a name that needs escaping in HTML."""
    return training.Run.load(shutil.copytree(digits_run.path, tmp_path_factory.mktemp("runs") / "a run & <more>"))


@pytest.fixture(scope="module")
def page(run):
    return report.write_report(run.path, run.path.parent / "run.html")


def section(text, heading):
    found = re.search(rf"<section><h2>{heading}</h2>(.*?)</section>", text, re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def test_the_page_is_whole_needs_no_network_and_shows_the_figures_of_the_run(page, run, parsed):
    text = page.read_text("utf-8")
    assert all(link.startswith("data:image/png;base64,") for link in parsed(text).links)
    assert "http" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL).replace("data:", "")
    figures = run.metrics["test"]
    glance = section(text, "At a glance")
    for name in ("accuracy", "loss", "expected_calibration_error", "top5"):
        assert f"<dd>{figures[name]:.4f}</dd>" in glance
    cells = [int(count) for count in re.findall(r'--share: [\d.]+">(\d+)<', section(text, "Confusion"))]
    assert np.array_equal(np.reshape(cells, (10, 10)), figures["confusion"])
    assert section(text, "Class by class").count("<tr ") == 10
    assert "a run &amp; &lt;more&gt;" in text and "<more>" not in text


def test_the_surest_mistakes_are_there_with_maps_over_them(page, run):
    shown = section(page.read_text("utf-8"), "Most confident errors")
    mistakes = evaluation.mistakes(run, top=12)
    assert [int(index) for index in re.findall(r"<figcaption>example (\d+)", shown)] == [m.index for m in mistakes]
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(found)))) for found in re.findall(r"base64,([^\"]+)", shown)
    ]
    assert len(pictures) == 24
    plain = mistakes[0].image[..., 0]
    assert np.abs(pictures[0][8::16, 8::16, 0].astype(float) - plain).max() <= 1  # 8 px, each 16 times
    assert any(not np.array_equal(first, second) for first, second in zip(pictures[::2], pictures[1::2], strict=True))


def test_the_map_has_the_principal_components_of_the_features(page, run):
    features = keras.Model(run.model.input, run.model.get_layer("head_pool").output)
    images, labels = run.dataset.arrays("test")
    pooled = features.predict(images.astype("float32"), verbose=0)
    expected = PCA(2, svd_solver="full").fit(pooled)
    places, share = principal_components(pooled)
    np.testing.assert_allclose(np.abs(places), np.abs(expected.transform(pooled)), rtol=1e-3, atol=1e-3)
    assert share == pytest.approx(expected.explained_variance_ratio_.sum(), abs=1e-5)
    drawn = section(page.read_text("utf-8"), "Map of the examples")
    dots = re.findall(r'<circle class="dot (\w+)" cx="([\d.]+)" cy="([\d.]+)" r="3"[^>]*><title>(\d)</title>', drawn)
    assert [int(name) for *_, name in dots] == labels.tolist() and len({color for color, *_ in dots}) == 9
    for axis, sign in ((0, 1), (1, -1)):  # the page counts downwards
        drawn_places = [float(dot[1 + axis]) for dot in dots]
        assert np.corrcoef(drawn_places, places[:, axis])[0, 1] * sign == pytest.approx(1, abs=1e-4)
    assert f"hold {share:.0%} of it" in drawn


@pytest.mark.slow
def test_what_was_found_out_later_is_shown(run, tmp_path):
    before = report.write_report(run.path, tmp_path / "before.html").read_text("utf-8")
    assert "<h2>Robustness</h2>" not in before
    evaluation.calibrate(run)
    evaluation.robustness(run, limit=20)
    after = report.write_report(run.path, tmp_path / "after.html").read_text("utf-8")
    temperature = json.loads((run.path / "calibration.json").read_text("utf-8"))["temperature"]
    assert f"A temperature of {temperature:.3f}" in section(after, "Calibration")
    assert "jpeg_compression" in section(after, "Robustness")


def arrays(tmp_path, shape, labels, weights=None):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (40, *shape)).astype("float32")
    y = np.arange(40) % 2 if labels == "classes" else rng.normal(0, 1, 40).astype("float32")
    y = y.astype("int32" if labels == "classes" else "float32")
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, **({} if weights is None else {"w_train": weights}))
    return f"npz:{tmp_path / 'd.npz'}"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(32, 2), (8, 8, 8, 1)], ids=["signals", "volumes"])
def test_signals_and_volumes_have_a_page_too(shape, tmp_path, parsed):
    spec = arrays(tmp_path, shape, "classes")
    plain = {"model.width": 4, "train.epochs": 1, "train.batch_size": 16, "augment.rotation": 0, "augment.zoom": 0}
    run = training.fit(
        "quick",
        model="resnet10",
        data=spec,
        out=tmp_path / "run",
        overrides={**plain, "augment.translation": 0},
        verbose=0,
    )
    text = report.write_report(run.path, tmp_path / "page.html").read_text("utf-8")
    # Guessing leaves mistakes; their maps are drawn as lines and slices.
    assert len(parsed(text).links) == len(evaluation.mistakes(run, top=12)) > 0


@pytest.mark.slow
def test_a_regression_has_errors_and_a_diagonal_instead(tmp_path):
    spec = arrays(tmp_path, (8, 8, 1), "numbers", weights=np.arange(40) % 3)
    small = {**SMALL, "train.epochs": 1, "train.batch_size": 16, "loss.name": "mse"}
    recipe = training.Recipe.load("quick").to_dict()
    recipe["loss"] = {"name": "mean_squared_error"}
    small.pop("loss.name")
    run = training.fit(
        training.Recipe.from_dict(recipe), model="resnet10", data=spec, out=tmp_path / "run", overrides=small, verbose=0
    )
    text = report.write_report(run.path, tmp_path / "page.html").read_text("utf-8")
    assert "R squared" in section(text, "At a glance")
    assert section(text, "Predicted and true").count("<circle") == run.metrics["test"]["examples"]
    assert "<h2>Confusion</h2>" not in text
    assert "figures of the test split, whose examples count by their weights" in text


def test_a_run_without_a_model_says_what_to_do(tmp_path, run):
    for name in ("run.json",):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    with pytest.raises(ValueError, match="No saved state is left to make it again"):
        report.write_report(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_it(run, tmp_path, capsys):
    assert main(["report", str(run.path), "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.html")


@pytest.mark.slow
def test_it_reads_well_in_a_browser(page, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.set_window_size(1200, 900)
    browser.get(page.as_uri())
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert pictures and all(picture.get_property("naturalWidth") > 0 for picture in pictures)
    assert all(picture.get_attribute("alt") for picture in pictures)

    heads = browser.find_elements(By.CSS_SELECTOR, "table.sortable th button")
    recall = next(head for head in heads if head.text == "recall")
    recall.send_keys(Keys.ENTER)  # a keyboard is enough
    table = recall.find_element(By.XPATH, "./ancestor::table")
    values = [
        float(cell.get_attribute("data-value")) for cell in table.find_elements(By.CSS_SELECTOR, "td:nth-child(4)")
    ]
    assert len(values) == 10 and values == sorted(values)

    light = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    emulated = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    browser.set_window_size(500, 800)  # a phone: what is wide scrolls inside itself
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    parts = "[...document.querySelectorAll('figure svg, table.confusion')].map(part => part.getBoundingClientRect())"
    assert (
        browser.execute_script(f"return Math.max(...{parts}.map(box => box.right))") <= 390
    )  # curves, confusion and calibration: nothing scrolls
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

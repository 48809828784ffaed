"""The page of a search: what it holds, and what it does in a real browser."""

import random
import re

import pytest

from keras_resnet import report, training
from keras_resnet.cli import main
from keras_resnet.tuning import Settings, Space
from keras_resnet.tuning.definition import Definition
from keras_resnet.tuning.ledger import COMPLETE, FAILED, PRUNED, Ledger

TRIALS = 24


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A search whose scores come from a formula: the page does not mind."""
    folder = tmp_path_factory.mktemp("report") / "a search & <more>"
    folder.mkdir()
    ledger, generator = Ledger(folder), random.Random(0)
    recipe = training.Recipe.load("quick").replace({"train.epochs": 6})
    space = Space.load("default")
    ledger.create(Definition(recipe, "resnet18", "digits", None, "random", TRIALS, 0, space, Settings()))
    for index in range(TRIALS):
        _, trial, lock = ledger.take("w")
        trial.status = FAILED if index == 3 else PRUNED if index % 5 == 4 else COMPLETE
        trial.message = 'it said "<script>alert(1)</script>"' if index == 3 else ""
        trial.epochs = 2 if trial.status == PRUNED else 6
        rate = trial.values["optimizer.learning_rate"]
        top = 0.9 - abs(rate - 0.03) + generator.gauss(0, 0.01)
        trial.curve = [top * (1 - 0.5 ** (epoch + 1)) for epoch in range(trial.epochs)]
        trial.score = None if index == 3 else trial.curve[-1]
        ledger.end(trial)
        lock.release()
    ledger.finish({"trial": "0", "test": {"examples": 360, "accuracy": 0.9, "loss": 0.3}})
    return folder


@pytest.fixture(scope="module")
def page(search, tmp_path_factory):
    return report.write_report(search, tmp_path_factory.mktemp("page") / "page.html")


def test_the_page_is_whole_needs_no_network_and_shows_every_trial(page, parsed):
    text = page.read_text("utf-8")
    assert parsed(text).links == []
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", text)
    assert len(re.findall(r"<tr data-trial", text)) == TRIALS
    for heading in ("The winner", "Parallel coordinates", "What mattered", "What was never tried"):
        assert f"<h2>{heading}</h2>" in text


def test_what_came_from_elsewhere_is_text(page):
    text = page.read_text("utf-8")
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "a search &amp; &lt;more&gt;" in text


@pytest.mark.slow
def test_the_command_writes_it(search, tmp_path, capsys):
    assert main(["report", str(search), "--out", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.html")


@pytest.mark.slow
def test_a_mistake_is_named(search, tmp_path):
    with pytest.raises(ValueError, match="neither a run, a cross-validation nor a search"):
        report.write_report(tmp_path, tmp_path / "a.html")
    with pytest.raises(ValueError, match="is not an HTML file"):
        report.write_report(search, tmp_path / "a.pdf")
    assert report.write_report(search, tmp_path / "new" / "a.html").is_file()


@pytest.mark.slow
def test_its_controls_work_in_a_browser(page, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    browser.set_window_size(1200, 900)
    browser.get(page.as_uri())
    rows = lambda: browser.find_elements(By.CSS_SELECTOR, "table.sortable tr[data-trial]")  # noqa: E731
    rows()[2].click()
    trial = rows()[2].get_attribute("data-trial")
    marked = browser.find_elements(By.CSS_SELECTOR, "svg polyline.chosen")
    assert [mark.get_attribute("data-trial") for mark in marked] == [trial, trial]
    assert browser.find_element(By.ID, "told").text == f"Trial {trial} is marked."
    rows()[2].send_keys(Keys.ENTER)
    assert not browser.find_elements(By.CSS_SELECTOR, "svg polyline.chosen")

    Select(browser.find_element(By.ID, "status")).select_by_value("pruned")
    shown = [row.get_attribute("data-status") for row in rows() if row.is_displayed()]
    assert shown and set(shown) == {"pruned"}
    Select(browser.find_element(By.ID, "status")).select_by_value("")

    head = browser.find_elements(By.CSS_SELECTOR, "table.sortable th button")
    column = [button.text for button in head].index("optimizer.learning_rate")
    head[column].click()
    rates = [float(row.find_elements(By.TAG_NAME, "td")[column].get_attribute("data-value")) for row in rows()]
    assert rates == sorted(rates)
    head[column].click()
    rates = [float(row.find_elements(By.TAG_NAME, "td")[column].get_attribute("data-value")) for row in rows()]
    assert rates == sorted(rates, reverse=True)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

    browser.set_window_size(400, 800)  # a phone: what is wide scrolls inside itself
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1")
    assert browser.save_screenshot(str(tmp_path / "phone.png"))

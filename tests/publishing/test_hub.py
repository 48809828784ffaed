"""`publish` and `verify` with a repository of the Hub: its real client, and a server of this machine."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("huggingface_hub")

from keras_resnet import evaluation, publishing  # noqa: E402
from keras_resnet.publishing import folder as folder_module  # noqa: E402
from keras_resnet.publishing.hub import upload  # noqa: E402
from tests.harness import paired  # noqa: E402
from tests.publishing import hub_server  # noqa: E402

# Of huggingface_hub 2.4, which sends files as httpx2 no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPOSITORY = "me/digits"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_server.running() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "home"))
        yield server


@pytest.fixture
def small_folder(tmp_path):
    made = tmp_path / "small"
    made.mkdir()
    for name, content in (("README.md", b"---\nlibrary_name: keras\n---\n"), ("model.keras", b"k" * 5000)):
        (made / name).write_bytes(content)
    return made


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_goes_to_the_hub_and_comes_back(hub, digits_run, monkeypatch, capfd):
    monkeypatch.setattr(folder_module, "read", lambda library, folder, images: (expected_logits(folder, images), "1"))
    found = publishing.publish(digits_run.path, f"hf://{REPOSITORY}", private=True)
    files = hub.repositories[REPOSITORY]
    assert set(found.files) == set(files) and hub.private == {REPOSITORY} and hub.commits[REPOSITORY] == 1
    assert b"hf_secret" not in b"".join(files.values()) and "hf_secret" not in "".join(capfd.readouterr())
    answer = publishing.verify(f"hf://{REPOSITORY}", "digits")
    assert answer.holds and answer.measured["accuracy"] == pytest.approx(digits_run.metrics["test"]["accuracy"])
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    expected = digits_run.model.predict(images, verbose=0)
    opened = evaluation.load_model(f"hf://{REPOSITORY}")
    np.testing.assert_array_equal(opened.predict(images, verbose=0), expected)


def expected_logits(folder, images):
    return keras.saving.load_model(folder / "model.keras").predict(images, verbose=0)


def test_a_second_upload_replaces_the_first_in_one_commit(hub, small_folder):
    upload(small_folder, f"hf://{REPOSITORY}", False, "first")
    sent = list(hub.sent)
    (small_folder / "model.keras").rename(small_folder / "other.keras")
    (small_folder / "new.txt").write_text("new")
    upload(small_folder, f"hf://{REPOSITORY}", False, "second")
    assert hub.repositories[REPOSITORY] == content(small_folder)
    assert hub.commits[REPOSITORY] == 2 and hub.private == set()
    assert hub.sent == sent  # the object was there already


STEPS = ("create", "get", "validate", "preupload", "batch", "put", "commit")
FAILURES = {
    401: "answered 401. No valid token",
    403: "answered 403. The token may not write",
    413: "answered 413. The Hub takes no files of this size",
    429: "answered 429. The Hub asks to wait",
    500: "answered 500. Call again|failed: .*call again",
    "cut": "failed: .*Check the connection, and call again",
}


@pytest.mark.parametrize(("step", "how"), paired(STEPS, tuple(FAILURES)))
def test_whatever_step_fails_the_repository_is_untouched_and_the_next_call_completes_it(hub, small_folder, step, how):
    before = {"README.md": b"of before"} if step != "create" else None
    hub.repositories.update({REPOSITORY: dict(before)} if before else {})
    hub.failures[step] = how
    with pytest.raises(ValueError, match=FAILURES[how]):
        upload(small_folder, f"hf://{REPOSITORY}", False, "first")
    assert hub.repositories.get(REPOSITORY) == before
    hub.failures.clear()
    upload(small_folder, f"hf://{REPOSITORY}", False, "again")
    assert hub.repositories[REPOSITORY] == content(small_folder)


def test_a_commit_of_someone_else_in_between_is_said(hub, small_folder):
    hub.failures["commit"] = 409
    with pytest.raises(ValueError, match="answered 409. The repository was changed meanwhile. Call again"):
        upload(small_folder, f"hf://{REPOSITORY}", False, "first")


def test_without_a_token_nothing_is_made(hub, small_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "nowhere")
    with pytest.raises(ValueError, match="answered 401. No valid token was sent. Run `hf auth login`, or set HF_TOKEN"):
        upload(small_folder, f"hf://{REPOSITORY}", False, "first")
    assert hub.repositories == {}


def test_a_repository_that_is_not_there_is_said(hub):
    with pytest.raises(ValueError, match="answered 404. There is no such repository"):
        publishing.verify("hf://me/nothing", "digits")


@pytest.mark.parametrize("name", ["flowers", "me/", "me/a/b", "../x/y"])
def test_a_name_that_is_none_of_a_repository_is_refused_before_anything_is_asked(hub, digits_run, name):
    with pytest.raises(ValueError, match="does not name a repository"):
        publishing.publish(digits_run.path, f"hf://{name}")


@pytest.mark.slow
def test_an_upload_that_is_killed_leaves_the_repository_whole(hub, digits_run, tmp_path):
    before = {"README.md": b"of before"}
    hub.repositories[REPOSITORY] = dict(before)
    hub.failures["put"] = "stop"
    words = [sys.executable, "-m", "keras_resnet", "publish", str(digits_run.path), "--to", f"hf://{REPOSITORY}"]
    environment = {**os.environ, "HF_HUB_DISABLE_XET": "1", "TMPDIR": str(tmp_path)}
    first = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert hub.reached.wait(120)
    first.kill()
    first.wait()
    hub.release.set()
    assert hub.repositories[REPOSITORY] == before
    hub.failures.clear()
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "hf_secret" not in again.stdout + again.stderr
    assert {"model.keras", "keras_resnet.json"} < set(hub.repositories[REPOSITORY])

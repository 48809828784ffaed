"""Downloads from a server that misbehaves on purpose: every file is whole and right, or there is none."""

import hashlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from keras_resnet import ResNet18, weights
from keras_resnet.weights import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)  # the same in every process of the tests
DIGEST = f"sha256 {hashlib.sha256(CONTENT).hexdigest()}"
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; what goes wrong stands in the path."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_GET(self):
        how, counts = self.path.strip("/").split("/")[0], self.server.counts
        counts[how] = count = counts.get(how, 0) + 1
        begun = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.server.asked.append((how, begun))
        body, status = CONTENT[begun:], 206 if "Range" in self.headers else 200
        if how == "missing":
            self.answer(404, b"not here", Content_Type="text/plain")
        elif how == "page":
            self.answer(200, b"<html>sign in</html>", Content_Type="text/html")
        elif how == "gzip":
            self.answer(200, body, Content_Encoding="gzip")
        elif how == "empty":
            self.answer(200, b"")
        elif how == "busy" and count < 3 or how == "always-busy":
            self.answer(503, b"later")
        elif how == "other":
            self.answer(200, CONTENT[::-1])
        elif how == "no-ranges" and count > 1:
            self.answer(200, CONTENT)
        elif how in ("cut", "no-ranges") and count < 4:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:700_000])
            self.wfile.flush()
            self.close_connection = True
        elif how == "stands-still" and count == 1:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000])
            self.wfile.flush()
            time.sleep(3)
            self.close_connection = True
        elif how == "slow":
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for place in range(0, len(body), 100_000):
                self.wfile.write(body[place : place + 100_000])
                time.sleep(0.02)
            self.close_connection = True
        elif how == "moved":
            self.answer(302, b"", Location="/whole/file")
        else:
            self.answer(status, body)


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.counts, made.asked = {}, []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 1.0)
    for name in (*download.OFFLINE, "KERAS_RESNET_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def url_of(server, how):
    return f"http://127.0.0.1:{server.server_address[1]}/{how}/file"


@pytest.mark.parametrize("how", ["whole", "busy", "cut", "no-ranges", "stands-still", "slow", "moved"])
def test_a_file_arrives_whole_in_the_end(server, tmp_path, how):
    path = tmp_path / "cache" / "file"
    assert download.fetch(url_of(server, how), path, DIGEST) == path
    assert path.read_bytes() == CONTENT
    assert {entry.name for entry in path.parent.iterdir()} <= {"file", "file.json", "file.lock"}
    if how == "cut":
        assert [begun for _, begun in server.asked] == [0, 700_000, 1_400_000, 2_100_000]


@pytest.mark.parametrize(
    ("how", "digest", "message"),
    [
        ("missing", DIGEST, "answered 404"),
        ("page", "", "sent text/html, and no file of weights"),
        ("gzip", "", "no file of weights"),
        ("empty", DIGEST, "gave 0 bytes"),
        ("empty", "", "gave 0 bytes"),
        ("other", DIGEST, "and sha256 .* was published"),
        ("whole", "sha256 begins 00000000", "begins 00000000 was published"),
        ("whole", "md5 00", "md5 00 was published"),
        ("always-busy", DIGEST, "in 5 attempts; 0 bytes are kept.*answered 503"),
    ],
)
def test_what_is_not_the_file_is_refused_and_leaves_nothing(server, tmp_path, how, digest, message):
    path = tmp_path / "cache" / "file"
    with pytest.raises(ValueError, match=message):
        download.fetch(url_of(server, how), path, digest)
    assert not path.exists() and not path.with_name("file.json").exists()


def test_published_hashes_of_every_kind_are_checked(server, tmp_path):
    sha, md5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()
    for number, digest in enumerate((f"sha256 begins {sha[:8]}", f"sha256 {sha}", f"md5 {md5}")):
        assert download.fetch(url_of(server, "whole"), tmp_path / str(number), digest).read_bytes() == CONTENT


def test_a_file_without_a_published_hash_must_stay_the_same(server, tmp_path):
    path = tmp_path / "file"
    download.fetch(url_of(server, "whole"), path)
    assert json.loads((tmp_path / "file.json").read_text())["sha256"] == DIGEST.removeprefix("sha256 ")
    path.unlink()
    with pytest.raises(ValueError, match="and sha256 .* was published"):
        download.fetch(url_of(server, "other"), path)
    assert not path.exists()
    download.fetch(url_of(server, "whole"), path)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match="not the file that was published, or has changed since"):
        download.fetch(url_of(server, "whole"), path)


def test_what_is_put_into_the_cache_by_hand_has_the_published_hash(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match=f"is not the file that was published.*{DIGEST}"):
        download.fetch(url_of(server, "whole"), tmp_path / "file", DIGEST)
    (tmp_path / "file").write_bytes(CONTENT)
    assert download.fetch(url_of(server, "whole"), tmp_path / "file", DIGEST) and not server.asked


def test_a_link_in_the_cache_is_not_written_through(server, tmp_path):
    (tmp_path / "mine").write_bytes(b"precious")
    (tmp_path / "file.part").symlink_to(tmp_path / "mine")
    download.fetch(url_of(server, "whole"), tmp_path / "file", DIGEST)
    assert (tmp_path / "mine").read_bytes() == b"precious" and (tmp_path / "file").read_bytes() == CONTENT


def test_offline_and_from_the_cache_nothing_is_asked(server, tmp_path, monkeypatch):
    path = tmp_path / "file"
    download.fetch(url_of(server, "whole"), path, DIGEST)
    count = len(server.asked)
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "1")
    assert download.fetch(url_of(server, "whole"), path, DIGEST) == path and len(server.asked) == count
    with pytest.raises(ValueError, match="KERAS_RESNET_OFFLINE or HF_HUB_OFFLINE forbids"):
        download.fetch(url_of(server, "whole"), tmp_path / "other", DIGEST)


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ValueError, match="cache"):
        download.fetch(url_of(server, "whole"), tmp_path / "cache" / "file", DIGEST)


def test_no_room_is_told_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="has 3,000,000 bytes, and .* has room for 1,000"):
        download.fetch(url_of(server, "whole"), tmp_path / "file", DIGEST)


FETCH = """
import pathlib, sys
from keras_resnet.weights import download
download.fetch(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])
"""


def fetch_in_a_process(url, path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FETCH, url, str(path), DIGEST]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_four_processes_fetch_once_and_a_killed_one_leaves_no_half(server, tmp_path):
    path = tmp_path / "file"
    processes = [fetch_in_a_process(url_of(server, "slow"), path) for _ in range(4)]
    deadline = time.monotonic() + 60
    while not path.with_name("file.part").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[0].send_signal(signal.SIGKILL)
    assert not path.exists() or path.read_bytes() == CONTENT
    statuses = [process.wait(120) for process in processes]
    assert statuses[1:] == [0, 0, 0] and path.read_bytes() == CONTENT
    assert server.counts["slow"] <= 2


def test_a_mirror_and_the_hub_stand_in_for_the_publisher(server, tmp_path, monkeypatch):
    home = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("KERAS_RESNET_MIRROR", f"{home}/whole")
    assert download.mirrored("https://host.example/a/b.pth") == f"{home}/whole/host.example/a/b.pth"
    path = download.fetch("https://host.example/a/b.pth", tmp_path / "file", DIGEST)
    assert path.read_bytes() == CONTENT


def test_weights_of_a_tag_and_of_a_repository_are_fetched(tmp_path, monkeypatch):
    model = ResNet18(input_shape=(32, 32, 3), classes=1000)
    weights.save_weights(model, tmp_path / "served.safetensors", names="timm")
    content = (tmp_path / "served.safetensors").read_bytes()

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            known = ("/timm/resnet18.a1_in1k/resolve/main/model.safetensors", "/me/mine/resolve/main/model.safetensors")
            self.send_response(200 if self.path in known else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.path in known else b"")

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{made.server_address[1]}")
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "home"))
    for asked in ("imagenet.a1_in1k", "hf://me/mine"):
        again = ResNet18(weights=asked, input_shape=(32, 32, 3))
        pairs = zip(again.weights, model.weights, strict=True)
        assert all((one.numpy() == other.numpy()).all() for one, other in pairs)
    made.shutdown()
    made.server_close()
    # And once more from the cache, with the server gone.
    assert ResNet18(weights="imagenet.a1_in1k", input_shape=(32, 32, 3)).count_params() == model.count_params()

"""The page as its own process: what it answers, what it refuses, and that it lives on."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import zlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra 'demo' is not installed")

from keras_resnet import demo, evaluation  # noqa: E402
from tests.report.conftest import Parser, browser  # noqa: E402, F401


@pytest.fixture(scope="module")
def run(digits_run):
    return digits_run


@pytest.fixture(scope="module")
def server(run):
    """The command in a process; yields its address, and holds it to end well on Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet", "demo", str(run.path), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    address = re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
    assert address
    yield int(address[1])
    with process:
        assert process.poll() is None, "the server died"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "Stopped." in process.stdout.read()


def asked(port, method="GET", path="/", body=None, headers=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=240)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def predicted(port, content, name="picture.png"):
    status, body, _ = asked(port, "POST", f"/predict?name={urllib.parse.quote(name)}", content)
    return status, json.loads(body)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def digit(run):
    images, _ = run.dataset.arrays("test", 1)
    return png(np.repeat(images[0].astype("uint8"), 3, axis=-1))


def test_the_page_loads_nothing_from_elsewhere(server):
    status, body, headers = asked(server)
    text = body.decode()
    parser = Parser()
    parser.feed(text)
    assert status == 200 and parser.open == [] and parser.links == []
    assert "http" not in text and "default-src 'none'" in headers["content-security-policy"]
    assert "10 classes: 0, 1, 2" in text


def test_a_picture_gets_the_answer_of_predict_and_a_map(server, run, digit, tmp_path):
    (tmp_path / "digit.png").write_bytes(digit)
    status, answer = predicted(server, digit)
    expected = evaluation.predict(run, tmp_path / "digit.png", top=5)[0]["classes"]
    assert status == 200
    assert [row["name"] for row in answer["classes"]] == [row["name"] for row in expected]
    for row, told in zip(answer["classes"], expected, strict=True):
        assert row["probability"] == pytest.approx(told["probability"], abs=1e-5)
    assert answer["picture"].startswith("data:image/png;base64,") and answer["overlay"] != answer["picture"]


def bomb():
    """A PNG whose header says 20,000 by 10,000 pixels, and whose data are a few kilobytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(1 + 3 * 20_000) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_image_a_bomb_and_what_is_cut_off_get_an_answer(server, digit):
    bad = {
        "text.png": (b"this is not an image", "not a JPEG, PNG, GIF, BMP or WebP file"),
        "nothing.png": (b"", "text"),
        "bomb.png": (bomb(), "20000 x 10000 pixels, more than max_pixels"),
        "half.png": (digit[: len(digit) // 2], "half.png"),
        "<b>x</b>.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "<b>x</b>.svg"),
    }
    for name, (content, message) in bad.items():
        status, answer = predicted(server, content, name)
        assert status == 400 and set(answer) == {"error"}, name
        assert message in answer["error"] or name == "nothing.png"
        assert "keras-resnet-" not in answer["error"]  # no path of the server
    assert predicted(server, digit)[0] == 200


@pytest.mark.slow
def test_fifty_at_once_are_all_answered(server, digit):
    contents = [digit if index % 5 else b"no image" for index in range(50)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda content: predicted(server, content), contents))
    assert [status for status, _ in answers] == [200 if index % 5 else 400 for index in range(50)]
    assert len({json.dumps(answer["classes"]) for status, answer in answers if status == 200}) == 1


def test_a_file_that_is_too_large_is_cut_off(server, digit):
    try:
        status, answer = predicted(server, bytes(33 * 2**20))
        assert status == 413 and "32 MiB" in answer["error"]
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused while it was still being sent
    assert predicted(server, digit)[0] == 200


def test_a_sender_that_goes_away_and_a_foreign_name_do_no_harm(server, digit):
    half = socket.create_connection(("127.0.0.1", server))
    half.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
    half.close()
    assert asked(server, headers={"Host": "evil.example"})[0] == 400
    assert asked(server, "GET", "/predict")[0] == 405 and asked(server, "GET", "/etc/passwd")[0] == 404
    assert predicted(server, digit)[0] == 200


def test_another_page_gets_no_answer(server, digit):
    for origin, status in (("https://evil.example", 403), (f"http://127.0.0.1:{server + 1}", 403), ("null", 403)):
        found, body, _ = asked(server, "POST", "/predict?name=a.png", digit, {"Origin": origin})
        assert (found, b"other pages" in body) == (status, True), origin
    assert asked(server, "POST", "/predict", digit, {"Origin": f"http://127.0.0.1:{server}"})[0] == 200


def resident_mib(port):
    """The memory of the process that listens on a port."""
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(line[9] for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port)
    for entry in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(entry) == f"socket:[{inode}]":
                return int(re.search(r"VmRSS:\s+(\d+)", (entry.parents[1] / "status").read_text())[1]) / 1024
    raise AssertionError("nobody listens")


def test_slow_senders_hold_up_nobody(server, digit):
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{server}\r\nContent-Length: 30000000\r\n\r\nabc".encode()
    slow = [socket.create_connection(("127.0.0.1", server)) for _ in range(12)]
    for client in slow:
        client.sendall(head)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server, timeout=20)) as connection:
        connection.request("POST", "/predict?name=a.png", digit)
        assert connection.getresponse().status == 200
    for client in slow:
        client.close()


def test_bodies_beyond_the_bound_send_away_the_one_that_is_slowest(monkeypatch):
    monkeypatch.setattr(demo, "BODY_BYTES", 100)

    class Request:
        def __init__(self, *parts):
            self.parts = parts

        async def stream(self):
            for part in self.parts:
                if isinstance(part, bytes):
                    yield part
                else:
                    await part.wait()

    async def read(bodies, request):
        try:
            async with bodies.read(request, 1000) as content:
                return len(content)
        except TimeoutError:
            return "sent away"

    async def scenario():
        bodies, never, later = demo.Bodies(), asyncio.Event(), asyncio.Event()
        stalled = asyncio.create_task(read(bodies, Request(bytes(60), never)))
        await asyncio.sleep(0.01)
        other = asyncio.create_task(read(bodies, Request(bytes(30), later, bytes(40))))
        await asyncio.sleep(0.01)
        later.set()
        return await asyncio.gather(stalled, other), await read(bodies, Request(bytes(100)))

    assert asyncio.run(scenario()) == (["sent away", 70], 100)


def status_of_many(server, content, count=40):
    """The statuses of uploads at once; one that is sent away while it is being sent finds the connection closed."""

    def upload(_):
        try:
            return predicted(server, content)[0]
        except (BrokenPipeError, ConnectionResetError):
            return 408

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(upload, range(count)))


@pytest.mark.slow
def test_files_that_are_refused_are_not_kept(server, digit):
    predicted(server, digit)
    before = resident_mib(server)
    refused = status_of_many(server, bytes(31 * 2**20))
    # 40 of them have 1,240 MiB; those that found no room were sent away.
    assert set(refused) <= {400, 408} and resident_mib(server) - before < 500


@pytest.mark.exhaustive
def test_many_large_files_share_one_bound_and_silent_clients_are_sent_away(server, digit):
    predicted(server, digit)
    before, sizes = resident_mib(server), []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answers = pool.submit(status_of_many, server, digit + bytes(31 * 2**20))
        while not answers.done():
            sizes.append(resident_mib(server))
            concurrent.futures.wait([answers], timeout=0.05)
    # What follows the end of a PNG makes it doubtful, and it is decoded all the same.
    assert set(answers.result()) <= {200, 400, 408} and max(sizes) - before < 800
    silent = [socket.create_connection(("127.0.0.1", server)) for _ in range(250)]
    assert predicted(server, digit)[0] == 200
    for client in silent[:3]:
        client.settimeout(180)
        assert client.recv(1) == b""  # closed by the server
    for client in silent:
        client.close()


@pytest.mark.slow
def test_the_first_interrupt_ends_it_whoever_is_connected(run):
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet", "demo", str(run.path), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())[1])
    with socket.create_connection(("127.0.0.1", port)) as half:
        half.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
        assert asked(port)[0] == 200  # so that the other one has arrived too
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=180)
    assert process.returncode == 0 and "Stopped." in out and "Traceback" not in err


def test_only_this_machine_reaches_it(server):
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()
    listening = [line.split() for line in lines if line.split()[3] == "0A"]
    addresses = {line[1].split(":")[0] for line in listening if int(line[1].split(":")[1], 16) == server}
    assert addresses == {"0100007F"}  # 127.0.0.1, its bytes in the order of this machine


def test_a_mistake_is_named(run, server, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"port={server} cannot be used"):
        demo.serve(run, server)
    with pytest.raises(ValueError, match="65535"):
        demo.serve(run, 70_000)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match="demo needs uvicorn, which is not installed. Run: pip install 'keras"):
        demo.serve(run)


@pytest.mark.slow
def test_it_works_in_a_browser(server, browser, digit, tmp_path):  # noqa: F811
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "digit.png").write_bytes(digit)
    (tmp_path / "notes.txt").write_text("no image")
    browser.get(f"http://127.0.0.1:{server}/")
    chosen = browser.find_element(By.ID, "files")
    chosen.send_keys(f"{tmp_path / 'digit.png'}\n{tmp_path / 'notes.txt'}")
    WebDriverWait(browser, 60).until(lambda page: page.find_element(By.ID, "told").text == "2 files seen.")
    first, second = browser.find_elements(By.CSS_SELECTOR, "section.answer")
    assert "cannot be used" in first.text and "%" in second.text
    pictures = second.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 2 and all(picture.get_property("naturalWidth") == 256 for picture in pictures)
    browser.save_screenshot(os.fspath(tmp_path / "demo.png"))
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert all("400" in entry["message"] or "favicon" in entry["message"] for entry in severe)

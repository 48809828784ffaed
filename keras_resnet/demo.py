"""A local page where one drops an image and sees classes, probabilities and what the network looks at.

Example:
    >>> from keras_resnet import demo
    >>> demo.serve("nowhere")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: run_or_model='nowhere' is not there. ...
"""

import asyncio
import contextlib
import io
import logging
import os
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from keras_resnet import needs_tensorflow  # noqa: F401
from keras_resnet.arguments import check_int
from keras_resnet.data.array_files import NPY
from keras_resnet.data.options import MAX_PIXELS
from keras_resnet.errors import BadValue, require
from keras_resnet.evaluation import Predictor, open_predictor
from keras_resnet.evaluation.scoring import answers_of, read_batches
from keras_resnet.explain import explain
from keras_resnet.explain.overlays import as_rgb, blend, draw_overlay
from keras_resnet.report.page import page
from keras_resnet.report.run_page import png_of, url_of

# Until a connection has sent the head of a request, and until a request has sent its body.
HEAD_SECONDS, BODY_SECONDS = 10.0, 60.0
# Of all bodies in memory together; at most this many are answered at a time.
BODY_BYTES = 256 * 2**20
MAX_ANSWERS = 4
CONNECTIONS = 500


def with_idle_timeout(protocol: type) -> type:
    """Returns a protocol that closes connections whose next request does not arrive."""

    class IdleTimeout(protocol):
        """Closes a connection that is silent, or sends byte by byte, before it has asked anything."""

        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def _wait(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return IdleTimeout


class SameOrigin:
    """Answers 403 to requests that another page sends, as its browser says in `Origin`.

    Args:
        application: of ASGI, which other requests reach.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes on what comes from the page itself, or from no page."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            origin, host = headers.get(b"origin"), headers.get(b"host", b"")
            if origin is not None and origin != b"http://" + host:
                body = b'{"error": "Requests of other pages are not answered."}'
                kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
                await send({"type": "http.response.start", "status": 403, "headers": kind})
                await send({"type": "http.response.body", "body": body})
                return
        await self.application(scope, receive, send)


class Bodies:
    """Reads the bodies of requests into a bounded amount of memory, so that slow senders do not hold up the others."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(MAX_ANSWERS)
        self._sizes: dict[asyncio.Timeout, int] = {}
        self._last_parts: dict[asyncio.Timeout, float] = {}

    @contextlib.asynccontextmanager
    async def read(self, request: Any, most: int) -> AsyncIterator[bytes | None]:
        """Yields the body of a request; None for one that is larger. It counts until the block ends.

        Args:
            request: of Starlette.
            most: bytes.

        Raises:
            TimeoutError: it does not arrive, or it is the slowest of more bodies than fit into memory.
        """
        clock = asyncio.get_running_loop().time
        limit = asyncio.timeout(BODY_SECONDS)
        content: bytearray | None = bytearray()
        try:
            async with limit:
                async for part in request.stream():
                    content += part
                    self._sizes[limit], self._last_parts[limit] = len(content), clock()
                    if len(content) > most:
                        content = None
                        break
                    if sum(self._sizes.values()) > BODY_BYTES:
                        slowest = min(self._last_parts, key=self._last_parts.__getitem__)
                        del self._sizes[slowest], self._last_parts[slowest]
                        slowest.reschedule(clock())
                        await asyncio.sleep(0)
            self._last_parts.pop(limit, None)
            yield None if content is None else bytes(content)
        finally:
            self._sizes.pop(limit, None)
            self._last_parts.pop(limit, None)


TOP = 5
SHOWN_SIDE_PX = 256
# With which arrays and archives of arrays begin.
ZIP = b"PK\x03\x04"


class Answers:
    """Answers for one model; one file at a time goes through the network, the others wait.

    Args:
        predictor: the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.turn = threading.Lock()

    def __call__(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns the page's answer for a file."""
        record, model = self.predictor.record, self.predictor.model
        with self.turn:  # for reading too: the largest picture that is allowed takes a gigabyte while it is resized
            image = self._read(name, content)
            heat_map = explain(model, image[None])
        shown, heat = as_rgb(image, record), heat_map.maps[0]
        if record.channel_order == "any":
            return {
                "name": name,
                "overlay": _drawn(shown, heat),
                **answers_of(self.predictor, heat_map.outputs, TOP)[0],
            }
        answer = {"name": name, "picture": _url(shown, None), **answers_of(self.predictor, heat_map.outputs, TOP)[0]}
        return answer if "values" in answer else answer | {"overlay": _url(shown, heat)}

    def _read(self, name: str, content: bytes) -> np.ndarray:
        # Files are inspected by their headers before they are decoded, and that takes a path.
        suffix = ".npy" if content.startswith(NPY) else ".npz" if content.startswith(ZIP) else ""
        handle, path = tempfile.mkstemp(prefix="keras-resnet-", suffix=suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            names, examples = next(read_batches(path, self.predictor, MAX_PIXELS))
            if len(names) > 1:
                raise BadValue(f"{name} holds several examples, and the page shows one. Save one of them alone.")
            return np.asarray(examples[0], dtype="float32")
        except BadValue as error:
            raise BadValue(str(error).replace(path, name)) from error
        finally:
            os.unlink(path)


def _drawn(example: np.ndarray, heat: np.ndarray) -> str:
    """Returns a drawing of a signal or a volume with its map, a PNG as a URL."""
    buffer = io.BytesIO()
    draw_overlay(example, heat, buffer)
    return url_of(buffer.getvalue())


def _url(image: np.ndarray, heat: np.ndarray | None) -> str:
    """Returns a PNG as a URL: small pictures enlarged by a whole factor, large ones made smaller."""
    from PIL import Image

    picture: Any = Image.fromarray(blend(image, np.zeros(image.shape[:2]) if heat is None else heat))
    factor = max(1, SHOWN_SIDE_PX // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX))
    return url_of(png_of(picture))


HOST, PORT = "127.0.0.1", 8000
MAX_BYTES = 32 * 2**20  # of an uploaded file
PACKAGES = ("starlette", "uvicorn")
# Nothing from elsewhere is loaded, and no other page may show this one inside itself.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
FORM = """
<p class="soft">Files stay on this machine.</p>
<label id="drop" style="display:block; border:2px dashed var(--line); border-radius:.6rem; padding:2rem; margin:0;
  text-align:center; cursor:pointer">Drop images or arrays (.npy, .npz) here, or choose them:
  <input id="files" type="file" accept="image/*,.npy,.npz" multiple></label>
<p id="told" role="status"></p><div id="answers"></div>
"""
SCRIPT = """
const drop = document.getElementById("drop"), told = document.getElementById("told");
const answers = document.getElementById("answers"), files = document.getElementById("files");
const make = (tag, text) => { const made = document.createElement(tag); made.textContent = text ?? ""; return made; };
function picture(source, alternative) {
  const made = make("img"); made.src = source; made.alt = alternative; made.style.marginRight = "1rem"; return made;
}
function show(name, answer) {
  const part = make("section"); part.className = "answer"; part.append(make("h2", name));
  if (answer.error) { const line = make("p", answer.error); line.className = "error"; part.append(line); }
  else {
    if (answer.picture) part.append(picture(answer.picture, name));
    const seen = "where the network sees " + (answer.classes?.[0].name ?? "the value");
    if (answer.overlay) part.append(picture(answer.overlay, seen));
    const table = make("table");
    table.className = "answers";
    for (const row of answer.classes ?? answer.values.map((value, index) => ({
        name: "output " + index, value: value + (answer.units ? " " + answer.units[index] : "") }))) {
      const line = make("tr"), number = make("td", row.value ?? (100 * row.probability).toFixed(2) + " %");
      number.className = "number"; line.append(make("td", row.name), number);
      if (row.probability !== undefined) {
        const cell = make("td"), bar = make("span"); bar.className = "hbar"; cell.className = "share";
        bar.style.width = 100 * row.probability + "%"; cell.append(bar); line.append(cell);
      }
      table.append(line);
    }
    part.append(table);
  }
  answers.prepend(part);
}
async function send(chosen) {
  for (const [index, file] of [...chosen].entries()) {
    told.textContent = "Looking at " + file.name + " (" + (index + 1) + " of " + chosen.length + ")";
    try {
      const answer = await fetch("predict?name=" + encodeURIComponent(file.name), { method: "POST", body: file });
      show(file.name, await answer.json());
    } catch (problem) { show(file.name, { error: "The server did not answer: " + problem }); }
  }
  told.textContent = chosen.length + (chosen.length === 1 ? " file" : " files") + " seen.";
}
files.addEventListener("change", () => send(files.files));
drop.addEventListener("dragover", event => event.preventDefault());
drop.addEventListener("drop", event => { event.preventDefault(); send(event.dataTransfer.files); });
"""


def application(run_or_model: Any, task: str | None = None) -> Any:
    """Returns the page as an ASGI application.

    `GET /` is the page. `POST /predict?name=NAME` with the bytes of an image file, or of `.npy` or `.npz` with one
    example, as its body answers with JSON: `classes` (`name` and `probability`, the most probable first), `picture` and
    `overlay` (PNG as data URLs; of signals and volumes the overlay alone), for a regression `values`; or `error` with
    the status 400 for what cannot be read and 413 for a file above 32 MiB.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        task: "classification" or "regression", for a model that carries no record of it.

    Raises:
        TypeError, ValueError: a path holds no model.
        ImportError: a package is missing; the message has the command that installs it.
    """
    for name in PACKAGES:
        require(name, "demo", "demo")
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    predictor = open_predictor(run_or_model, task)
    answers, bodies = Answers(predictor), Bodies()
    text = _text(predictor)

    async def home(request: Request) -> Response:
        return HTMLResponse(text, headers=HEADERS)

    async def predict(request: Request) -> Response:
        def refused(told: str, status: int) -> Response:
            return JSONResponse({"error": told}, status, headers={**HEADERS, "connection": "close"})

        name = request.query_params.get("name", "the file")[:200]
        try:
            async with bodies.read(request, MAX_BYTES) as content:
                if content is None:
                    return refused(f"The file has more than {MAX_BYTES // 2**20} MiB. Make the picture smaller.", 413)
                async with bodies.turn:  # the answer too: a picture takes more memory than its file
                    answer, status = await run_in_threadpool(answered, name, content)
        except TimeoutError:
            return refused("The file did not arrive in time. Send it again.", 408)
        return JSONResponse(answer, status, headers=HEADERS)

    def answered(name: str, content: bytes) -> tuple[dict[str, Any], int]:
        """Returns an answer and its status; an error that leaves the thread would keep the file in its traceback."""
        try:
            return answers(name, content), 200
        except BadValue as error:
            return {"error": str(error)}, 400

    # A page elsewhere that calls itself by another name for this address gets no answer.
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(SameOrigin)]
    return Starlette(routes=[Route("/", home), Route("/predict", predict, methods=["POST"])], middleware=middleware)


def _text(predictor: Any) -> str:
    name = predictor.model.name if predictor.run is None else f"run {predictor.run.path.name}"
    names = predictor.record.class_names
    summary = f"{len(names)} classes: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}" if names else ""
    return page(f"Try {name}", summary, [("Your file", FORM)], SCRIPT)


def serve(run_or_model: Any, port: int = PORT, task: str | None = None) -> None:
    """Serves the page on 127.0.0.1 until Ctrl-C; no other machine can reach it.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        port: of the address; 0 for a free one. The address is printed.
        task: as for `application`.

    Raises:
        TypeError, ValueError: as `application`; the port is taken.
        ImportError: a package is missing.
    """
    check_int("port", port, minimum=0, maximum=65535)
    served = application(run_or_model, task)
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise BadValue(
            f"port={port} cannot be used on {HOST}: {error.strerror}. Allowed is a free port. Choose another, or 0 "
            "for any."
        ) from error
    listener.listen(128)  # before the address is printed: its reader may connect at once
    address = urllib.parse.urlunsplit(("http", f"{HOST}:{listener.getsockname()[1]}", "/", "", ""))
    print(f"{address}  (Ctrl-C stops)", flush=True)
    with listener:
        config = uvicorn.Config(
            served,
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            http=with_idle_timeout(H11Protocol),
            timeout_graceful_shutdown=1,  # the first Ctrl-C ends it, whoever is connected
        )

        class Server(uvicorn.Server):
            """Says nothing of the requests that it leaves unanswered when it ends."""

            async def shutdown(self, sockets: Any = None) -> None:
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                await super().shutdown(sockets)

        try:
            Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            print("Stopped.")

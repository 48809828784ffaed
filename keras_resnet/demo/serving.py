"""The page and its server, on this machine alone."""

import importlib.util
import logging
import socket
import urllib.parse
from typing import Any

from keras_resnet.arguments import check_int
from keras_resnet.demo.answers import Answers
from keras_resnet.demo.limits import CONNECTIONS, Bodies, SameOrigin, with_idle_timeout
from keras_resnet.errors import BadValue, MissingPackage
from keras_resnet.evaluation import open_trained
from keras_resnet.report.page import page

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
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"demo needs {', '.join(missing)}, which is not installed. It comes with the extra 'demo'. Run: pip "
            "install 'keras-resnet-zoo[demo]'"
        )
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    trained = open_trained(run_or_model, task)
    answers, bodies = Answers(trained), Bodies()
    text = _text(trained)

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


def _text(trained: Any) -> str:
    name = trained.model.name if trained.run is None else f"run {trained.run.path.name}"
    names = trained.record.class_names
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

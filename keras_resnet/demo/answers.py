"""What the page says of one file: classes, probabilities and a map."""

import io
import os
import tempfile
import threading
from typing import Any

import numpy as np

from keras_resnet.data.array_files import NPY
from keras_resnet.data.options import MAX_PIXELS
from keras_resnet.errors import BadValue
from keras_resnet.evaluation import Trained
from keras_resnet.evaluation.scoring import answers_of, read_batches
from keras_resnet.explain import explain
from keras_resnet.explain.overlays import as_rgb, blend, draw_overlay
from keras_resnet.report.run_page import png_of, url_of

TOP = 5
SHOWN_SIDE_PX = 256
# With which arrays and archives of arrays begin.
ZIP = b"PK\x03\x04"


class Answers:
    """Answers for one model; one file at a time goes through the network, the others wait."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.turn = threading.Lock()

    def __call__(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns the page's answer for a file."""
        record, model = self.trained.record, self.trained.model
        with self.turn:  # for reading too: the largest picture that is allowed takes a gigabyte while it is resized
            image = self._read(name, content)
            heat_map = explain(model, image[None])
        shown, heat = as_rgb(image, record), heat_map.maps[0]
        if record.channel_order == "any":
            return {"name": name, "overlay": _drawn(shown, heat), **answers_of(self.trained, heat_map.outputs, TOP)[0]}
        answer = {"name": name, "picture": _url(shown, None), **answers_of(self.trained, heat_map.outputs, TOP)[0]}
        return answer if "values" in answer else answer | {"overlay": _url(shown, heat)}

    def _read(self, name: str, content: bytes) -> np.ndarray:
        # Files are inspected by their headers before they are decoded, and that takes a path.
        suffix = ".npy" if content.startswith(NPY) else ".npz" if content.startswith(ZIP) else ""
        handle, path = tempfile.mkstemp(prefix="keras-resnet-", suffix=suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            names, examples = next(read_batches(path, self.trained, MAX_PIXELS))
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

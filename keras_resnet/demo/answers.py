"""What the page says of one file: classes, probabilities and a map."""

import os
import tempfile
import threading
from typing import Any

import numpy as np

from keras_resnet import data as datasets
from keras_resnet.errors import BadValue
from keras_resnet.evaluation import Trained
from keras_resnet.evaluation.scoring import answers_of
from keras_resnet.explain import explain
from keras_resnet.explain.overlays import as_rgb, blend
from keras_resnet.report.pictures import png_of, url_of

TOP = 5
SHOWN_SIDE_PX = 256


class Answers:
    """Answers for one model; one file at a time goes through the network, the others wait.

    Args:
        trained: a classifier of pictures, or a regression on pictures.

    Raises:
        ValueError: the model takes no pictures.
    """

    def __init__(self, trained: Trained) -> None:
        if trained.record.channel_order == "any":
            raise BadValue(
                f"The model takes {trained.model.input_shape[1:]}, and the page takes image files. Allowed are models "
                "of pictures with 1 or 3 channels. Use explain on your own arrays."
            )
        self.trained = trained
        self.turn = threading.Lock()

    def __call__(self, name: str, content: bytes) -> dict[str, Any]:
        """Returns what the page shows of a file.

        Args:
            name: of the file, for messages.
            content: of the file.

        Raises:
            ValueError: it is no image that can be read.
        """
        image = self._read(name, content)
        record, model = self.trained.record, self.trained.model
        with self.turn:
            found = explain(model, image[None])
        shown = as_rgb(image, record)
        answer = {"name": name, "picture": _url(shown, None), **answers_of(self.trained, found.outputs, TOP)[0]}
        return answer if "values" in answer else answer | {"overlay": _url(shown, found.maps[0])}

    def _read(self, name: str, content: bytes) -> np.ndarray:
        # Files are inspected by their headers before they are decoded, and that takes a path.
        handle, path = tempfile.mkstemp(prefix="keras-resnet-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            return np.asarray(datasets.read_for_network(path, self.trained.record), dtype="float32")
        except datasets.BadImageError as error:
            raise BadValue(str(error).replace(path, name)) from error
        finally:
            os.unlink(path)


def _url(image: np.ndarray, heat: np.ndarray | None) -> str:
    """Returns a PNG as a URL: small pictures enlarged by a whole factor, large ones made smaller."""
    from PIL import Image

    shown: Any = Image.fromarray(blend(image, np.zeros(image.shape[:2]) if heat is None else heat))
    factor = max(1, SHOWN_SIDE_PX // max(shown.size))
    shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    shown.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX))
    return url_of(png_of(shown))

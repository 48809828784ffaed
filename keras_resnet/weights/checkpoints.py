"""Checkpoints of PyTorch, read without PyTorch: the pickle inside may make tensors and dicts, and call nothing else."""

import collections
import dataclasses
import math
import os
import pathlib
import pickle
import zipfile
from typing import Any

import numpy as np

from keras_resnet.errors import BadValue

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Under which training scripts keep the weights: timm, torchvision's references, PyTorch's own examples, Lightning.
# Averaged weights come first, as timm loads them.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
MAX_BYTES_OF_PICKLE = 64 * 2**20


class _Refused(Exception):
    """The pickle names something that is not needed for weights."""


class _Namespace:
    """Stands for the arguments of a training script, which checkpoints of timm carry; nothing reads them."""

    def __setstate__(self, state: Any) -> None:
        """Forgets them."""


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in an archive.

    Attributes:
        archive: path of the file.
        entry: of the archive that holds the numbers.
        dtype: NumPy's name, or "bfloat16".
        offset: of the first number.
        shape: of the tensor.
    """

    archive: pathlib.Path
    entry: str
    dtype: str
    offset: int
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Returns the numbers, bfloat16 widened to float32."""
        kind = np.dtype("uint16" if self.dtype == "bfloat16" else self.dtype)
        count = math.prod(self.shape)
        with zipfile.ZipFile(self.archive) as archive, archive.open(self.entry) as file:
            file.seek(self.offset * kind.itemsize)
            numbers = np.frombuffer(file.read(count * kind.itemsize), kind)
        if self.dtype == "bfloat16":
            numbers = (numbers.astype("uint32") << 16).view("float32")
        return numbers.reshape(self.shape)


def read_checkpoint(path: pathlib.Path) -> dict[str, StoredTensor]:
    """Returns the tensors of a checkpoint by their names, without their numbers."""
    where = f"weights={os.fspath(path)!r}"
    if not zipfile.is_zipfile(path):
        raise BadValue(
            f"{where} is not an archive as torch.save writes since PyTorch 1.6; older files are pickles and are not "
            "read. Load it in PyTorch with weights_only=True and save it again, or take the .safetensors file."
        )
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in sizes if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1 or any(entry.compress_type != zipfile.ZIP_STORED for entry in sizes.values()):
            raise BadValue(f"{where} is not an archive as torch.save writes. Save it again with torch.save.")
        if sizes[pickles[0]].file_size > MAX_BYTES_OF_PICKLE:
            raise BadValue(f"{where} holds a pickle of {sizes[pickles[0]].file_size} bytes. Weights need far less.")
        root = pickles[0].removesuffix("data.pkl")
        try:
            with archive.open(pickles[0]) as file:
                tensors = _Unpickler(file, path, root, {name: entry.file_size for name, entry in sizes.items()}).load()
        except _Refused as error:
            raise BadValue(
                f"{where} asks for {str(error)!r}, which no weights need, and nothing of it was run. Allowed are "
                "tensors in dicts. Save model.state_dict() alone."
            ) from None
        except (pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BadValue(f"{where} holds a damaged pickle: {error}. Save it again.") from error
    return _state_dict(tensors, where)


def _state_dict(found: Any, where: str) -> dict[str, StoredTensor]:
    """Returns the tensors in the first dict that holds any, of those that training scripts write."""
    # The outer one last: beside the weights a tensor may stand in it, such as the best accuracy.
    for candidate in (*(found.get(key) for key in WRAPPERS if isinstance(found, dict)), found):
        if isinstance(candidate, dict):
            tensors = {str(name): value for name, value in candidate.items() if isinstance(value, StoredTensor)}
            if tensors:
                return tensors
    keys = list(found)[:8] if isinstance(found, dict) else type(found).__name__
    raise BadValue(f"{where} holds no tensors: {keys}. Allowed is a state dict, alone or under {', '.join(WRAPPERS)}.")


class _Unpickler(pickle._Unpickler):
    """An unpickler that finds tensors, ordered dicts and nothing else.

    It is the one in Python: that in C makes a list as long as the largest number of a memo, which 247 bytes can set to
    2**31.
    """

    def __init__(self, file: Any, path: pathlib.Path, root: str, sizes: dict[str, int]) -> None:
        super().__init__(file)
        self.path, self.root, self.sizes = path, root, sizes

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
            ("argparse", "Namespace"): _Namespace,
        }
        if (module, name) not in allowed:
            raise _Refused(f"{module}.{name}")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, numel = pid
        entry = f"{self.root}data/{key}"
        if kind != "storage" or not isinstance(dtype, str) or entry not in self.sizes:
            raise pickle.UnpicklingError(f"no storage {key!r}")
        size = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        if int(numel) * size != self.sizes[entry]:
            raise pickle.UnpicklingError(
                f"storage {key!r} has {self.sizes[entry]} bytes where {numel} numbers are said"
            )
        return dtype, entry, int(numel)

    def _tensor(self, storage: Any, offset: int, shape: tuple, stride: tuple, *rest: Any) -> StoredTensor:
        dtype, entry, numel = storage
        shape = tuple(int(side) for side in shape)
        expected = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        packed = all(side == 1 or step == wanted for side, step, wanted in zip(shape, stride, expected, strict=True))
        if min(shape, default=1) < 0 or offset < 0 or not packed or offset + math.prod(shape) > numel:
            raise pickle.UnpicklingError(
                f"a tensor of shape {shape} and stride {stride} in a storage of {numel} numbers"
            )
        return StoredTensor(self.path, entry, dtype, int(offset), shape)

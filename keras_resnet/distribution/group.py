"""The processes that train one model together, and what they tell each other: sums, rows, words, files."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import keras
import numpy as np

from keras_resnet.distribution.peers import Peers, announce_open_server, find_peers
from keras_resnet.errors import BadValue, UserError

# Seconds from one line about late processes to the next, of which the first is the earliest.
FIRST_SECONDS, THEN_SECONDS = 10.0, 60.0
_ANSWER_SECONDS, _LOOK_SECONDS = 1.0, 0.5


@contextlib.contextmanager
def report_late_peers(addresses: Sequence[str], index: int) -> Iterator[None]:
    """Names on standard error the processes that do not listen yet, after 10 s and each minute from then on.

    Inside the block Ctrl-C ends this process at once: TensorFlow would keep Python from seeing it.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(index), *addresses],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
        watcher.kill()
        watcher.wait()


def late(addresses: Sequence[str], index: int) -> list[int]:
    """Returns the numbers of the processes that do not listen on their address, 0-based."""
    return [other for other, address in enumerate(addresses) if other != index and not _listens(address)]


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _watch(parent: int, index: int, addresses: Sequence[str]) -> None:
    start = time.monotonic()
    due = start + FIRST_SECONDS
    while os.getppid() == parent:  # it may be killed, and its output is to end with it
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() < due:
            continue
        missing, due = late(addresses, index), time.monotonic() + THEN_SECONDS
        if missing:
            names = ", ".join(f"process {other + 1} at {addresses[other]}" for other in missing)
            print(
                f"distribution: process {index + 1} of {len(addresses)} has waited {time.monotonic() - start:.0f} s "
                f"for {names}. It has not begun, or cannot be reached from here. Ctrl-C ends the wait.",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])


T = TypeVar("T")
# Files travel in pieces, so that a large state does not take its size again in every process.
PIECE_BYTES = 32 * 2**20
# What TensorFlow and JAX raise where another process has ended, stands still, or cannot be reached.
_OF_TENSORFLOW = ("Unavailable", "Aborted", "Cancelled", "Internal", "DeadlineExceeded", "Unknown")
LOST = (*(f"{kind}Error" for kind in _OF_TENSORFLOW), "JaxRuntimeError", "XlaRuntimeError")


class PeerLost(UserError, RuntimeError):
    """Another process of the training ended or stands still; the message names it, the step and how to go on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """This process and its peers. Every method is for all of them at the same time.

    Attributes:
        peers: who they are.
        strategy: TensorFlow's, whose collective operations carry what they say.
    """

    peers: Peers
    strategy: Any
    # Whether the parts of a batch are put together before the step, which is then that of one process.
    joins_parts: ClassVar[bool] = False

    @property
    def index(self) -> int:
        """Of this process, 0-based."""
        return self.peers.index

    @property
    def count(self) -> int:
        """How many processes there are."""
        return self.peers.count

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.peers.is_first

    def sum_of(self, values: Sequence[Any]) -> list[Any]:
        """Returns the sums over all processes; inside `strategy.run`.

        Args:
            values: tensors of the same shapes in every process.
        """
        return list(_context().all_reduce("SUM", self._placed(values)))

    def rows_of(self, values: Sequence[Any]) -> list[Any]:
        """Returns the rows of all processes, those of the first process first; inside `strategy.run`.

        Args:
            values: tensors of the same shapes in every process.
        """
        gathered = list(_context().all_gather(self._placed(values), axis=0))
        for rows, value in zip(gathered, values, strict=True):  # it forgets the shapes
            if value.shape.rank is not None:
                rows.set_shape([None if value.shape[0] is None else value.shape[0] * self.count, *value.shape[1:]])
        return gathered

    def _placed(self, values: Sequence[Any]) -> list[Any]:
        """Returns tensors that name a device, without which a strategy does not know where they are."""
        import tensorflow as tf

        with tf.device(self.strategy.extended.worker_devices[0]):
            return [tf.identity(value) for value in values]

    @functools.cached_property
    def _rows(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        def rows(values: Any) -> Any:
            return self.strategy.run(lambda value: self.rows_of([value])[0], (values,))

        return tf.function(rows, autograph=False, reduce_retracing=True)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Returns the rows of all processes, those of the first process first.

        Args:
            values: int32, int64 or float32, of the same shape in every process.
        """
        return np.asarray(self._rows(keras.ops.convert_to_tensor(values)))

    def agree(self, signal: int | None, is_due: bool, pause: int) -> tuple[int | None, bool, int]:
        """Agrees with all processes after a batch: on a signal that any of them had, and the first one's wish.

        Args:
            signal: that this process had; None for none.
            is_due: whether this process would save a state.
            pause: batches after which this process would agree again.
        """
        rows = self.gather(np.array([[signal or 0, is_due, pause]], "int32"))
        return int(rows[:, 0].max()) or None, bool(rows[0, 1]), int(rows[0, 2])

    def texts(self, text: str) -> list[str]:
        """Returns a text of every process.

        Args:
            text: of this process.
        """
        content = text.encode("utf-8", "surrogatepass")
        lengths = self.gather(np.array([len(content)], "int32"))
        room = np.zeros((1, max(1, int(lengths.max()))), "int32")
        room[0, : len(content)] = np.frombuffer(content, "uint8")
        rows = self.gather(room).astype("uint8")
        return [
            row[:length].tobytes().decode("utf-8", "surrogatepass") for row, length in zip(rows, lengths, strict=True)
        ]

    def together(self, make: Callable[[], T]) -> T:
        """Calls `make` and returns its result if all processes succeed; else every process raises.

        Args:
            make: raises a `UserError` where something is wrong here.

        Raises:
            ValueError: another process has such an error; its message says which and what.
        """
        error: UserError | None = None
        try:
            value = make()
        except UserError as raised:
            error = raised
        messages = self.texts("" if error is None else str(error) or type(error).__name__)
        if error is not None:
            raise error
        for index, text in enumerate(messages):
            if text:
                raise BadValue(f"The {self._name_of(index)} says: {text}")
        return value

    def _name_of(self, index: int) -> str:
        return f"process {index + 1} of {self.count}, at {self.peers.addresses[index]},"

    def from_first(self, make: Callable[[], str]) -> str:
        """Returns the text that the first process makes.

        Args:
            make: called in the first process alone.

        Raises:
            ValueError: it raised a `UserError`.
        """
        return self.texts(self.together(make if self.is_first else str))[0]

    def is_true(self, check: Callable[[], bool]) -> bool:
        """Calls a function in the first process and returns its result in all."""
        return bool(self.from_first(lambda: "yes" * check()))

    def check_same(self, text: str, what: str, compare: Callable[[str, str], str]) -> None:
        """Raises where a process differs from the first.

        Args:
            text: of this process.
            what: the text is of.
            compare: from the first process's text and that of another to what differs.

        Raises:
            ValueError: in every process.
        """
        digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), "int32")[None]
        digests = self.gather(digest)
        if (digests == digests[:1]).all():
            return
        texts = self.texts(text)
        index = next(index for index, other in enumerate(texts) if other != texts[0])
        raise BadValue(
            f"The {self._name_of(index)} has {what} that is not that of the first; differing: "
            f"{compare(texts[0], texts[index])}. All processes train one model. Start all of them with the same "
            "command on the same data."
        )

    def send_files(self, folder: pathlib.Path, names: Iterable[str]) -> None:
        """Gives every process the files of the first one.

        Args:
            folder: where they are, and where the others get them.
            names: in it, as the first process has them.
        """
        for name in self.texts("\n".join(names) if self.is_first else "")[0].splitlines():
            path = folder / name
            size = int(self.gather(np.array([path.stat().st_size if self.is_first else 0], "int64"))[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "rb" if self.is_first else "wb") as file:
                for start in range(0, size, PIECE_BYTES):
                    length = min(PIECE_BYTES, size - start)
                    piece = np.zeros(-(-length // 4), "int32")
                    if self.is_first:
                        content = file.read(length)
                        piece.view("uint8")[:length] = np.frombuffer(content, "uint8")
                    piece_sum = self.sum_of_arrays(piece)
                    if not self.is_first:
                        file.write(piece_sum.tobytes()[:length])

    def sum_of_arrays(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum over all processes.

        Args:
            values: int32, int64 or float32, of the same shape in every process.
        """
        return np.asarray(self._total(keras.ops.convert_to_tensor(values)))

    def training(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which models are made and trained."""
        return contextlib.nullcontext()

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which this process computes alone."""
        return contextlib.nullcontext()

    @functools.cached_property
    def _total(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        def total(values: Any) -> Any:
            return self.strategy.run(lambda value: self.sum_of([value])[0], (values,))

        return tf.function(total, autograph=False, reduce_retracing=True)

    @contextlib.contextmanager
    def translate_peer_errors(self, place: Callable[[], str]) -> Iterator[None]:
        """Raises `PeerLost` for an error of TensorFlow or JAX in the block that another process is the reason of.

        Args:
            place: says where this process was.
        """
        try:
            yield
        except Exception as error:
            lost = self._lost(error, place()) if type(error).__name__ in LOST else None
            if lost is None:
                raise
            raise lost from error

    def _lost(self, error: Exception, place: str) -> PeerLost | None:
        lost = sorted({int(number) for number in re.findall(r"/task:(\d+)", str(error))} - {self.index})
        names = " and ".join(self._name_of(index) for index in lost if index < self.count)
        if not names and not re.search("ollective|heartbeat|oordination|socket|onnection", str(error)):
            return None
        return PeerLost(
            f"Process {self.index + 1} of {self.count} lost {names or 'one of the others,'} {place}: it ended, stands "
            "still, or cannot be reached. Start all processes again with --resume; they go on from the last state."
        )


class Alone(Group):
    """A single process: what it says to all, it says to itself."""

    joins_parts = True

    def __init__(self) -> None:
        super().__init__(Peers(("this process",), 0, "itself"), None)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Returns the rows of this process."""
        return np.asarray(values)

    def send_files(self, folder: pathlib.Path, names: Iterable[str]) -> None:
        """Leaves the files where they are."""

    @contextlib.contextmanager
    def translate_peer_errors(self, place: Callable[[], str]) -> Iterator[None]:
        """Leaves errors of the block as they are: no other process is the reason."""
        yield


ALONE = Alone()


@functools.cache
def join() -> Group:
    """Returns the processes that the environment names, this one among them; they wait for each other here.

    Raises:
        ValueError: nothing names them, Keras does not run on TensorFlow, or TensorFlow has computed already.
    """
    if keras.config.backend() != "tensorflow":
        raise BadValue(
            f"distribution.kind='multiworker' is for TensorFlow, and Keras runs on {keras.config.backend()!r}. Allowed "
            "is the backend 'tensorflow'. Set KERAS_BACKEND, or train in one process."
        )
    import tensorflow as tf

    peers = find_peers()
    print(f"distribution: {peers}", flush=True)
    announce_open_server()
    os.environ["TF_CONFIG"] = peers.tf_config()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # A process has one device: the n-th process of a machine takes the n-th that it sees.
        host = peers.addresses[peers.index].rpartition(":")[0]
        before = sum(address.rpartition(":")[0] == host for address in peers.addresses[: peers.index])
        try:
            tf.config.set_visible_devices([gpus[before % len(gpus)]], "GPU")
        except RuntimeError as error:
            raise too_late(error) from error
    try:
        with report_late_peers(peers.addresses, peers.index):
            return Group(peers, tf.distribute.MultiWorkerMirroredStrategy())
    except RuntimeError as error:  # collective operations must be set up before the first computation
        raise too_late(error) from error
    except Exception as error:
        if type(error).__name__ not in LOST:
            raise
        raise could_not_begin(peers, error) from error


def could_not_begin(peers: Peers, error: Exception) -> BadValue:
    """Returns the exception to raise if processes do not find each other."""
    return BadValue(
        f"Process {peers.index + 1} of {peers.count} could not begin on {socket.gethostname()} ({error}). Every "
        "process must be able to reach every address, and each listens on its own. Check the addresses "
        f"{', '.join(peers.addresses)}."
    )


def too_late(error: Exception) -> BadValue:
    """Returns the exception to raise if something was computed before the processes found each other."""
    return BadValue(
        f"Something was computed already ({error}). Processes must find each other first. Begin the training before "
        "data and models are made in this program."
    )


def _context() -> Any:
    import tensorflow as tf

    return tf.distribute.get_replica_context()

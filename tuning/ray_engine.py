"""Trials on a Ray cluster: any node trains, no folder is shared, and a node may die.

A worker of the search stays on this machine and keeps the record. What it would train it hands to Ray with the files of
the trial; states come back while the trial is trained, so that another node goes on from the last one.
"""

import contextlib
import os
import pathlib
import platform
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from keras_resnet import data as datasets
from keras_resnet import files
from keras_resnet.distribution.launch import check_resources, connect, on_this_node
from keras_resnet.errors import BadValue, NodesLost, UserError
from keras_resnet.training.state import newest_first
from keras_resnet.tuning.definition import Settings
from keras_resnet.tuning.worker import Heartbeat, Job, Sign

POLL_SECONDS = 1.0
# A trial that was interrupted finishes its batch and saves.
SAVE_SECONDS = 20.0
# A process of a node ends after that many trials, so that what TensorFlow keeps of them does not add up.
TRIALS_PER_PROCESS = 10
# What a training goes on from, beside its newest state.
GOES_ON_FROM = ("run.json", "recipe.toml", "history.csv", "best.keras")


class Answer(NamedTuple):
    """What a node returns.

    Attributes:
        contents: of the files of the run, by their relative path.
        pruned: whether the trial ended early.
        error: a message for the user; empty where there is none.
    """

    contents: dict[str, bytes]
    pruned: bool
    error: str


class Seen(NamedTuple):
    """What the keeper of a trial knows.

    Attributes:
        has_begun: whether a node trains it.
        beats: signs of life so far.
        usual: s that a step usually takes.
        version: of the files.
        contents: of the files, where they are of another version than was asked about.
    """

    has_begun: bool
    beats: int
    usual: float
    version: int
    contents: dict[str, bytes] | None


class Keeper:
    """An actor on the machine of the search: holds the last state of a trial, whatever becomes of its node."""

    def __init__(self) -> None:
        self.has_begun = False
        self.beats, self.usual, self.version = 0, 0.0, 0
        self.contents: dict[str, bytes] = {}

    def begin(self) -> None:
        """Notes that a node trains."""
        self.has_begun = True

    def beat(self, usual: float) -> None:
        """Notes a sign of life."""
        self.beats, self.usual = self.beats + 1, usual

    def keep(self, contents: dict[str, bytes]) -> None:
        """Holds the files that a trial goes on from."""
        self.contents, self.version = contents, self.version + 1

    def look(self, version: int) -> Seen:
        """Returns the known state."""
        contents = self.contents if version != self.version else None
        return Seen(self.has_begun, self.beats, self.usual, self.version, contents)


class SentHeartbeat(Heartbeat):
    """Leaves signs of life and new states with the keeper of a trial."""

    def __init__(self, keeper: Any, folder: pathlib.Path, trial: str) -> None:
        super().__init__(folder / "none", trial)
        self.keeper = keeper
        self.folder = folder
        self.sent: str | None = None

    def leave(self, sign: Sign) -> None:
        """Sends a sign, and the newest state where it is another."""
        self.keeper.beat.remote(sign.usual)
        newest = next((path.name for path in newest_first(self.folder / "last")), None)
        if newest != self.sent:
            contents = read_files(self.folder, whole=False)
            if f"last/{newest}" in contents:  # else a newer one has taken its place
                self.keeper.keep.remote(contents)
                self.sent = newest


class RayEngine:
    """Trains jobs on the nodes of a Ray cluster."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.ray = connect(address)
        self.attempts = settings.max_retries + 1
        self.keeper = self.ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=on_this_node(self.ray))
        self.task = self.ray.remote(
            num_cpus=settings.trial_cpus,
            num_gpus=settings.trial_gpus,
            max_retries=0,
            max_calls=1 if settings.trial_gpus else TRIALS_PER_PROCESS,
        )(train_elsewhere)
        self.threads = max(1, round(settings.trial_cpus))

    def train(self, job: Job, folder: pathlib.Path, dataset: datasets.Dataset, beats: pathlib.Path, trial: str) -> bool:
        """Trains a job on a node, as `Engine` says."""
        errors = self.ray.exceptions
        for attempt in range(self.attempts):
            try:
                return self._train_once(job, folder, dataset.fingerprint, beats, trial)
            except (errors.RayTaskError, errors.TaskCancelledError):
                raise
            except errors.RayError as error:
                first = str(error).strip().splitlines()[0]
                print(f"trial {trial}: lost its node ({type(error).__name__}: {first}), attempt {attempt + 1}")
        raise NodesLost(
            f"Its node was lost {self.attempts} times, the limit of search.max_retries. Go on with the search, "
            "or allow more."
        )

    def _train_once(self, job: Job, folder: pathlib.Path, fingerprint: str, beats: pathlib.Path, trial: str) -> bool:
        run_files = read_files(folder, whole=False)
        keeper = self.keeper.remote()
        task = self.task.remote(job, fingerprint, run_files, keeper, trial, self.threads)
        seen = Seen(False, -1, 0.0, 0, None)
        try:
            while not self.ray.wait([task], timeout=POLL_SECONDS)[0]:
                before, seen = seen, self.ray.get(keeper.look.remote(seen.version))
                if not seen.has_begun or seen.beats != before.beats:  # one that waits for a node does not stand still
                    Sign.now(trial, seen.usual).write(beats)
                if seen.contents:
                    write_files(folder, seen.contents)
            answer = self.ray.get(task)
        except KeyboardInterrupt:
            self.ray.cancel(task, force=False)
            done, _ = self.ray.wait([task], timeout=SAVE_SECONDS)
            if done:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    write_files(folder, self.ray.get(task).contents)
            raise
        except self.ray.exceptions.RayError:
            with contextlib.suppress(self.ray.exceptions.RayError):
                seen = self.ray.get(keeper.look.remote(seen.version))
                if seen.contents:
                    write_files(folder, seen.contents)
            raise
        finally:
            self.ray.kill(keeper)
        write_files(folder, answer.contents)
        if answer.error:
            raise BadValue(answer.error)
        return answer.pruned


def ray_words(address: str | None, settings: Settings) -> list[str]:
    """Returns the words of a worker's command line that lead it to a Ray cluster."""
    ray = connect(address)
    check_resources(ray, settings.trial_cpus, settings.trial_gpus)
    return ["--ray", ray.get_runtime_context().gcs_address]


def train_elsewhere(
    job: Job, fingerprint: str, given: Mapping[str, bytes], keeper: Any, trial: str, threads: int
) -> Answer:
    """Trains a job on this node, in its own folder."""
    import ray

    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    ray.get(keeper.begin.remote())
    pruned, error = False, ""
    with tempfile.TemporaryDirectory(prefix="keras_resnet-", ignore_cleanup_errors=True) as place:
        folder = pathlib.Path(place) / "run"
        if given:
            write_files(folder, given)
        try:
            dataset = job.load()
            if dataset.fingerprint != fingerprint:
                raise BadValue(
                    f"data={job.data!r} on {platform.node()} is not what the search began with: its fingerprint "
                    "differs. Every node needs the same data in the same place. Copy them there."
                )
            pruned = job.run(folder, dataset, [SentHeartbeat(keeper, folder, trial)])
        except UserError as raised:
            error = str(raised)
        except KeyboardInterrupt:  # what was saved goes back
            pass
        keras.backend.clear_session()
        return Answer(read_files(folder, whole=True), pruned, error)


def read_files(folder: pathlib.Path, whole: bool) -> dict[str, bytes]:
    """Returns the files of a run by their relative path, of its states the newest alone."""
    newest = [path.relative_to(folder).as_posix() for path in newest_first(folder / "last")[:1]]
    names = [*newest, *GOES_ON_FROM]
    if whole:
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        others = (path.as_posix() for path in paths if path.parts[0] != "last")
        names = [*newest, *(name for name in others if not name.rpartition("/")[2].startswith("."))]
    contents = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            contents[name] = (folder / name).read_bytes()
    return contents


def write_files(folder: pathlib.Path, contents: Mapping[str, bytes]) -> None:
    """Writes files that `read_files` read, each whole or not at all, and removes older states."""
    for name, content in contents.items():
        path = pathlib.PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadValue(f"A node sent the file {name!r}. Allowed are files of the run. Check the cluster.")
        files.check_no_links(folder, [name, path.parts[0]])
        (folder / path).parent.mkdir(parents=True, exist_ok=True)

        def write(half: pathlib.Path, content: bytes = content) -> None:
            half.write_bytes(content)

        files.write_atomically(folder / path, write)
    if any(name.startswith("last/") for name in contents):
        for state in newest_first(folder / "last"):
            if f"last/{state.name}" not in contents:
                state.unlink(missing_ok=True)

"""Runs, searches and cross-validations in MLflow, W&B or Trackio: sent from their folders, each figure once.

Where they are sent is said by the variables of the trackers themselves: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME;
WANDB_API_KEY, WANDB_PROJECT, WANDB_MODE; TRACKIO_DIR, TRACKIO_SPACE_ID.

Example:
    >>> from keras_resnet import tracking
    >>> tracking.track("nowhere")
    Traceback (most recent call last):
    ...
    keras_resnet.errors.BadValue: folder='nowhere' holds neither a run, a cross-validation nor a search. ...
"""

import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib.util
import json
import math
import os
import pathlib
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import __version__, files, training, tuning
from keras_resnet.arguments import choose
from keras_resnet.errors import BadValue, require
from keras_resnet.terminal import one_line
from keras_resnet.training.folds import FOLDS_FILE
from keras_resnet.training.recipe import Recipe, compare_recipes, list_recipes
from keras_resnet.training.run import RUNNING
from keras_resnet.tuning.ledger import ENDED

TRACKERS = ("mlflow", "wandb", "trackio")
IDENTITY = "tracking.json"  # in the folder, so that a copy is still the same run
EXPERIMENT = "keras_resnet"  # of MLflow; the project of the others
TAG = "keras_resnet.id"
ARTIFACTS = ("recipe.toml", "history.csv", "curves.png", "confusion.png", "run.json", "best.keras", "best.toml")
TIMINGS = ("images_per_second", "epoch_seconds")  # of an epoch that is trained again, these alone differ
MAX_PARAMS, MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 100, 6000, 5000  # of one request, and of a value, as MLflow limits them
THREAD = "keras_resnet.tracking"
POLL_SECONDS, RETRY_SECONDS, PATIENCE_SECONDS = 2.0, 30.0, 30.0


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What a tracker shall hold of one run, or of a search or cross-validation with its runs as children."""

    id: str
    name: str
    start: int  # milliseconds since 1970
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    rows: Sequence[Mapping[str, float]] = ()  # one per epoch, with "epoch" and, of runs, "epoch_seconds"
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    paths: Sequence[pathlib.Path] = ()
    is_over: bool = True
    is_stopped: bool = False  # a run that is not over, and that nobody trains
    children: Sequence["_Entry"] = ()


def track(folder: str | os.PathLike, to: str = "mlflow") -> str:
    """Sends to a tracker what it does not have yet of a run, a search or a cross-validation.

    Parameters are the fields of the recipe; metrics the rows of history.csv, with the epoch as the step, and the
    scores; artifacts the recipe, the curves, run.json and the best model, once the run is over. Of a search and of a
    cross-validation each run is a child (MLflow) or in the parent's group (W&B, Trackio). tracking.json in the folder
    holds the identity, so that a resumed or copied folder goes on in the same run of the tracker.

    Args:
        folder: of a run, finished or not, a search or a cross-validation.
        to: "mlflow", "wandb" or "trackio".

    Returns:
        The id of the tracker's run.

    Raises:
        ValueError: the folder holds none of them, or the server refuses or does not answer.
        ImportError: the tracker is not installed.
    """
    choose("to", to, dict.fromkeys(TRACKERS))
    path = pathlib.Path(folder).expanduser()
    entry = _entry_of(path)  # a wrong path is said before a missing package
    sender = _sender_of(to)
    try:
        return sender.send(path, entry)
    finally:
        sender.close()


@contextlib.contextmanager
def follow(folder: str | os.PathLike, to: str = "mlflow") -> Iterator[None]:
    """Sends the run in a folder while the block trains it, from a thread, after every epoch.

    A server that refuses, hangs or is away costs one warning and no step; what it missed is sent when it answers
    again, or by `track` later.

    Args:
        folder: where the run is trained; it need not exist yet.
        to: "mlflow", "wandb" or "trackio".

    Raises:
        ImportError: the tracker is not installed.
    """
    choose("to", to, dict.fromkeys(TRACKERS))
    path, sender, is_over = pathlib.Path(folder).expanduser(), _sender_of(to), threading.Event()
    # A daemon: a server that never answers does not keep the process.
    thread = threading.Thread(target=_keep_sending, args=(path, sender, is_over), name=THREAD, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(PATIENCE_SECONDS)
        if thread.is_alive() or sender.fault:
            reason = "The server does not answer." if thread.is_alive() else sender.fault
            _warn(
                f"not all of it was sent. {reason} Send the rest by: keras-resnet track {os.fspath(folder)} --to {to}"
            )


def _keep_sending(path: pathlib.Path, sender: "_MLflow | _RowByRow", is_over: threading.Event) -> None:
    seen, was_told = None, False
    while True:
        ends = is_over.wait(RETRY_SECONDS if sender.fault else POLL_SECONDS)
        times = [_modified(path / name) for name in ("run.json", "history.csv")]
        if times[0] and (times != seen or sender.fault or ends):
            try:
                entry = _entry_of(path)
                sender.send(path, dataclasses.replace(entry, is_stopped=ends and not entry.is_over))
                if ends:
                    sender.close()
                seen, sender.fault = times, ""
            except Exception as error:  # whatever the tracker does, the training goes on
                sender.fault = one_line(error)
                if not was_told and not is_over.is_set():
                    _warn(f"{sender.fault} The training goes on; what is missing is sent later.")
                    was_told = True
        if ends:
            return


def _modified(path: pathlib.Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _warn(message: str) -> None:
    print(f"Tracking: {message}", file=sys.stderr)


def _sender_of(to: str) -> "_MLflow | _RowByRow":
    return _MLflow() if to == "mlflow" else _RowByRow(to)


class _MLflow:
    """A connection to MLflow, which knows what was sent."""

    def __init__(self) -> None:
        self._mlflow = require("mlflow", "Tracking", "mlflow")
        self._entities = self._mlflow.entities
        self.fault = ""  # why the last attempt failed
        self._runs: dict[str, Any] = {}
        self._known: dict[str, dict[tuple[str, int], float]] = {}

    def send(self, path: pathlib.Path, entry: _Entry) -> str:
        """Sends what is new; returns the id of MLflow's run."""
        del path
        try:
            client = self._mlflow.MlflowClient()
            return self._send(client, self._experiment(client), entry)
        except self._mlflow.exceptions.MlflowException as error:
            self._runs.clear()  # what arrived before is asked for the next time
            raise BadValue(
                f"MLflow at {self._mlflow.get_tracking_uri()!r} did not take the run: {error}. Check "
                "MLFLOW_TRACKING_URI and the server."
            ) from error

    def close(self) -> None:
        """Does nothing: each request is answered when it is made."""

    def _experiment(self, client: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = client.get_experiment_by_name(name)
        return client.create_experiment(name) if found is None else found.experiment_id

    def _send(self, client: Any, experiment: str, entry: _Entry, parent: str | None = None) -> str:
        run = self._run_of(client, experiment, entry, parent)
        run_id = run.info.run_id
        self._send_params(client, run, entry)
        known = self._known.setdefault(entry.id, {})
        clock = float(entry.start)
        for row in entry.rows:
            clock += 1000 * row.get("epoch_seconds", 0.0)
            step = int(row["epoch"])
            figures = {name: value for name, value in row.items() if name != "epoch"}
            self._send_figures(client, run_id, known, figures, step, int(clock))
        self._send_figures(client, run_id, known, entry.scores, len(entry.rows), int(clock))
        for child in entry.children:
            self._send(client, experiment, child, run_id)
        if entry.is_over:
            sent = {file.path: file.file_size for file in client.list_artifacts(run_id)}
            for path in entry.paths:
                if sent.get(path.name) != path.stat().st_size:
                    if path.name == "best.keras" and importlib.util.find_spec("pandas"):
                        self._send_model(client, run_id, path)
                    client.log_artifact(run_id, os.fspath(path))
        status = "FINISHED" if entry.is_over else "KILLED" if entry.is_stopped else "RUNNING"
        if status != run.info.status:
            client.update_run(run_id, status=status)
            self._runs[entry.id] = client.get_run(run_id)
        return run_id

    def _send_model(self, client: Any, run_id: str, path: pathlib.Path) -> None:
        """Sends a model with its signature, for `mlflow.keras.load_model`; this part of MLflow needs pandas."""
        flavor = importlib.import_module("mlflow.keras")
        types = importlib.import_module("mlflow.types")
        model = keras.models.load_model(path, compile=False)

        def schema_of(tensors: Sequence[Any]) -> Any:
            shapes = [tuple(-1 if size is None else size for size in tensor.shape) for tensor in tensors]
            pairs = zip(tensors, shapes, strict=True)
            return types.Schema([types.TensorSpec(np.dtype(tensor.dtype), shape) for tensor, shape in pairs])

        signature = self._mlflow.models.ModelSignature(schema_of(model.inputs), schema_of(model.outputs))
        with tempfile.TemporaryDirectory() as folder:
            needs = [f"keras-resnet-zoo=={__version__}"]  # MLflow would find them by loading the model once more
            flavor.save_model(model, os.path.join(folder, "model"), signature=signature, pip_requirements=needs)
            client.log_artifacts(run_id, os.path.join(folder, "model"), "model")

    def _run_of(self, client: Any, experiment: str, entry: _Entry, parent: str | None) -> Any:
        """Returns MLflow's run of an entry, found by its tag: an answer that was lost makes no second one."""
        if entry.id not in self._runs:
            found = client.search_runs([experiment], f"tags.`{TAG}` = '{entry.id}'", max_results=1)
            if not found:
                tags = {TAG: entry.id, **entry.tags, **({} if parent is None else {"mlflow.parentRunId": parent})}
                tags = {name: value[:MAX_TAG_LENGTH] for name, value in tags.items()}
                found = [client.create_run(experiment, start_time=entry.start, tags=tags, run_name=entry.name)]
            run = found[0]
            self._runs[entry.id] = run
            self._known[entry.id] = {
                (name, metric.step): metric.value
                for name in run.data.metrics
                for metric in client.get_metric_history(run.info.run_id, name)
            }
        return self._runs[entry.id]

    def _send_params(self, client: Any, run: Any, entry: _Entry) -> None:
        params = {name: str(value)[:MAX_PARAM_LENGTH] for name, value in entry.params.items()}
        new = [self._entities.Param(name, value) for name, value in params.items() if name not in run.data.params]
        for first in range(0, len(new), MAX_PARAMS):
            client.log_batch(run.info.run_id, params=new[first : first + MAX_PARAMS])
        # MLflow keeps the first value of a parameter; what a resumed run changed, as its epochs, stands in a tag.
        changed = {
            f"changed.{name}": value[:MAX_TAG_LENGTH]
            for name, value in params.items()
            if run.data.params.get(name, value) != value
        }
        tags = [self._entities.RunTag(name, value) for name, value in changed.items()]
        tags = [tag for tag in tags if run.data.tags.get(tag.key) != tag.value]
        if tags:
            client.log_batch(run.info.run_id, tags=tags)
        if new or tags:
            self._runs[entry.id] = client.get_run(run.info.run_id)

    def _send_figures(
        self,
        client: Any,
        run_id: str,
        known: dict[tuple[str, int], float],
        figures: Mapping[str, float],
        step: int,
        when: int,
    ) -> None:
        """Sends the figures of a step in one request, which MLflow takes whole or not at all."""
        new = {
            name: value
            for name, value in figures.items()
            if (name, step) not in known or (name not in TIMINGS and not _is_same(known[name, step], value))
        }
        if new:
            client.log_batch(run_id, [self._entities.Metric(name, value, when, step) for name, value in new.items()])
            known.update({(name, step): value for name, value in new.items()})


@dataclasses.dataclass
class _Open:
    """A run of W&B or Trackio to which rows are being written."""

    run: Any
    path: pathlib.Path  # of its folder
    step: int  # the next one
    digest: str = ""  # of what was written
    is_over: bool = False


class _RowByRow:
    """W&B and Trackio: one call for each epoch, in turn, from the step after the last that the tracker has.

    W&B in its offline mode has no memory of earlier processes; there tracking.json holds the last step. What arrived
    whole is not sent again.
    """

    def __init__(self, tracker: str) -> None:
        self._tracker = tracker
        self._module = require(tracker, "Tracking", tracker)
        self.fault = ""  # why the last attempt failed
        self._open: dict[str, _Open] = {}
        if tracker == "trackio":  # it prints, and stdout is for results
            for module in (self._module, self._module.utils, self._module.run):
                vars(module)["print"] = functools.partial(print, file=sys.stderr)

    def send(self, path: pathlib.Path, entry: _Entry) -> str:
        """Sends what is new; returns the id of the tracker's run."""
        with self._explaining():
            identity = self._send(path, entry, None)
            for child in entry.children:
                self._send(path, child, entry)
            return identity

    def close(self) -> None:
        """Waits until the tracker has everything, and ends its runs."""
        with self._explaining():
            while self._open:
                identity, each = next(iter(self._open.items()))
                if self._tracker == "wandb":
                    each.run.finish(exit_code=0 if each.is_over else 1)
                else:
                    each.run.finish()
                del self._open[identity]
                _record(each.path, self._tracker, identity, {"last": each.step - 1, "digest": each.digest})

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turns whatever the network or the tracker raises into one message."""
        try:
            yield
        except BadValue:
            raise
        except Exception as error:  # what is open stays so, for the next attempt
            raise BadValue(f"{self._tracker} did not take the run: {one_line(error)}. Check its settings.") from error

    def _send(self, path: pathlib.Path, entry: _Entry, parent: _Entry | None) -> str:
        identity, digest = entry.id.replace("/", "-"), _digest(entry)
        if identity not in self._open:
            sent = _content(path).get("sent", {}).get(self._tracker, {}).get(identity, {})
            if sent.get("digest") == digest:
                return identity
            self._open[identity] = self._start(path, identity, entry, parent, sent.get("last", 0))
        each = self._open[identity]
        for row in entry.rows:
            if (epoch := int(row["epoch"])) >= each.step:
                each.run.log({name: value for name, value in row.items() if name != "epoch"}, step=epoch)
                each.step = epoch + 1
        if self._tracker == "wandb":
            each.run.summary.update(entry.scores)
            if each.run.offline and each.run.step >= each.step:  # it answers in turn, so it has the rows
                _record(path, self._tracker, identity, {"last": each.step - 1})
        elif entry.scores:
            each.run.log(dict(entry.scores), step=max(0, each.step - 1))
        if entry.is_over and entry.paths:
            artifact = self._module.Artifact(f"run-{identity}", type="model")
            for file in entry.paths:
                artifact.add_file(os.fspath(file))
            each.run.log_artifact(artifact)
        each.digest, each.is_over = digest, entry.is_over
        if entry.is_over:
            self.close()
        return identity

    def _start(self, path: pathlib.Path, identity: str, entry: _Entry, parent: _Entry | None, last: int) -> _Open:
        words: dict[str, Any] = {
            "project": os.environ.get(f"{self._tracker.upper()}_PROJECT") or EXPERIMENT,
            "group": None if parent is None else parent.name,
            "config": {**entry.params, **entry.tags},
            "resume": "allow",
        }
        if self._tracker == "trackio":  # which knows a run by its name, and has no public name for its next step
            run = self._module.init(**words, name=f"{entry.name}-{identity[:8]}", embed=False)
            return _Open(run, path, run._next_step)
        settings = self._module.Settings(console="off", silent=True, disable_git=True, save_code=False)
        is_online = self._module.setup().settings.mode not in ("offline", "disabled")
        if is_online and not self._module.login(prompt=False):  # a question would wait for ever
            raise BadValue("wandb has no API key. Run: wandb login; or set WANDB_API_KEY, or WANDB_MODE=offline.")
        run = self._module.init(**words, name=entry.name, id=identity, reinit="create_new", settings=settings)
        return _Open(run, path, last + 1 if run.offline else run.step)


def _content(path: pathlib.Path) -> dict[str, Any]:
    return json.loads((path / IDENTITY).read_text("utf-8"))


def _record(path: pathlib.Path, tracker: str, identity: str, values: Mapping[str, Any]) -> None:
    """Writes into tracking.json what a tracker has of a run."""
    content = _content(path)
    content.setdefault("sent", {}).setdefault(tracker, {})[identity] = dict(values)
    files.write_text(path / IDENTITY, json.dumps(content) + "\n")


def _digest(entry: _Entry) -> str:
    """Returns a hash of everything that is sent."""
    content = [dict(entry.params), dict(entry.tags), [dict(row) for row in entry.rows], dict(entry.scores)]
    sizes = [(path.name, path.stat().st_size) for path in entry.paths]
    text = json.dumps([content, sizes, entry.is_over], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _entry_of(path: pathlib.Path) -> _Entry:
    for name, read in (("run.json", _run), ("search.json", _search), (FOLDS_FILE, _folds)):
        if (path / name).is_file():
            return read(path, *_identity(path, path / name))
    raise BadValue(
        f"folder={os.fspath(path)!r} holds neither a run, a cross-validation nor a search. Allowed is the folder of "
        "one. Check the path."
    )


def _identity(path: pathlib.Path, written: pathlib.Path) -> tuple[str, int]:
    """Returns the identity of a folder and when it began, which are written there when they are first asked for."""
    file = path / IDENTITY
    if not file.exists():
        begin = min(each.stat().st_mtime for each in (written, path / "recipe.toml") if each.is_file())
        files.write_text(file, json.dumps({"id": uuid.uuid4().hex, "start": int(1000 * begin)}) + "\n")
    try:
        content = json.loads(file.read_text("utf-8"))
        return str(content["id"]), int(content["start"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadValue(f"{os.fspath(file)!r} cannot be read ({error}). Remove it: a new run is made then.") from error


def _run(path: pathlib.Path, identity: str, start: int) -> _Entry:
    run = training.Run.load(path)
    about = run.about
    recipe = run.recipe.to_dict()
    sections = {name: fields for name, fields in recipe.items() if isinstance(fields, Mapping)}
    fields = {
        f"{section}.{name}": value
        for section, values in sections.items()
        if section not in ("about", "defaults")
        for name, value in values.items()
    }
    base = Recipe.load(run.recipe.name) if run.recipe.name in list_recipes() else Recipe()
    changes = ", ".join(f"{name}={value}" for name, _, value in compare_recipes(base, run.recipe))
    scores: dict[str, float] = {}
    for split, values in run.metrics.items():
        scores |= _scores(split, values)
    return _Entry(
        identity,
        path.resolve().name,
        start,
        {
            "model": about.model,
            "data": about.data,
            "recipe": run.recipe.name,
            "parameters": about.parameters,
            **{f"examples.{split}": size for split, size in about.sizes.items()},
            **fields,
        },
        {
            "keras_resnet.changed": changes or "nothing",
            "keras_resnet.fingerprint": about.fingerprint,
            **{f"version.{name}": version for name, version in about.versions.items()},
        },
        run.file.history or _rows_of(path / "history.csv"),
        scores,
        [path / name for name in ARTIFACTS if (path / name).is_file()],
        is_over=run.file.status != RUNNING,
    )


def _scores(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the figures as metrics, each interval as its two ends."""
    scores = {name: value for name, value in values.items() if isinstance(value, (int, float)) and name != "examples"}
    for name in [name for name in values if name.endswith("_interval")]:
        low, high = values[name]
        scores |= {name.replace("_interval", "_low"): low, name.replace("_interval", "_high"): high}
    return {f"{prefix}_{name}": float(value) for name, value in scores.items()}


def _rows_of(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the epochs of a run that is not over."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def _search(path: pathlib.Path, identity: str, start: int) -> _Entry:
    search = tuning.Search.load(path)
    definition = search.definition
    scores = _scores("test", search.metrics or {})
    if search.best is not None and search.best.score is not None:
        scores[definition.metric] = search.best.score
    children = [
        _Entry(
            f"{identity}/{trial.id}",
            f"trial {trial.id}",
            start,
            {**trial.values, "parameters": trial.parameters},
            {"keras_resnet.status": trial.status, "keras_resnet.message": trial.message},
            [{"epoch": epoch, definition.metric: value} for epoch, value in enumerate(trial.curve, start=1)],
            {} if trial.score is None else {f"best_{definition.metric}": trial.score},
        )
        for trial in search.trials
        if trial.status in ENDED
    ]
    params = {"model": definition.model, "data": definition.data, "algorithm": definition.algorithm}
    paths = [path / name for name in ARTIFACTS if (path / name).is_file()]
    return _Entry(
        identity, path.resolve().name, start, params, {}, (), scores, paths, search.is_over, children=children
    )


def _folds(path: pathlib.Path, identity: str, start: int) -> _Entry:
    folds = training.Folds.load(path)
    scores = _scores("out_of_fold", folds.out_of_fold)
    children = [
        dataclasses.replace(_run(child, f"{identity}/{child.name}", start), paths=())
        for child in sorted(path.glob("fold-*"))
        if (child / "run.json").is_file()
    ]
    return _Entry(identity, path.resolve().name, start, {"folds": len(children)}, {}, (), scores, children=children)

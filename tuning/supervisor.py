"""`search`: checks what is asked, starts workers, keeps them running, and shows how far they are."""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from keras_resnet import files, training
from keras_resnet.arguments import check_bool, check_int, check_path, choose
from keras_resnet.distribution.launch import module_paths
from keras_resnet.errors import BadValue
from keras_resnet.training.run import locked
from keras_resnet.tuning.definition import Definition, check_same, define
from keras_resnet.tuning.fork_server import Forked, ForkServer, can_fork
from keras_resnet.tuning.ledger import ANOTHER, DONE, ENDED, Ledger
from keras_resnet.tuning.outcome import Search, best_of
from keras_resnet.tuning.ray_engine import ray_words
from keras_resnet.tuning.space import Space
from keras_resnet.tuning.worker import read_sign

POLL_SECONDS = 0.2
ENGINES = {"local": "processes of this machine", "ray": "the nodes of a Ray cluster"}
# By its path and with -P: what lies in the folder where the user works is not a module of ours.
WORKER = os.fspath(pathlib.Path(__file__).with_name("start_worker.py"))
Worker = subprocess.Popen | Forked
JOIN_SECONDS = 60
# A process that ends so often before it takes a trial will not do better the next time.
MAX_STARTS = 3
# What a search writes into its folder beside its record.
SEARCH_FILES = ("trials.csv", "best.toml", "trials", "workers", "owners")


class SearchStopped(BadValue):
    """A search ended before its last trial; the message says why."""


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C in a search: everything is kept, and the message says how to go on."""


def search(
    recipe: training.Recipe | str | os.PathLike | None = None,
    *,
    space: Space | str | os.PathLike | None = None,
    model: str | None = None,
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
    algorithm: str | None = None,
    trials: int | None = None,
    out: str | os.PathLike,
    epochs: int | None = None,
    workers: int = 1,
    resume: bool = False,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    engine: str = "local",
    address: str | None = None,
    verbose: bool = True,
) -> Search:
    """Searches a space of recipes for the best one, in processes of their own.

    Trials are compared on the validation split. The test split is scored once, at the end, for the winner.

    Args:
        recipe: where the search starts: what the space does not name stays as it is here. A `Recipe`, a name or a TOML
            file; "quick" by default.
        space: what is varied: a `Space`, a name or a TOML file; "default" by default.
        model: a name from `keras_resnet.list_models()`; "resnet18" by default. A dimension "variant" searches it too.
        data: a spec, as for `training.fit`; "digits" by default.
        data_dir: where TFDS finds its prepared data sets.
        algorithm: "random", "bayesian", "hyperband" or "grid"; "random" by default.
        trials: how many recipes are tried at most; 20 by default. In Hyperband going on with a recipe counts too. A
            search that goes on may be given more; its winner is then chosen and scored again.
        out: the folder of the search.
        epochs: of a whole trial; None for the recipe's.
        workers: trials at a time, each in a process.
        resume: go on where the folder stands, and start where it is empty. A search that goes on remembers everything.
        seed: of the search and of every training, >= 0; None for the recipe's. With one worker the same seed and data
            give the same trials and the same results on the same machine.
        overrides: "section.field" -> value for the recipe, and "search.name" -> value for `Settings`.
        engine: where trials are trained: "local", in processes of this machine, or "ray", on the nodes of a Ray
            cluster, which take the data from the same place and share no folder with this machine.
        address: of the Ray cluster, as for `distribution.ray_cluster.connect`.
        verbose: print a line for every trial.

    Returns:
        A `Search` with `trials`, `best`, `recipe`, `model` and `metrics`.

    Raises:
        TypeError, ValueError: an argument, the data or the folder is not fit for a search.
        MissingPackage: Ray is asked for and not installed.
        SearchStopped: too many trials in a row failed, or the data cannot be used.
        SearchInterrupted: on Ctrl-C.
    """
    check_bool("resume", resume)
    check_int("workers", workers)
    check_path("out", out)
    choose("engine", engine, ENGINES)
    if address is not None and engine == "local":
        raise BadValue(f"address={address!r} was given without engine='ray'. It is of a Ray cluster. Give both.")
    folder = pathlib.Path(out).expanduser()
    ledger = Ledger(folder)
    files.check_no_links(folder, ("search.json", "search.previous.json", "search.lock", ".lock", *SEARCH_FILES))
    arguments = {"model": model, "data": data, "data_dir": data_dir, "algorithm": algorithm, "trials": trials}
    if _joins():
        _wait_for(ledger)
        return _Supervisor(ledger, workers, verbose).run()
    exists = ledger.record.exists
    if exists and not resume:
        raise BadValue(
            f"out={os.fspath(out)!r} holds a search already. A new one needs its own folder. Choose another, or "
            "go on with it: resume=True, on the command line --resume."
        )
    if exists:
        files.check_replaceable(folder / "best.toml")  # which a user may have edited
    else:
        files.check_folder_free(folder, SEARCH_FILES)
    stored = ledger.definition if exists else None
    definition = define(stored, recipe, space, arguments, epochs, seed, overrides or {})
    folder = files.make_writable(folder)
    with locked(folder):
        if stored is None:
            ledger.create(definition)
        else:
            check_same(folder, stored, definition)
            ledger.resume(definition.trials)
        words = ray_words(address, definition.settings) if engine == "ray" else ()
        return _Supervisor(ledger, workers, verbose, words).run()


def _joins() -> bool:
    """Returns whether this process adds workers to a search that another machine supervises."""
    return os.environ.get("KERASTUNER_TUNER_ID", "chief") != "chief"


def _wait_for(ledger: Ledger) -> None:
    """Waits until the first machine has written the search."""
    last = time.monotonic() + JOIN_SECONDS
    while not ledger.record.exists:
        if time.monotonic() > last:
            raise BadValue(
                f"KERASTUNER_TUNER_ID={os.environ['KERASTUNER_TUNER_ID']!r} joins the search in {str(ledger.path)!r}, "
                f"and for {JOIN_SECONDS} s there is none. One machine starts it, without that variable, in a folder "
                "that all share. Check the path and the first machine."
            )
        time.sleep(POLL_SECONDS)


class _Supervisor:
    """Starts workers and starts others in their place, until the search is over."""

    def __init__(self, ledger: Ledger, workers: int, verbose: bool, words: Sequence[str] = ()) -> None:
        self.ledger = ledger
        self.verbose = verbose
        self.words = words
        self.prefix = os.environ.get("KERASTUNER_TUNER_ID", "worker")
        self.processes: dict[str, Worker] = {f"{self.prefix}-{index + 1}": None for index in range(workers)}  # type: ignore[misc]
        self.server: ForkServer | None = None
        self.starts, self.ran = dict.fromkeys(self.processes, 0), dict.fromkeys(self.processes, 0)
        self.settings = ledger.definition.settings
        self.begun = time.monotonic()
        self.shown: set[str] = set()
        self.written = 0.0

    def run(self) -> Search:
        """Returns the search when it is over."""
        outcome = Search.load(self.ledger.path)
        self.shown = {trial.id for trial in outcome.trials if trial.status in ENDED}
        if self.ledger.record.read()["final"]:
            self._print(
                f"{self.ledger.path}: already complete, nothing to do. More trials, as in --trials N, extend it."
            )
            return outcome
        self._print(_header(outcome.definition))
        try:
            self._watch()
        except KeyboardInterrupt:
            self._stop(signal.SIGINT)
            Search.load(self.ledger.path).write()
            done = sum(trial.status in ENDED for trial in self.ledger.trials)
            raise SearchInterrupted(
                f"Interrupted after {done} of {outcome.definition.trials} trials, which are kept; a trial that was "
                f"under way goes on from its last state. To go on: keras-resnet tune --out "
                f"{shlex.quote(os.fspath(self.ledger.path))} --resume "
                f"(in Python: out={os.fspath(self.ledger.path)!r}, resume=True)"
            ) from None
        finally:
            self._stop(signal.SIGTERM)
            if self.server is not None:
                self.server.close()
        outcome = Search.load(self.ledger.path)
        outcome.write()
        if outcome.stopped:
            raise SearchStopped(outcome.stopped)
        self._print(str(outcome))
        return outcome

    def _watch(self) -> None:
        over = False
        while not over:
            for name, process in self.processes.items():
                if process is None or process.poll() not in (None, DONE):
                    self._start(name, process)
            over = all(process.poll() == DONE for process in self.processes.values())
            self._end_standstills()
            self.ledger.reclaim()
            self._show()
            if not over:
                time.sleep(POLL_SECONDS)

    def _end_standstills(self) -> None:
        """Ends the trials of which no batch has ended for long."""
        settings = self.settings
        for name, process in self.processes.items():
            sign = read_sign(self.ledger.path / "workers" / f"{name}.beat")
            if sign is None or process is None or process.poll() is not None:
                continue
            report = sign.standstill(settings.stall_minutes, settings.stall_factor)
            if report:

                def kill(process: Worker = process) -> None:
                    process.kill()
                    process.wait()

                self.ledger.fail(name, sign.trial, report, kill)

    def _start(self, name: str, ended: "Worker | None") -> None:
        """Starts a worker in the place of one that ended."""
        ran = sum(trial.attempts for trial in self.ledger.trials if trial.worker == name)
        moved = ran != self.ran[name] or (ended is not None and ended.poll() == ANOTHER)
        self.starts[name], self.ran[name] = 0 if moved else self.starts[name] + 1, ran
        if ended is not None and ended.stdin:
            _close(ended.stdin)
        folder = self.ledger.path / "workers"
        folder.mkdir(exist_ok=True)
        log = folder / f"{name}.log"
        files.check_no_links(folder, [log.name, "fork_server.log"])
        if self.starts[name] > MAX_STARTS:
            tail = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
            raise RuntimeError(
                f"The worker {name} ended {MAX_STARTS} times before it took a trial. Its last words:\n{tail}"
            )
        threads = str(max(1, (os.cpu_count() or 1) // len(self.processes)))
        environment = {
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **os.environ,
            "PYTHONPATH": module_paths(),
        }
        if self.server is None and can_fork():
            self.server = ForkServer(folder / "fork_server.log", environment)
        words = [WORKER, os.fspath(self.ledger.path), name, *self.words]
        with open(log, "a", encoding="utf-8") as output:
            if self.server is not None and self.server.is_alive:
                self.processes[name] = self.server.start(words, output)
                return
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", *words],
                stdin=subprocess.PIPE,  # its end tells the worker that this process has ended
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches workers through `_stop` alone, once
            )

    def _stop(self, number: int) -> None:
        for process in self.processes.values():
            if process is not None and process.poll() is None:
                process.send_signal(number)
                process.send_signal(signal.SIGCONT)  # one that was stopped would not hear it
        for process in self.processes.values():
            if process is None:
                continue
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin:
                _close(process.stdin)

    def _show(self) -> None:
        """Writes and prints what ended since the last look."""
        trials = self.ledger.trials
        new = [trial for trial in trials if trial.status in ENDED and trial.id not in self.shown]
        if not new:
            return
        outcome = Search.load(self.ledger.path)
        outcome.write()
        for trial in new:
            self.shown.add(trial.id)
            best = best_of(outcome.definition, [other for other in trials if other.id in self.shown])
            elapsed = time.monotonic() - self.begun
            here = [other for other in trials if other.seconds and other.status in ENDED]
            mean = sum(other.seconds for other in here) / max(len(here), 1)
            seconds_left = mean * (outcome.definition.trials - len(self.shown)) / len(self.processes)
            scores = ["" if of is None or of.score is None else f"{of.score:.4f}" for of in (trial, best)]
            tried = ", ".join(
                f"{name.rpartition('.')[2] if name.rpartition('.')[2] != 'name' else name}={_shown(value)}"
                for name, value in outcome.definition.space.overrides(trial.values).items()
            )
            self._print(
                f"{trial.id:>6} {trial.status:<10} {scores[0]:>8} {scores[1]:>8} {trial.epochs:>6} "
                f"{trial.seconds:>7.0f} s {elapsed / 60:>6.1f} min {seconds_left / 60:>6.1f} min  "
                f"{trial.message[:99] or tried}"
            )

    def _print(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more
        pipe.close()


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _header(definition: Definition) -> str:
    name = definition.metric
    return (
        f"{definition.algorithm} search of {definition.trials} trials over {len(definition.space)} dimensions, "
        f"{definition.model} on {definition.data}, at most {definition.recipe.train.epochs} epochs each; by {name}\n"
        f"{'trial':>6} {'status':<10} {'score':>8} {'best':>8} {'epochs':>6} {'took':>9} {'elapsed':>10} {'left':>10}  "
        "tried"
    )

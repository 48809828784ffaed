"""A run made smaller step by step: pruned, distilled from the run itself, and at the end stored in 8 bits."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_resnet import evaluation, files, models, training
from keras_resnet.arguments import check_float, check_int, check_path, choose
from keras_resnet.errors import BadValue
from keras_resnet.export import export
from keras_resnet.export.formats import FORMATS
from keras_resnet.report import chart
from keras_resnet.report.page import page, table
from keras_resnet.training import Run

SHRINK_FILE, PAGE = "shrink.json", "shrink.html"
STEP = 0.7  # share of the multiply-adds that a step leaves, at least
PARENT, INT8 = "parent", "int8"
EPOCHS_SHARE = 0.25  # of the epochs of the run, for each step
# The answers of the parent, softened, and a tenth for the labels (Hinton et al. 2015).
TEACHING = {"distill.temperature": 4.0, "distill.alpha": 0.9}


@dataclasses.dataclass(frozen=True)
class Step:
    """A network on the way.

    Attributes:
        name: "parent", the share of the multiply-adds that was asked for, or "int8".
        path: of its run, or of its file.
        parameters: all weights; None for a file in 8 bits, which has those of the step before.
        multiply_adds: of an example; None as well.
        bytes: of its file.
        milliseconds: of one example, in its own runtime.
        split: that was scored.
        score: on it; None where it is not known.
        difference: to the parent on the same examples, positive where it is better.
        interval: of the difference, 95 %, paired; None where it is not known.
        is_accepted: whether it was scored, and no more than the allowed loss was lost.
    """

    name: str
    path: str
    parameters: int | None
    multiply_adds: int | None
    bytes: int
    milliseconds: float
    split: str
    score: float | None
    difference: float | None = None
    interval: list[float] | None = None
    is_accepted: bool = True


@dataclasses.dataclass(frozen=True)
class Shrunk:
    """What `shrink` found.

    Attributes:
        path: the folder, with a run for each step, `shrink.json` and `shrink.html`.
        metric: the figure that was compared.
        steps: the parent first.
    """

    path: pathlib.Path
    metric: str
    steps: tuple[Step, ...]

    @property
    def smallest(self) -> Step:
        """The last step that was accepted."""
        return [step for step in self.steps if step.is_accepted][-1]

    def __str__(self) -> str:
        """Returns a table."""
        lines = [f"{'step':<8}{'parameters':>12}{'multiply-adds':>15}{'bytes':>12}{'ms for 1':>10}  {self.metric}"]
        for step in self.steps:
            counts = [f"{value:,}" if value is not None else "" for value in (step.parameters, step.multiply_adds)]
            score = "" if step.score is None else f"{step.score:.4f}"
            if step.difference is not None:
                ends = _ends(step.interval)
                score += f" ({step.difference:+.4f}{', ' * bool(ends)}{ends})"
            lost = "   more is lost than allowed" if step.score is not None else "not scored"
            note = "" if step.is_accepted else lost
            cost = f"{counts[0]:>12}{counts[1]:>15}{step.bytes:>12,}{step.milliseconds:>10.2f}"
            lines.append(f"{step.name:<8}{cost}  {score}{note}")
        return "\n".join([*lines, f"smallest   {self.smallest.path}"])


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def shrink(
    run: Run | str | os.PathLike,
    out: str | os.PathLike,
    *,
    macs: float = 0.25,
    max_loss: float = 0.005,
    epochs: int | None = None,
    multiple: int = 4,
    format: str | None = None,
    verbose: Any = "auto",
) -> Shrunk:
    """Makes the network of a run smaller for as long as it stays as good, and stores it in 8 bits.

    Each step prunes the network of the step before by a third or less and trains it with the recipe of the run, for
    fewer epochs and with the run as the teacher. Where a step loses more than allowed on the validation split (on the
    test split where there is none), the one before is the smallest. At the end that one is exported in 8 bits. Called
    again with the same folder it goes on where it was stopped.

    Args:
        run: a finished run, or its folder; its data must be there.
        out: the folder.
        macs: share of the multiply-adds to come to, in (0, 1).
        max_loss: how much worse than the run the figure may be (of a classifier the accuracy), >= 0.
        epochs: of each step; None for a quarter of those of the run.
        multiple: numbers of channels stay multiples of it.
        format: of the file in 8 bits, "litert", "onnx" or "openvino"; None for the first that is installed.
        verbose: as for `training.fit`.

    Raises:
        TypeError, ValueError: an argument is not what is allowed, the run is not finished, or the folder is of another
            run.
        Interrupted: on Ctrl-C; the same call goes on.

    Source:
        Renda et al. 2020, "Comparing Rewinding and Fine-tuning in Neural Network Pruning" (the schedule of the run,
        again in every step).
    """
    check_path("out", out)
    share = check_float("macs", macs, minimum=0.0, maximum=1.0, minimum_included=False, maximum_included=False)
    allowed = check_float("max_loss", max_loss, minimum=0.0)
    check_int("multiple", multiple)
    able = {name: row for name, row in FORMATS.items() if "int8" in row.quantizations}
    if format is not None:
        choose("format", format, able)
        FORMATS[format].check_packages(format, True)
    parent = run if isinstance(run, Run) else Run.load(run)
    length = parent.recipe.train.epochs
    epochs = max(1, round(length * EPOCHS_SHARE)) if epochs is None else check_int("epochs", epochs)
    split = next((name for name in ("validation", "test") if parent.about.sizes.get(name)), None)
    if split is None or parent.file.status != training.run.COMPLETE:
        raise BadValue(
            f"run={os.fspath(parent.path)!r} is not finished, or has neither a validation nor a test split, on which "
            "steps are compared. Allowed is a finished run with one of them. Train it to its end."
        )
    models.prune(parent.model, share, multiple=multiple)  # which refuses a share that cannot be reached
    settings = {"run": str(parent.path.absolute()), "macs": share, "epochs": epochs, "multiple": multiple}
    folder = _folder(out, settings)
    task = parent.recipe.loss.choice.task
    metric = next(each for each in task.metrics if each.name == task.paired[0])
    sign = 1.0 if metric.best == "max" else -1.0
    steps = [_measure(PARENT, parent, None, split, sign, allowed)]
    before = parent
    for name, part in _shares(share):
        if verbose:
            print(f"step       {name} of the multiply-adds")
        before = _train(before, parent, folder / name, part, epochs, multiple, verbose)
        steps.append(_measure(name, before, parent, split, sign, allowed))
        _write(folder, settings, metric.name, steps)
        if not steps[-1].is_accepted:
            break
    accepted = Run.load(Shrunk(folder, metric.name, tuple(steps)).smallest.path)
    chosen = format or next((name for name, row in able.items() if row.is_installed), None)
    if chosen is None and verbose:
        print("no file in 8 bits: none of its packages is installed. Run: pip install 'keras-resnet-zoo[export]'")
    if chosen is not None:
        steps.append(_quantize(accepted, parent, folder, chosen, allowed))
    _write(folder, settings, metric.name, steps)
    return Shrunk(folder, metric.name, tuple(steps))


def _shares(share: float) -> list[tuple[str, float]]:
    """Returns name and share of the parent's multiply-adds of each step, in equal ratios."""
    count = math.ceil(math.log(share) / math.log(STEP) - 1e-9)
    return [(f"{share ** (number / count):.2f}", share ** (number / count)) for number in range(1, count + 1)]


def _folder(out: str | os.PathLike, settings: dict[str, Any]) -> pathlib.Path:
    """Returns the folder, which is empty or holds these steps."""
    folder = files.make_writable(pathlib.Path(out).expanduser())
    path = folder / SHRINK_FILE
    if not path.is_file():
        files.check_folder_free(folder, (SHRINK_FILE, PAGE))
        files.write_text(path, json.dumps({"settings": settings}, indent=1) + "\n")
        return folder
    try:
        earlier = json.loads(path.read_bytes())["settings"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadValue(f"{os.fspath(path)!r} cannot be read: {error!r}. Use another folder.") from error
    if differing := [f"{key}={earlier.get(key)!r}" for key in settings if earlier.get(key) != settings[key]]:
        raise BadValue(
            f"out={os.fspath(folder)!r} holds steps with {', '.join(differing)}. To go on, give the same; or choose "
            "another folder."
        )
    return folder


def _train(
    before: Run, parent: Run, folder: pathlib.Path, share: float, epochs: int, multiple: int, verbose: Any
) -> Run:
    """Returns the run of a step: the network of the one before, pruned and trained again."""
    pruned = folder.with_name(f"{folder.name}.keras")
    whole = models.model_info(parent.model).multiply_adds
    if not pruned.exists():
        present = models.model_info(before.model).multiply_adds
        evaluation.prune(before, pruned, min(1.0, share * whole / present), multiple=multiple, data=parent.dataset)
    teacher = {"distill.teacher": str(parent.path.absolute()), **TEACHING}
    if parent.recipe.distill.teacher:  # what the run itself learned from stays its teacher
        teacher = {}
    return training.fit(
        parent.recipe,
        model=parent.about.model,
        data=parent.about.data,
        data_dir=parent.about.data_dir,
        weights=pruned,
        out=folder,
        resume=True,
        overrides={"train.epochs": epochs, "model.widths": "", "model.width": "auto", **teacher},
        verbose=verbose,
    )


def _measure(name: str, run: Run, parent: Run | None, split: str, sign: float, allowed: float) -> Step:
    """Returns the row of a trained network."""
    info = models.model_info(run.model)
    metric = run.recipe.loss.choice.task.paired[0]
    difference, interval = None, None
    if parent is None:
        score = _score_of(run, split)
    else:
        paired = evaluation.paired_difference(parent, run, parent.dataset, split=split)
        score, difference = paired[metric][1], sign * paired[f"{metric}_difference"]
        interval = sorted(sign * end for end in paired[f"{metric}_difference_interval"])
    return Step(
        name,
        str(run.path),
        info.parameters,
        info.multiply_adds,
        (run.path / "best.keras").stat().st_size,
        1e3 / evaluation.throughput(models.fuse(run.model), batch_sizes=(1,))[1],
        split,
        score,
        difference,
        interval,
        difference is None or difference >= -allowed,
    )


def _score_of(run: Run, split: str) -> float:
    """Returns the figure of a split, which a run need not have been scored on."""
    figures = run.metrics.get(split) or evaluation.evaluate(run, split=split)
    return float(figures[run.recipe.loss.choice.task.paired[0]])


def _quantize(run: Run, parent: Run, folder: pathlib.Path, format: str, allowed: float) -> Step:
    """Returns the row of the file in 8 bits."""
    path = folder / f"{INT8}-{run.path.name}{FORMATS[format].suffix}"
    facts_path = path.with_name(f"{path.name}.json")
    if not (path.exists() and facts_path.exists()):
        export(run, format=format, out=path, quantize="int8")
    facts = json.loads(facts_path.read_bytes())
    score, difference = facts.get("accuracy"), None
    if score is not None:
        difference = score - _score_of(parent, "test")
    accepted = difference is not None and difference >= -allowed
    return Step(INT8, str(path), None, None, facts["bytes"], facts["ms_1"], "test", score, difference, None, accepted)


def _write(folder: pathlib.Path, settings: dict[str, Any], metric: str, steps: Sequence[Step]) -> None:
    """Writes what was found so far, and its page."""
    content = {"settings": settings, "metric": metric, "steps": [dataclasses.asdict(step) for step in steps]}
    files.write_text(folder / SHRINK_FILE, json.dumps(content, indent=1) + "\n")
    head = ("step", "parameters", "multiply-adds", "bytes", "ms for 1", "split", metric, "difference", "95 % interval")
    rows = []
    for step in steps:
        values = [*(getattr(step, name) for name in ("name", "parameters", "multiply_adds", "bytes", "milliseconds"))]
        rows.append(("", [*values, step.split, step.score, step.difference, _ends(step.interval)]))
    scored = [step for step in steps if step.score is not None and step.name != INT8]
    points = [(step.milliseconds, float(step.score or 0.0)) for step in scored]
    curve = chart.lines(
        [(step.name, [point]) for step, point in zip(scored, points, strict=True)],
        x_label="milliseconds for one example, on this machine",
        note=f"{metric} of the {scored[0].split} split over the time for one example, of each step trained",
        name="curve",
        whole=False,
        dots=points,
    )
    sections = [("Steps", table(head, rows, stacked=True)), ("Accuracy and latency", curve)]
    lost = [step.name for step in steps if not step.is_accepted and step.score is not None]
    if lost:
        sections.append(("Beyond what was allowed", f"<p>{', '.join(lost)}: more was lost than allowed.</p>"))
    files.write_text(folder / PAGE, page("A run made smaller", settings["run"], sections))

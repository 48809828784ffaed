"""`publish`: the folder, the proof that each library reads it, and the upload."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet import __version__, evaluation, files, models, weights
from keras_resnet.errors import BadValue, require
from keras_resnet.explain import explain
from keras_resnet.explain.overlays import as_rgb, blend
from keras_resnet.figures import draw_examples
from keras_resnet.publishing import readers
from keras_resnet.publishing.card import card, split_of
from keras_resnet.publishing.hub import upload
from keras_resnet.tasks import CLASSIFICATION, TASKS
from keras_resnet.training import Recipe, Run
from keras_resnet.weights.adaptation import HEAD, architecture_of
from keras_resnet.weights.sources import HUB, IMAGENET, default_of, repository_of

MANIFEST, CARD, MODEL, WEIGHTS, CONFIG, RECIPE = (
    *("keras_resnet.json", "README.md", "model.keras", "model.safetensors", "config.json", "recipe.toml"),
)
PICTURES = ("confusion.png", "curves.png")
MISTAKES_PICTURE, MISTAKES, MISTAKES_IN_A_ROW = "mistakes.png", 12, 6
# By how much the logits of a library may differ from ours, in units of the largest.
TOLERANCE = 1e-5
IMAGES = 8
READER_SECONDS = 600
# Variants that timm calls otherwise.
TIMM_NAMES = {"resnet_rs50": "resnetrs50", "resnet_rs101": "resnetrs101", "resnet_rs152": "resnetrs152"} | {
    f"resnet_rs{depth}": f"resnetrs{depth}" for depth in (200, 270, 350, 420)
}
# Of these KerasHub knows the blocks.
KERAS_HUB_NAMES = ("resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152")
TRANSFORMERS, TIMM, KERAS_HUB, KERAS = "transformers", "timm", "keras_hub", "keras"


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        where: the folder, or "hf://ORG/NAME".
        files: name -> bytes.
        readers: library -> version and largest difference of a logit, for those that were tried.
        untried: library -> why it was not tried.
    """

    where: str
    files: Mapping[str, int]
    readers: Mapping[str, tuple[str, float]]
    untried: Mapping[str, str]

    def __str__(self) -> str:
        """Returns a human-readable summary."""
        lines = [f"{self.where}"]
        lines += [f"  {name:<18} {size:>12,} bytes" for name, size in self.files.items()]
        lines += [
            f"  read by {name} {version}: logits within {gap:.1e}" for name, (version, gap) in self.readers.items()
        ]
        return "\n".join([*lines, *(f"  not read by {name}: {reason}" for name, reason in self.untried.items())])


def publish(
    run: str | os.PathLike | Run,
    to: str,
    *,
    license: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    mistakes: bool = False,
) -> Published:
    """Writes a run as a folder that other libraries read, and proves for each installed one that it does.

    The folder has `model.keras`, `model.safetensors` and `config.json` (as timm's folders on the Hub), a card
    `README.md` with the scores and their intervals, `recipe.toml`, and `keras_resnet.json` with the sha256 of each
    file. Each library that is installed loads it in a separate process and must give our logits of eight pictures, to
    1e-5 of the largest. Networks that timm does not have (small stems, other widths, signals, volumes) are read by
    Keras and by this package, and the card says so.

    Args:
        run: a finished run, or its folder.
        to: "folder:DIR", or "hf://ORG/NAME" for a repository of the Hugging Face Hub (needs the extra `hub`, and a
            token as `hf auth login` stores it).
        license: such as "apache-2.0"; None for that of the weights that the run began with, if there is one.
        private: whether a new repository is private.
        dry_run: write and prove in a temporary folder, and publish nothing.
        mistakes: whether the card shows the most confident errors of a classifier of pictures, with what the network
            sees in them. These are pictures of your data, and become as public as the card.

    Raises:
        ValueError: there is no finished run, the folder holds something else, a library gives other logits, or the Hub
            refuses.
        ImportError: the card needs `huggingface_hub`.

    Example:
        >>> from keras_resnet import publishing
        >>> publishing.publish("nowhere", "folder:out")
        Traceback (most recent call last):
        ...
        keras_resnet.errors.BadValue: path='nowhere' holds no run: there is no run.json. ...
    """
    run = run if isinstance(run, Run) else Run.load(run)
    if not run.metrics:
        raise BadValue(f"run={os.fspath(run.path)!r} has no scores: it is not finished. Train it to its end first.")
    require("huggingface_hub", "Publishing", "hub")
    target = _target_of(to)
    with _beside(None if dry_run else target) as folder:
        if mistakes:  # first: what is refused costs no minute of readers
            _draw_mistakes(run, folder / MISTAKES_PICTURE)
        contents = _write(run, folder)
        checked, untried = _check_readers(run, folder, contents)
        facts = _facts(run, contents, checked, untried, license)
        pictures = [name for name in (*PICTURES, MISTAKES_PICTURE) if (folder / name).is_file()]
        (folder / CARD).write_text(card(run, facts, to if target is None else None, pictures), "utf-8")
        sizes = _seal(folder, facts)
        if not dry_run and target is None:
            upload(folder, to, private, f"{run.about.model}, published by keras_resnet {__version__}")
        elif not dry_run and target is not None:
            _replace(folder, target)
    return Published(to if target is None else os.fspath(target), sizes, checked, untried)


def _draw_mistakes(run: Run, path: pathlib.Path) -> None:
    """Draws the most confident errors on the split of the card, each above what the network sees in it; if any."""
    if not TASKS[run.record.task or CLASSIFICATION.name].is_exclusive or len(run.about.image_shape) != 3:
        raise BadValue(
            f"mistakes=True was given for {run.record.task} of examples of the shape {run.about.image_shape}. Allowed "
            "are classifiers of pictures. Leave it out."
        )
    wrong = evaluation.mistakes(run, split=split_of({"scores": run.metrics}), top=MISTAKES)
    if not wrong:
        return
    guesses = [run.class_names.index(mistake.guess) for mistake in wrong]
    maps = explain(run.model, np.stack([mistake.image for mistake in wrong]), classes=guesses).maps
    images = [as_rgb(mistake.image, run.record) for mistake in wrong]
    seen = [blend(image, heat) for image, heat in zip(images, maps, strict=True)]
    plain = [blend(image, np.zeros_like(heat)) for image, heat in zip(images, maps, strict=True)]
    titles = [f"{mistake.guess} {mistake.confidence:.0%}, labeled {mistake.label}" for mistake in wrong]
    draw_examples(np.stack(plain), np.stack(seen), titles, MISTAKES_IN_A_ROW, path)


def _target_of(to: str) -> pathlib.Path | None:
    """Returns the folder to make; None for a repository of the Hub."""
    if to.startswith(HUB):
        repository_of(to)
        return None
    if not to.startswith("folder:") or to == "folder:":
        raise BadValue(f"to={to!r} is not known. Allowed are folder:DIR and hf://ORG/NAME. Pass one of them.")
    target = pathlib.Path(to.removeprefix("folder:")).expanduser().absolute()
    files.check_parent(target, "to")
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or is_unchanged(target))):
        raise BadValue(
            f"to={to!r} exists, and is not a folder that `publish` wrote and nobody changed. Only such a folder is "
            "replaced. Choose another one, or move it away."
        )
    return target


def is_unchanged(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds what its manifest lists, and nothing else."""
    return not differences(folder) and {path.name for path in folder.iterdir()} == {
        *manifest(folder)["sha256"],
        MANIFEST,
    }


def manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads `keras_resnet.json` of a published folder; its tables are empty where there is none."""
    try:
        content = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    is_whole = isinstance(content, dict) and isinstance(content.get("sha256"), dict)
    return content if is_whole else {"sha256": {}, "scores": {}}


def differences(folder: pathlib.Path) -> list[str]:
    """Returns the files of a published folder that are missing or not those that were published."""
    hashes = manifest(folder)["sha256"]
    if not hashes:
        return [MANIFEST]
    return [
        name
        for name, digest in hashes.items()
        if not (folder / name).is_file() or files.sha256_of(folder / name) != digest
    ]


@contextlib.contextmanager
def _beside(target: pathlib.Path | None) -> Iterator[pathlib.Path]:
    """Gives a temporary folder on the disk of the target, so that it can be renamed to it."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".publish-", dir=None if target is None else target.parent, ignore_cleanup_errors=True
    ) as temporary:
        folder = pathlib.Path(temporary) / "folder"
        folder.mkdir()
        yield folder


def _replace(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a folder to its final name; an earlier one there goes away after that."""
    earlier = folder.with_name("earlier")
    if target.exists():
        os.rename(target, earlier)
    try:
        os.rename(folder, target)
    except OSError:
        if earlier.exists():
            os.rename(earlier, target)
        raise


def timm_name(run: Run) -> tuple[str | None, str]:
    """Returns timm's name of the network of a run, or None and why timm has no such network."""
    architecture, variant = architecture_of(run.model), run.about.model
    row, record = models.VARIANTS[variant], run.record
    usual = {"stem": "conv7", "shortcut": "conv", "width": 64, "attention": None} | dict(row.defaults)
    if architecture["widths"] or architecture["quantized"]:
        return None, "it has no pruned networks and none that round to 8 bits"
    for name in ("stem", "shortcut", "width", "attention"):
        if architecture[name] != usual[name]:
            return None, f"it has no {variant} with {name}={architecture[name]!r}"
    if len(row.depths) != 4 or variant == "resnet10":
        return None, f"it has no {variant}"
    if architecture["version"] != "v1.5":
        return None, f"its {variant} is v1.5, and this one {architecture['version']}"
    if architecture["rank"] != 2 or architecture["channels"] != 3:
        return None, "its networks take pictures with three channels"
    if run.recipe.loss.choice.activation is None:
        return None, "its networks are classifiers"
    if record.normalization is None or record.channel_order != "rgb" or record.pixel_range != (0.0, 255.0):
        return None, "its networks take RGB pictures of 8 bits"
    return TIMM_NAMES.get(variant, variant), ""


def _without_folder(text: str) -> str:
    """Returns a spec, a tag or a path without the folders of this machine."""
    source, colon, path = text.rpartition(":")
    if text.startswith(HUB) or not ("/" in path or os.sep in path):
        return text
    return f"{source}{colon}{os.path.basename(path.rstrip('/' + os.sep))}"


def _public_recipe(run: Run) -> Recipe:
    places = {"model.weights": run.recipe.model.weights, "distill.teacher": run.recipe.distill.teacher}
    recipe = run.recipe.replace({name: _without_folder(text) for name, text in places.items() if text})
    return dataclasses.replace(recipe, defaults=dataclasses.replace(recipe.defaults, data="", data_dir=""))


def _write(run: Run, folder: pathlib.Path) -> dict[str, Any]:
    """Writes the model, its weights and config.json; returns the content of the latter."""
    record = run.record
    name, reason = timm_name(run)
    shutil.copyfile(run.path / "best.keras", folder / MODEL)
    (folder / RECIPE).write_text(_public_recipe(run).to_toml(), "utf-8")
    for picture in PICTURES:
        if (run.path / picture).is_file():
            shutil.copyfile(run.path / picture, folder / picture)
    pretrained = models.Pretrained.of(run.about.model, run.path / "best.keras")
    network = pretrained.build(
        models.builder.build_resnet,
        run.about.model,
        {
            "include_top": True,
            "input_shape": (*(None,) * pretrained.rank, pretrained.channels),
            "classifier_activation": None,
        },
    )
    weights.save_weights(
        network, folder / WEIGHTS, names="timm" if name else "keras_resnet", preprocessing=pretrained.preprocessing
    )
    config: dict[str, Any] = {"keras_resnet": {"model": run.about.model, "not_in_timm": reason or None}}
    if name:
        layer = record.normalization
        mean, std = ([float(value) for value in np.broadcast_to(row, 3)] for row in (layer._mean, layer._std))
        labels = list(record.class_names)
        size = list(record.image_size or (224, 224))
        config |= {
            "architecture": name,
            "num_classes": run.model.output_shape[-1],
            "num_features": network.get_layer(HEAD).kernel.shape[0],
            "label_names": labels,
            "pretrained_cfg": {
                "custom_load": False,
                "input_size": [3, *size],
                "fixed_input_size": False,
                "interpolation": record.interpolation.removeprefix("pil-"),
                "crop_pct": record.crop_fraction or 1.0,
                "crop_mode": "center" if record.crop_fraction else "squash",
                "mean": [value / 255 for value in mean],
                "std": [value / 255 for value in std],
                "num_classes": run.model.output_shape[-1],
                "pool_size": [-(-side // 32) for side in size],
                "first_conv": "conv1.0" if "deep" in architecture_of(run.model)["stem"] else "conv1",
                "classifier": "fc",
                "label_names": labels,
            },
        }
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return config


def _check_readers(
    run: Run, folder: pathlib.Path, config: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, float]], dict[str, str]]:
    """Returns library -> version and difference, and library -> why it was not tried."""
    shape = tuple(side or 64 for side in run.model.input_shape[1:])
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *shape)).astype("float32")
    expected = np.asarray(run.model.predict(images, verbose=0))
    checked: dict[str, tuple[str, float]] = {}
    untried: dict[str, str] = {}
    for library in readers.READERS:
        reason = _reason_not_to_try(library, config)
        if reason:
            untried[library] = reason
            continue
        logits, version = read(library, folder, images)
        gap = float(np.abs(logits - expected).max() / max(np.abs(expected).max(), 1.0))
        if logits.shape != expected.shape or not gap <= TOLERANCE:
            raise BadValue(
                f"{library} {version} reads the folder and gives logits that differ by {gap:.2g} of the largest; at "
                f"most {TOLERANCE:g} is allowed. Nothing was published."
            )
        checked[library] = version, gap
    return checked, untried


def _reason_not_to_try(library: str, config: Mapping[str, Any]) -> str:
    if library != KERAS and "architecture" not in config:
        return f"timm does not have this network: {config['keras_resnet']['not_in_timm']}"
    if library == KERAS_HUB and config["architecture"] not in KERAS_HUB_NAMES:
        return f"it does not have {config['architecture']}"
    needed = (TRANSFORMERS, TIMM) if library == TRANSFORMERS else (library,)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def read(
    library: str, folder: pathlib.Path, images: np.ndarray, python: Sequence[str] = (sys.executable,)
) -> tuple[np.ndarray, str]:
    """Returns the logits that a library gives for pictures, and its version, from a separate process.

    Args:
        library: a key of `readers.READERS`.
        folder: that was published.
        images: `(n, *space, channels)` in [0, 255].
        python: the command of an interpreter whose environment has the library.
    """
    with tempfile.TemporaryDirectory(prefix="keras_resnet-") as temporary:
        given, out = (os.path.join(temporary, name) for name in ("images.npy", "logits.npy"))
        np.save(given, images)
        try:
            done = subprocess.run(
                [*python, readers.__file__, library, os.fspath(folder), given, out],
                capture_output=True,
                text=True,
                timeout=READER_SECONDS,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            )
        except subprocess.TimeoutExpired as error:
            raise BadValue(f"{library} took more than {READER_SECONDS} s. Nothing was published. Try again.") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BadValue(f"{library} does not read the folder: {last}. Nothing was published.")
        return np.load(out), done.stdout.split()[-1]


def _first_weights(run: Run) -> weights.Source | None:
    """Returns the row of the published weights that a run began with; None where it began with others or with none."""
    tag, model = run.recipe.model.weights, run.about.model
    if tag == IMAGENET:
        return default_of(model)
    rows = [row for row in weights.list_weights() if row.model == model]
    return next((row for row in rows if tag in (row.tag, f"{IMAGENET}.{row.tag}")), None)


def _facts(
    run: Run, config: Mapping[str, Any], checked: Mapping[str, Any], untried: Mapping[str, str], license: str | None
) -> dict[str, Any]:
    """Returns the facts of the run, as the manifest stores them and the card shows them."""
    tag, row = run.recipe.model.weights, _first_weights(run)
    origin = row.source if row else tag or ""
    return {
        "keras_resnet": __version__,
        "model": run.about.model,
        "architecture": config.get("architecture"),
        "task": run.record.task,
        "classes": list(run.class_names),
        "data": _without_folder(run.about.data),
        "fingerprint": run.about.fingerprint,
        "sizes": dict(run.about.sizes),
        "scores": {split: dict(figures) for split, figures in run.metrics.items()},
        "parameters": run.about.parameters,
        "epochs": run.file.epochs_trained,
        "base_weights": _without_folder(tag) if tag else None,
        "base_model": origin.removeprefix(HUB) if origin.startswith(HUB) else None,
        "license": license or (row.license if row else None),
        "versions": dict(run.about.versions),
        "readers": {name: {"version": version, "difference": gap} for name, (version, gap) in checked.items()},
        "not_read_by": dict(untried),
    }


def _seal(folder: pathlib.Path, facts: Mapping[str, Any]) -> dict[str, int]:
    """Writes the manifest with the sha256 of each file; returns name -> bytes."""
    paths = sorted(folder.iterdir())
    content = {**facts, "sha256": {path.name: files.sha256_of(path) for path in paths}}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}

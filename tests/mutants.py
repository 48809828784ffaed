"""Deliberate faults, each one replacement of text in the package, and whether the tests find them.

    python tests/mutants.py                  # every mutant: `make test` first, the slow tier where that finds nothing
    python tests/mutants.py --tier default   # the default tier alone
    python tests/mutants.py conformal crop   # those whose name holds one of these words

A mutant is applied to the working tree, the tests that should find it run until the first one fails, and the file is
restored. A mutant that no tier finds is a missing test. The exit status is 1 where a mutant survives.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIERS = {"default": "not slow and not exhaustive and not data", "slow": "slow and not data"}
TEST_FAILED, NO_TESTS = 1, 5


class Mutant(NamedTuple):
    """A fault.

    Attributes:
        name: the promise that it breaks.
        file: relative to `keras_resnet/`, or to `tuning/` as "tuning/...".
        before: text that the file holds once.
        after: what replaces it.
        tests: files below tests/ that should find it.
    """

    name: str
    file: str
    before: str
    after: str
    tests: str


MUTANTS = [
    # States and resume.
    Mutant(
        "state: seed generators are not saved",
        "training/state.py",
        "if id(variable) not in of_metrics]",
        'if id(variable) not in of_metrics and "seed" not in variable.name]',
        "training/test_resume.py",
    ),
    Mutant(
        "state: optimizer slots are not saved",
        "training/state.py",
        "return variables + [variable for variable in model.optimizer.variables if id(variable) not in seen]",
        "return variables + [v for v in model.optimizer.variables if id(v) not in seen and 'momentum' not in v.path]",
        "training/test_resume.py",
    ),
    Mutant(
        "state: the best epoch is forgotten on resume",
        "training/state.py",
        'for name, value in state["best"].items():',
        "for name, value in ():",
        "training/test_resume.py",
    ),
    Mutant(
        "state: the average of the weights is not saved",
        "training/trainer.py",
        "self.averages = [] if self.average is None else self.average.variables",
        "self.averages = []",
        "training/test_resume.py",
    ),
    Mutant(
        "state: sha256 is not compared",
        "training/state.py",
        "if digest.hexdigest().encode() != content[place : place + len(_ZEROS)]:",
        "if not digest.hexdigest():",
        "training/test_resume.py",
    ),
    Mutant(
        "state: the oldest is taken instead of the newest",
        "training/state.py",
        "reverse=True)",
        "reverse=False)",
        "training/test_resume.py",
    ),
    Mutant(
        "state: values that are not finite are saved",
        "training/state.py",
        'if value.dtype.kind == "f" and not np.isfinite(value).all():',
        'if value.dtype.kind == "?" and not np.isfinite(value).all():',
        "training/test_divergence.py training/test_fit.py training/test_resume.py",
    ),
    Mutant(
        "state: one state stays instead of two",
        "training/state.py",
        "newest_first(self.folder)[self.max_states :]",
        "newest_first(self.folder)[1:]",
        "training/test_fit.py training/test_step_resume.py",
    ),
    Mutant(
        "resume inside an epoch: the data begin at the epoch's first batch",
        "training/experiment.py",
        "first = start_epoch * self.steps_per_epoch + start_batch",
        "first = start_epoch * self.steps_per_epoch",
        "training/test_step_resume.py",
    ),
    Mutant(
        "resume inside an epoch: metrics begin at zero",
        "training/state.py",
        "zip(self.model.metrics_variables, self.metrics, strict=True):\n                variable.assign(value)",
        "zip(self.model.metrics_variables, self.metrics, strict=True):\n                variable.assign(value * 0)",
        "training/test_step_resume.py",
    ),
    Mutant(
        "resume: other data are accepted",
        "training/run.py",
        'IDENTITY = ("recipe", "model", "data", "fingerprint")',
        'IDENTITY = ("recipe", "model", "data")',
        "training/test_fit.py training/test_resume.py training/test_run_file.py",
    ),
    Mutant(
        "Resume callback: the optimizer may change",
        "training/resume.py",
        '"optimizer": _unnamed(keras.saving.serialize_keras_object(model.optimizer)),',
        '"optimizer": "any",',
        "training/test_resume_callback.py",
    ),
    Mutant(
        "Resume callback: passed batches are trained again",
        "training/resume.py",
        "if calls == passed // each:",
        "if calls == 0:",
        "training/test_resume_callback.py",
    ),
    Mutant(
        "signal: SIGTERM is not heard",
        "training/state.py",
        'SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")',
        'SIGNALS = ("SIGINT", "SIGUSR1", "SIGHUP")',
        "training/test_step_resume.py training/test_resume_callback.py",
    ),
    Mutant(
        "signal: every exit status is that of Ctrl-C",
        "training/state.py",
        "INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM",
        "INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGINT",
        "training/test_step_resume.py",
    ),
    Mutant(
        "NaN: a loss that is not finite goes on",
        "training/callbacks.py",
        "if not math.isfinite(float(unread[-1][0])):",
        "if False:",
        "training/test_divergence.py training/test_fit.py",
    ),
    Mutant(
        "lock: two processes share a run folder",
        "training/run.py",
        'lock = locks.acquire(folder / ".lock", timeout=0)',
        'lock = locks.acquire(folder / f".lock-{id(note)}", timeout=0)',
        "training/test_fit.py",
    ),
    # Files.
    Mutant(
        "files: written in place, without a rename",
        "files.py",
        "temporary = pathlib.Path(name)",
        "temporary = path",
        "test_files.py",
    ),
    Mutant(
        "files: a user's file is overwritten",
        "files.py",
        "return any(head.startswith(begin) and mark in head for begin, mark in _MARKS)",
        "return True or any(head.startswith(begin) and mark in head for begin, mark in _MARKS)",
        "test_files.py cli/test_overwriting.py",
    ),
    Mutant(
        "files: a planted link is written through",
        "files.py",
        "if path.is_symlink():",
        "if path.is_symlink() and path.is_socket():",
        "test_files.py training/test_foreign_folders.py",
    ),
    # Order of the examples, splits, folds, groups.
    Mutant(
        "order: every epoch has the same",
        "data/examples/plan.py",
        "else permutation(size, epoch, self.seed)",
        "else permutation(size, epoch * 0, self.seed)",
        "data/examples/test_order.py data/examples/test_batches.py",
    ),
    Mutant(
        "order: each process makes the first part of a batch",
        "data/examples/plan.py",
        "mine = slice(self.first_of_shard, self.first_of_shard + self.shard_size)",
        "mine = slice(0, self.shard_size)",
        "data/examples/test_batches.py data/examples/test_order.py data/examples/test_pipeline.py",
    ),
    Mutant(
        "order: repeated augmentation repeats nothing",
        "data/examples/plan.py",
        "places // self.repeats)))",
        "places)))",
        "data/examples/test_batches.py data/examples/test_order.py training/test_experiment.py",
    ),
    Mutant(
        "split: the seed is ignored",
        "data/examples/splits.py",
        "leaving.append(members[order[:share]])",
        "leaving.append(members[:share])",
        "data/examples/test_labels_and_splits.py",
    ),
    Mutant(
        "split: classes lose their last example",
        "data/examples/splits.py",
        "if shares[index] < sizes[index] - 1]",
        "if shares[index] < sizes[index]]",
        "data/examples/test_labels_and_splits.py",
    ),
    Mutant(
        "split: a group is divided",
        "data/examples/splits.py",
        "staying, leaving = split_off_groups(labels, subjects, fraction, seed=seed, argument=argument)",
        "staying, leaving = split_off_groups(labels, np.arange(len(train)), fraction, seed=seed, argument=argument)",
        "data/sources/test_table.py data/examples/test_labels_and_splits.py",
    ),
    Mutant(
        "folds: a model sees the examples that it is judged on",
        "data/examples/splits.py",
        '{"train": train.take(staying), name: left_out, **result}',
        '{"train": train, name: left_out, **result}',
        "training/test_folds.py",
    ),
    Mutant(
        "folder: class numbers are turned round",
        "data/sources/folder.py",
        "label_of = {name: label for label, name in enumerate(names)}",
        "label_of = {name: len(names) - 1 - label for label, name in enumerate(names)}",
        "data/sources/test_folder.py",
    ),
    Mutant(
        "labels: one beyond the classes is accepted",
        "tasks/labels.py",
        "largest = LARGEST_LABEL if num_classes is None else num_classes - 1",
        "largest = LARGEST_LABEL if num_classes is None else num_classes",
        "data/examples/test_labels_and_splits.py data/sources/test_npz.py",
    ),
    Mutant(
        "balance: common classes are drawn more often",
        "data/weighting.py",
        "chances = counts / np.maximum(np.bincount(places, weights=counts)[places], 1) ** power",
        "chances = counts * np.maximum(np.bincount(places, weights=counts)[places], 1) ** power",
        "data/examples/test_order.py data/examples/test_batches.py data/examples/test_pipeline.py",
    ),
    Mutant(
        "weights: examples of weight 0 are drawn by balanced sampling",
        "data/weighting.py",
        '(weights > 0).astype("float64")',
        '(weights >= 0).astype("float64")',
        "training/test_weights.py",
    ),
    Mutant(
        "weights: those of a split keep the mean of the training split",
        "data/dataset.py",
        'if names == ["train"]:',
        "if names:",
        "training/test_weights.py data/examples/test_weights.py",
    ),
    Mutant(
        "weights: folds are scored by weights that each training split divided",
        "training/folds.py",
        "weights=examples.weights,",
        'weights=run.dataset.weights_of("test"),',
        "training/test_weights.py",
    ),
    Mutant(
        "logit adjustment: the shares are those of the file",
        "training/recipe.py",
        "shares = dataset.class_shares(self.data.sampling_power)",
        "shares = dataset.class_shares(0.0)",
        "training/test_weights.py",
    ),
    Mutant(
        "mean of models: the crop of the members is not compared",
        "training/folds.py",
        '"cuts the share": (record.crop_fraction, other.crop_fraction),',
        "",
        "evaluation/test_ensembles.py",
    ),
    Mutant(
        "conformal: sets are used with views that they were not found with",
        "evaluation/predictor.py",
        'if predictor.record.set_threshold is not None:\n        raise BadValue(\n            f"views=',
        'if False:\n        raise BadValue(\n            f"views=',
        "evaluation/test_ensembles.py",
    ),
    Mutant(
        "page: areas under ROC ignore the weights of examples",
        "report/chart.py",
        "points_of(predictions.probabilities[mine, index], truth[mine, index], counts[mine])",
        "points_of(predictions.probabilities[mine, index], truth[mine, index], None)",
        "training/test_weights.py",
    ),
    Mutant(
        "data: a class order is ignored",
        "training/inputs.py",
        "order = {} if self.class_order == AUTO else",
        "order = {} if self.class_order else",
        "data/sources/test_cells.py",
    ),
    Mutant(
        "plan: gray images, as of characters, are flipped",
        "training/experiment.py",
        "channels == 3 and",
        "channels in (1, 3) and",
        "training/test_plan.py",
    ),
    Mutant(
        "plan: weights are trained at the rate of random ones",
        "training/experiment.py",
        'defaults["recipe"] = FOR_WEIGHTS',
        'defaults["recipe"] = "quick"',
        "training/test_made_for.py",
    ),
    Mutant(
        "balance: class weights ignore the power",
        "data/weighting.py",
        "float(len(labels) / (total * count**power))",
        "float(len(labels) / (total * count))",
        "data/examples/test_pipeline.py data/examples/test_batches.py training/test_weights.py "
        "training/test_monitor.py",
    ),
    Mutant(
        "example weights: not relative to the training split",
        "data/weighting.py",
        "(values / mean).astype",
        "(values * mean).astype",
        "data/examples/test_weights.py training/test_weights.py",
    ),
    # Pixels.
    Mutant(
        "pixels: evaluation forgets the center crop",
        "data/examples/plan.py",
        'if self.crop == "center":',
        'if self.crop == "center":',
        "data/examples/test_batches.py data/images/test_resizing.py evaluation/test_same_pixels.py",
    ),
    Mutant(
        "pixels: served bytes are not cropped",
        "export/formats.py",
        "record.crop_fraction, record.interpolation",
        "1.0, record.interpolation",
        "data/test_pillow.py",
    ),
    Mutant(
        "pixels: evaluation resizes without antialiasing",
        "data/images/resizing.py",
        "method=interpolation, antialias=True)",
        "method=interpolation, antialias=False)",
        "data/images/test_resizing.py",
    ),
    Mutant(
        "pixels: Pillow's weights lose their lower bits",
        "data/images/pillow.py",
        "[high, matrix - high * 2**LOW_BITS]",
        "[high, 0 * high]",
        "data/test_pillow.py",
    ),
    Mutant(
        "pixels: Pillow's rows are resized before its columns",
        "data/images/pillow.py",
        """        images = _along(-2, images[..., top:bottom, left:right, :], columns[0] - left, columns[1])
        images = _along(-3, images, rows[0] - top, rows[1])
""",
        """        images = _along(-3, images[..., top:bottom, left:right, :], rows[0] - top, rows[1])
        images = _along(-2, images, columns[0] - left, columns[1])
""",
        "data/test_pillow.py",
    ),
    Mutant(
        "pixels: the longer side is rounded up",
        "data/images/pillow.py",
        "tf.floor(rows * sides",
        "tf.math.ceil(rows * sides",
        "data/test_pillow.py",
    ),
    Mutant(
        "pixels: the center is cut before Pillow resizes",
        "data/examples/plan.py",
        'return self.crop == "center" and pillow.is_pillow(self.interpolation)',
        "return False",
        "data/test_pillow.py",
    ),
    Mutant(
        "pixels: served bytes are resized in floats",
        "export/formats.py",
        "lambda: fit(tf.cast(image, tf.uint8))",
        "lambda: fit(image)",
        "data/test_pillow.py",
    ),
    Mutant(
        "weights: a filter's step is that of its tensor",
        "blocks/quantization.py",
        "np.abs(kernel).max(axis=others)",
        "np.abs(kernel).max()",
        "weights/test_loading.py",
    ),
    Mutant(
        "weights: what was rounded for one network takes a new head",
        "models/pretrained.py",
        "if is_new or not has_head or adapt:",
        "if not has_head or adapt:",
        "weights/test_loading.py",
    ),
    Mutant(
        "pixels: random crops are never small",
        "data/images/resizing.py",
        "SCALE = (0.08, 1.0)",
        "SCALE = (0.5, 1.0)",
        "data/images/test_resizing.py",
    ),
    Mutant(
        "pixels: a scaled JPEG that EXIF turns is cut elsewhere",
        "data/images/decoding.py",
        "tf.where(is_mirrored, upright - start - extent, start)",
        "tf.where(is_mirrored, start, start)",
        "data/images/test_scaled_decoding.py",
    ),
    Mutant(
        "prepare: a picture of an earlier original stays",
        "data/prepared.py",
        '{index:07d}-{digest[:8]}"',
        '{index:07d}"',
        "data/test_prepare.py",
    ),
    Mutant(
        "pixels: EXIF orientations 6 and 8 are exchanged",
        "data/images/decoding.py",
        "(5, 6, 7, 8), (2, 3, 6, 7)",
        "(5, 6, 7, 8), (2, 3, 8, 7)",
        "data/images/test_bad_images.py evaluation/test_task.py evaluation/test_same_pixels.py",
    ),
    Mutant(
        "pixels: a bomb is decoded",
        "data/images/decoding.py",
        "if pixels > max_pixels:",
        "if pixels > max_pixels * max_pixels:",
        "data/images/test_bad_images.py data/test_bombs.py",
    ),
    Mutant(
        "pixels: range of the training data is shifted",
        "preprocessing/record.py",
        "images * ((white - black) / BYTES[1]) + black",
        "images * ((white - black) / BYTES[1])",
        "preprocessing/test_record.py evaluation/test_task.py",
    ),
    Mutant(
        "normalization: a wrong digit of ImageNet's constants",
        "preprocessing/normalization.py",
        "0.229 * 255",
        "0.292 * 255",
        "preprocessing/test_normalization.py",
    ),
    Mutant(
        "normalization: caffe keeps RGB",
        "preprocessing/normalization.py",
        "3, axis=axis)[::-1], axis=axis)",
        "3, axis=axis), axis=axis)",
        "preprocessing/test_normalization.py",
    ),
    Mutant(
        "augmentation: mixed images keep their own labels",
        "preprocessing/batch_transforms.py",
        "keras.ops.take(rows, partners, axis=0)",
        "rows",
        "preprocessing/test_mixing.py",
    ),
    Mutant(
        "augmentation: CutMix gives the label of the larger part to the smaller",
        "preprocessing/batch_transforms.py",
        "keras.ops.where(inside, others, images), 1 - replaced",
        "keras.ops.where(inside, others, images), replaced",
        "preprocessing/test_mixing.py",
    ),
    Mutant(
        "augmentation: in the step every batch has the same draws",
        "preprocessing/batch_transforms.py",
        "self.next_step.assign(step + 1)",
        "self.next_step.assign(step)",
        "preprocessing/test_batch_transforms.py training/test_stages.py",
    ),
    # Layers, kernels, networks.
    Mutant(
        "kernels: phases of a strided gradient in the wrong order",
        "blocks/kernels/gradients.py",
        "order = sorted(offsets)",
        "order = sorted(offsets, reverse=True)",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "kernels: the kernel is not flipped",
        "blocks/kernels/gradients.py",
        "flipped = tf.reverse(_transpose(kernel, geometry.rank), list(range(geometry.rank)))",
        "flipped = _transpose(kernel, geometry.rank)",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "kernels: strided pixels begin one place late",
        "blocks/kernels/gradients.py",
        "[0, stride - 1], [0, 0]",
        "[stride - 1, 0], [0, 0]",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "kernels: taps of the window read the same pixels",
        "blocks/kernels/gradients.py",
        "start + stride * tf.range(count)",
        "stride * tf.range(count)",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "kernels: moving variance with Bessel's correction",
        "blocks/kernels/convolution.py",
        "variance * ((count - 1.0) / count)",
        "variance",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "network: v1.5 strides in the first 1x1",
        "blocks/residual.py",
        '"v1.5": Version(preactivation=False, bottleneck_stride=1',
        '"v1.5": Version(preactivation=False, bottleneck_stride=0',
        "models/test_builder.py weights/test_parity.py models/test_zoo.py",
    ),
    Mutant(
        "network: epsilon of keras.applications in v1.5",
        "blocks/residual.py",
        'bias="none", norm_epsilon=1e-5',
        'bias="none", norm_epsilon=1.001e-4',
        "weights/test_parity.py models/test_parity.py blocks/test_residual.py",
    ),
    Mutant(
        "network: a residual branch begins at full strength",
        "blocks/residual.py",
        "zero_init=last and self.zero_init_residual and not conventions.preactivation",
        "zero_init=False",
        "blocks/test_residual.py models/test_builder.py",
    ),
    Mutant(
        "network: drop path draws for whole batches",
        "blocks/residual.py",
        "noise_shape=(None,) + (1,) * (num_axes - 1)",
        "noise_shape=(1,) * num_axes",
        "blocks/test_residual.py",
    ),
    Mutant(
        "fuse: epsilon is forgotten",
        "blocks/convolution.py",
        "np.sqrt(_values(norm.moving_variance) + norm.epsilon)",
        "np.sqrt(_values(norm.moving_variance))",
        "models/test_fuse.py",
    ),
    Mutant(
        "freeze: the last stage goes on training",
        "models/freezing.py",
        "for layer in model.layers[: last + 1]:",
        "for layer in model.layers[:last]:",
        "models/test_freezing.py",
    ),
    # Weights.
    Mutant(
        "weights: kernels of PyTorch are read mirrored",
        "weights/naming.py",
        "np.transpose(array, (*range(2, array.ndim), 1, 0))",
        "np.transpose(array, (*reversed(range(2, array.ndim)), 1, 0))",
        "weights/test_parity.py",
    ),
    Mutant(
        "weights: mean and variance are exchanged",
        "weights/naming.py",
        '"moving_mean": "running_mean", "moving_variance": "running_var"',
        '"moving_mean": "running_var", "moving_variance": "running_mean"',
        "weights/test_parity.py",
    ),
    Mutant(
        "weights: kernels for volumes are not divided by their depth",
        "weights/adaptation.py",
        "axis=0) / np.float32(wanted[0])",
        "axis=0)",
        "weights/test_adaptation.py",
    ),
    Mutant(
        "weights: a download is not compared with its hash",
        "weights/download.py",
        'return sha256.startswith(words[-1]) if kind == "sha256" else True',
        "return True",
        "weights/test_download.py",
    ),
    Mutant(
        "weights: a cut download takes its name",
        "weights/download.py",
        "if total is not None and part.stat().st_size != total:",
        "if total is not None and part.stat().st_size > total:",
        "weights/test_download.py",
    ),
    Mutant(
        "hostile: a pickle runs code",
        "weights/checkpoints.py",
        'raise _Refused(f"{module}.{name}")',
        "return super().find_class(module, name)",
        "weights/test_hostile_files.py weights/test_loading.py",
    ),
    Mutant(
        "hostile: links in HDF5 are followed",
        "weights/files.py",
        "if not isinstance(link, h5py.HardLink) or depth > 8:",
        "if depth > 8:",
        "weights/test_loading.py weights/test_hostile_files.py",
    ),
    Mutant(
        "hostile: NaN in a model file is loaded",
        "weights/files.py",
        "if not np.isfinite(values).all():",
        "if not values.size:",
        "weights/test_model_file.py weights/test_hostile_files.py",
    ),
    Mutant(
        "hostile: a trial's folder leads elsewhere",
        "tuning/ledger.py",
        r're.fullmatch(r"[\w-]{1,64}", trial_id, re.ASCII)',
        're.fullmatch(r".{1,64}", trial_id, re.ASCII)',
        "tuning/test_ledger.py training/test_foreign_folders.py tuning/test_search.py",
    ),
    Mutant(
        "hostile: a file name steers the terminal",
        "terminal.py",
        "return _NOT_IN_A_NAME.sub(lambda found: _escaped(found[0]), str(text))",
        "return str(text)",
        "cli/test_names.py cli/test_terminal.py cli/test_messages.py",
    ),
    Mutant(
        "hostile: the demo answers other pages",
        "demo.py",
        'if origin is not None and origin != b"http://" + host:',
        'if origin is not None and origin == b"null":',
        "demo/test_demo.py",
    ),
    Mutant(
        "prune: norms of v2 lose the channels behind their convolution",
        "models/pruning.py",
        "self._norm(norm, inside if is_preactivated else outside)",
        "self._norm(norm, outside)",
        "models/test_pruning.py",
    ),
    Mutant(
        "prune: zeros that pad a shortcut are channels of their own",
        "models/pruning.py",
        "after = (*before, self._new(added))",
        "after = (self._new(block.output_filters),)",
        "models/test_pruning.py",
    ),
    Mutant(
        "prune: taylor forgets the shift of a norm",
        "models/pruning.py",
        "norm.weights[:2], first)",
        "norm.weights[:1], first)",
        "models/test_pruning.py",
    ),
    Mutant(
        "prune: thresholds of the network before stay",
        "evaluation/pruning.py",
        "preprocessing.describe_outputs(small, record.class_names, **about)",
        "pass",
        "evaluation/test_pruning.py",
    ),
    Mutant(
        "quantize: the bias keeps its floats",
        "blocks/quantization.py",
        "bias + ops.stop_gradient(ops.round(bias / step) * step - bias)",
        "bias",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: kernels have one scale",
        "blocks/quantization.py",
        "others = None if axis is None else tuple(range(len(kernel.shape) - 1))",
        "others = None if axis is None else tuple(range(len(kernel.shape)))",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: a range need not hold zero",
        "blocks/quantization.py",
        "keras.ops.minimum(keras.ops.min(values), 0.0)",
        "keras.ops.min(values)",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: a frozen range moves",
        "blocks/quantization.py",
        "(training and self.trainable)",
        "training",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: the shortcut is not rounded",
        "blocks/shortcut.py",
        "for layer in (self.norm, self.range):",
        "for layer in (self.norm,):",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: rounded before the activation",
        "blocks/residual.py",
        "                x = keras.ops.relu(x)\n            x = self.rounded(x, conv.name, training, call_layer)",
        "                x = keras.ops.relu(self.rounded(x, conv.name, training, call_layer))",
        "models/test_quantization.py",
    ),
    Mutant(
        "quantize: OpenVINO leaves roundings out",
        "export/formats.py",
        "        keep_rounding(model)",
        "        pass",
        "export/test_rounded.py",
    ),
    Mutant(
        "quantize: ONNX keeps kernels of floats",
        "export/formats.py",
        "        store_integer_kernels(model)",
        "        pass",
        "export/test_rounded.py",
    ),
    Mutant(
        "quantize: a signal is rounded before it is a picture",
        "blocks/quantization.py",
        "if training or len(inputs.shape) != 3 or",
        "if True or",
        "export/test_rounded.py",
    ),
    Mutant(
        "quantize: kernels are cut to what can be reached",
        "blocks/quantization.py",
        "    is_plain = True",
        "    is_plain = False",
        "export/test_rounded.py",
    ),
    Mutant(
        "quantize: ranges begin unknown in training",
        "training/network.py",
        "network = models.quantize(network, calibration)",
        "network = models.quantize(network)",
        "training/test_quantize.py",
    ),
    Mutant(
        "weights: a run folder is no weights",
        "weights/sources.py",
        "(HUB_FILE, *MODELS_OF_FOLDERS)",
        "(HUB_FILE,)",
        "training/test_quantize.py",
    ),
    # Losses, optimizers, schedules, averages.
    Mutant(
        "loss: smoothing takes and gives nothing back",
        "training/losses.py",
        "* (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]",
        "* (1 - self.label_smoothing)",
        "training/test_losses.py",
    ),
    Mutant(
        "loss: focal ignores gamma",
        "training/losses.py",
        "keras.ops.power(remaining, self.gamma)",
        "keras.ops.power(remaining, 1.0)",
        "training/test_losses.py",
    ),
    Mutant(
        "loss: logit adjustment with the wrong sign",
        "training/losses.py",
        "self.strength * math.log(share)",
        "-self.strength * math.log(share)",
        "training/test_losses.py",
    ),
    Mutant(
        "loss: an unknown label counts as nothing",
        "training/losses.py",
        "dtype=y_pred.dtype), math.nan)",
        "dtype=y_pred.dtype), 0.0)",
        "training/test_losses.py training/test_fit.py",
    ),
    Mutant(
        "optimizer: scales of norms decay",
        "training/optimizer.py",
        'r"(^|/)(bias|gamma|beta)(:\\d+)?$"',
        'r"(^|/)(bias|beta)(:\\d+)?$"',
        "training/test_optimizers.py",
    ),
    Mutant(
        "average: statistics of batch norms are left out",
        "training/optimizer.py",
        "if id(variable) not in of_metrics and keras.backend.is_float_dtype(variable.dtype)",
        "if id(variable) not in of_metrics and variable.trainable",
        "training/test_averaging.py",
    ),
    Mutant(
        "schedule: the peak of one cycle is a step late",
        "training/schedule.py",
        "rise = max(self.peak_at * self.steps - 1, 0.5)",
        "rise = max(self.peak_at * self.steps, 0.5)",
        "training/test_schedules.py",
    ),
    Mutant(
        "schedule: warmup begins at zero",
        "training/schedule.py",
        '(keras.ops.cast(step, "float32") + 1) / self.steps',
        'keras.ops.cast(step, "float32") / self.steps',
        "training/test_schedules.py training/test_recipes.py",
    ),
    Mutant(
        "rates: the stem learns fastest",
        "training/optimizer.py",
        "len(body) - place for place",
        "place + 1 for place",
        "training/test_rate_factors.py",
    ),
    Mutant(
        "monitor: the worst accuracy is kept",
        "training/scoring.py",
        'value < best if self.direction == "min" else value > best',
        "value < best",
        "training/test_monitor.py",
    ),
    Mutant(
        "monitor: weights do not count in balanced accuracy",
        "training/scoring.py",
        "truth = truth * ops.reshape(ops.cast(sample_weight, truth.dtype), (-1, 1))",
        "truth = truth * 1.0",
        "training/test_monitor.py training/test_weights.py",
    ),
    # What judges.
    Mutant(
        "scores: weights of examples do not count",
        "tasks/predictions.py",
        'weights = self.counts[None].astype("float64") if weights is None else weights',
        "weights = np.ones((1, len(self))) if weights is None else weights",
        "evaluation/test_scores.py evaluation/test_evaluate.py training/test_weights.py data/examples/test_weights.py",
    ),
    Mutant(
        "scores: weights of examples do not count in the mean of r2",
        "tasks/regression.py",
        "mean = self.weights @ shifted / self.total[:, None]",
        "mean = shifted.mean(axis=0)",
        "evaluation/test_scores.py training/test_weights.py",
    ),
    Mutant(
        "scores: a class is counted by its row instead of its name",
        "training/scoring.py",
        "return places[check_class_numbers(np.asarray(labels).reshape(-1), len(places))]",
        "return check_class_numbers(np.asarray(labels).reshape(-1), len(places))",
        "evaluation/test_new_data.py evaluation/test_evaluate.py",
    ),
    Mutant(
        "scores: thresholds of several labels are ignored",
        "tasks/multilabel.py",
        "(predictions.probabilities >= cuts) & predictions.known",
        "(predictions.probabilities >= 0.5) & predictions.known",
        "evaluation/test_multilabel.py",
    ),
    Mutant(
        "unknown labels: they are absent in the loss",
        "training/scoring.py",
        "return keras.ops.where(is_known, rows, 0.0), keras.ops.cast(is_known, rows.dtype)",
        "return keras.ops.where(is_known, rows, 0.0), keras.ops.ones_like(rows)",
        "evaluation/test_unknown_labels.py",
    ),
    Mutant(
        "unknown labels: they are absent in the scores",
        "tasks/labels.py",
        'return ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, bool)',
        "return np.ones(labels.shape, bool)",
        "evaluation/test_unknown_labels.py",
    ),
    Mutant(
        "predict: thresholds of several labels are ignored",
        "tasks/multilabel.py",
        "for i in order if row[i] >= cuts[i]]",
        "for i in order if row[i] >= 0.5]",
        "evaluation/test_multilabel.py",
    ),
    Mutant(
        "calibration: the temperature is applied twice",
        "evaluation/calibration.py",
        "[weight / temperature for weight in head.get_weights()]",
        "[weight / temperature**2 for weight in head.get_weights()]",
        "evaluation/test_calibration.py",
    ),
    Mutant(
        "calibration: weights of examples do not count",
        "evaluation/calibration.py",
        "example_weights = example_weights / example_weights.mean()",
        "example_weights = np.ones(len(labels))",
        "evaluation/test_calibration.py",
    ),
    Mutant(
        "conformal: the rank forgets the new example",
        "evaluation/calibration.py",
        "(len(true) + 1) * coverage",
        "len(true) * coverage",
        "evaluation/test_ensembles.py evaluation/test_calibration.py",
    ),
    Mutant(
        "intervals: groups are drawn one example at a time",
        "tasks/metrics.py",
        "if groups is not None:\n        unit",
        "if groups is not None and not examples:\n        unit",
        "evaluation/test_intervals.py",
    ),
    Mutant(
        "intervals: kappa without the squares",
        "tasks/classification.py",
        "squares = view.grades**2",
        "squares = view.grades",
        "evaluation/test_intervals.py",
    ),
    Mutant(
        "paired: the first minus the second",
        "evaluation/paired.py",
        "metric(theirs, weights) - metric(mine, weights)",
        "metric(mine, weights) - metric(theirs, weights)",
        "evaluation/test_ensembles.py",
    ),
    Mutant(
        "views: the mirror image is upside down",
        "training/folds.py",
        "return keras.ops.flip(images, axis=-2)",
        "return keras.ops.flip(images, axis=1)",
        "evaluation/test_ensembles.py",
    ),
    Mutant(
        "label issues: the least doubtful are called wrong",
        "evaluation/label_issues.py",
        "& (assigned != labels)",
        "& (assigned == labels)",
        "evaluation/test_label_issues.py",
    ),
    # Exports, search, messages.
    Mutant(
        "export: answers are not compared with the model's",
        "export/checking.py",
        "if not difference <= allowed:",
        "if difference < 0:",
        "export/test_export.py",
    ),
    Mutant(
        "search: a trial that kills its process is tried for ever",
        "tuning/ledger.py",
        'if row["attempts"] >= most:',
        'if row["attempts"] < 0:',
        "tuning/test_ledger.py tuning/test_search.py",
    ),
    Mutant(
        "search: the highest loss wins",
        "tuning/outcome.py",
        'sign = 1 if definition.direction == "max" else -1',
        "sign = 1",
        "tuning/test_search.py tuning/test_ledger.py",
    ),
    Mutant(
        "search: a search goes on with other data",
        "tuning/ledger.py",
        'return training.differences(record["facts"], facts)',
        "return []",
        "tuning/test_search.py tuning/test_ledger.py",
    ),
    Mutant(
        "message: another argument is named",
        "arguments.py",
        'raise BadValue(f"{argument} must be {allowed}, got {value!r}. Pass a value in that range.")',
        'raise BadValue(f"value must be {allowed}, got {value!r}. Pass a value in that range.")',
        "test_arguments.py models/test_bad_calls.py cli/test_messages.py",
    ),
    Mutant(
        "message: the closest name is not proposed",
        "arguments.py",
        "is not known. {suggestion(value, names)}Use one of",
        "is not known. Use one of",
        "test_arguments.py models/test_bad_calls.py cli/test_messages.py",
    ),
    Mutant(
        "command line: a user's mistake exits with 1",
        "cli/__init__.py",
        "DONE, USERS_MISTAKE, INTERRUPTED = 0, 2, 130",
        "DONE, USERS_MISTAKE, INTERRUPTED = 0, 1, 130",
        "cli/test_errors.py cli/test_messages.py cli/test_names.py",
    ),
    # Several processes.
    Mutant(
        "processes: moving averages are summed instead of averaged",
        "distribution/step.py",
        "(now.value - old) / group.count",
        "(now.value - old)",
        "distribution/test_recipes.py",
    ),
    Mutant(
        "processes: all draw the same dropout",
        "distribution/step.py",
        "with own_draws(group.index):",
        "with own_draws(0):",
        "distribution/test_recipes.py distribution/test_devices.py",
    ),
    Mutant(
        "a teacher's answers are softened by the temperature",
        "training/distill.py",
        "teacher, student = teacher / temperature, student / temperature",
        "teacher, student = teacher, student / temperature",
        "training/test_distill.py",
    ),
    Mutant(
        "classes of a teacher are matched by name",
        "training/distill.py",
        "[own.index(name) for name in class_names]",
        "list(range(len(class_names)))",
        "training/test_distill.py",
    ),
    Mutant(
        "the validation loss is that of the labels alone",
        "training/distill.py",
        "                if not training:\n                    return loss\n",
        "",
        "training/test_distill.py",
    ),
    Mutant(
        "another teacher is another run",
        "training/run.py",
        "dataclasses.replace(self.recipe.distill, teacher=self.teacher_sha256)",
        'dataclasses.replace(self.recipe.distill, teacher="")',
        "training/test_distill.py",
    ),
    Mutant(
        "penalties of weights are not divided by alpha",
        "training/distill.py",
        "taught + (loss - of_labels) if self.losses else taught",
        "taught",
        "training/test_distill.py",
    ),
    Mutant(
        "divergence: a state is saved before the loss was looked at",
        "training/state.py",
        "if self.check_values is not None:",
        "if False:",
        "training/test_device_reads.py",
    ),
    Mutant(
        "divergence: the step is the one at which it was seen",
        "training/callbacks.py",
        "variable.assign(first or value)\n                    self._stop",
        "pass\n                    self._stop",
        "training/test_device_reads.py",
    ),
    Mutant(
        "executions: the last call of an epoch takes steps of the next",
        "distribution/step.py",
        "count = min(most, steps_left)",
        "count = most",
        "training/test_steps.py",
    ),
    Mutant(
        "executions: the average takes in the last step of a call alone",
        "training/experiment.py",
        'if hasattr(each, "follow"))',
        'if hasattr(each, "check"))',
        "training/test_steps.py",
    ),
    Mutant(
        "executions: the step is the last of its call",
        "training/callbacks.py",
        "variable.assign(first or value)",
        "variable.assign(value)",
        "training/test_steps.py",
    ),
    Mutant(
        "executions: no state is due inside a call",
        "training/state.py",
        "done // interval.steps > self._done // interval.steps",
        "done % interval.steps == 0",
        "training/test_steps.py",
    ),
    Mutant(
        "averages: the decay is that of the next step",
        "training/optimizer.py",
        "tf.range(before + 1, iterations + 1)",
        "tf.range(before + 2, iterations + 2)",
        "training/test_averaging.py",
    ),
    Mutant(
        "publishing: the pictures of the training are scored",
        "publishing/verification.py",
        'own.fingerprint == facts["fingerprint"]',
        "own.fingerprint == facts",
        "publishing/test_folder.py",
    ),
    Mutant(
        "publishing: folders of this machine are published",
        "publishing/folder.py",
        'recipe.defaults, data="", data_dir=""',
        "recipe.defaults",
        "publishing/test_folder.py",
    ),
    # Embeddings.
    Mutant(
        "embeddings: an example is its own first neighbor",
        "evaluation/embeddings.py",
        "embeddings.nearest(vectors, NEIGHBORS + 1)",
        "embeddings.nearest(vectors, NEIGHBORS)",
        "evaluation/test_embeddings.py",
    ),
    Mutant(
        "embeddings: the network of an index may have changed",
        "evaluation/embeddings.py",
        "if _hash_of(network) != embeddings.sha256:",
        "if not embeddings.sha256:",
        "evaluation/test_embeddings.py",
    ),
    Mutant(
        "embeddings: vectors have any length",
        "evaluation/embeddings.py",
        "np.linalg.norm(features, axis=1, keepdims=True), 1e-12)",
        "np.linalg.norm(features, axis=1, keepdims=True).max(), 1e-12)",
        "evaluation/test_embeddings.py",
    ),
    # Publishing.
    Mutant(
        "publishing: a folder that somebody changed is replaced",
        "publishing/folder.py",
        "return not differences(folder) and",
        "return True or",
        "publishing/test_folder.py",
    ),
    Mutant(
        "publishing: other logits are published",
        "publishing/folder.py",
        "not gap <= TOLERANCE",
        "not gap <= 1.0",
        "publishing/test_folder.py",
    ),
    Mutant(
        "publishing: a figure holds for every data",
        "publishing/verification.py",
        "low[0] <= high[1] and high[0] <= low[1]",
        "low[0] <= high[1] or high[0] <= low[1]",
        "publishing/test_folder.py",
    ),
    Mutant(
        "publishing: a folder of the name of a tag hides it",
        "weights/sources.py",
        "in READERS or path.is_file() or (path.is_dir()",
        "in READERS or path.exists() or (path.is_dir()",
        "publishing/test_folder.py",
    ),
    Mutant(
        "publishing: a repository is changed in several commits",
        "publishing/hub.py",
        "api.create_commit(repository, changes, commit_message=message)",
        "[api.create_commit(repository, [change], commit_message=message) for change in changes]",
        "publishing/test_hub.py",
    ),
    # Dilated networks.
    Mutant(
        "dilation: the window that would step is dilated too",
        "models/stages.py",
        "reach = [before if place <= strided else dilation",
        "reach = [before if place < strided else dilation",
        "models/test_dilation.py",
    ),
    Mutant(
        "dilation: windows behind the step are not dilated",
        "models/stages.py",
        "reach = [before if place <= strided else dilation",
        "reach = [before",
        "models/test_dilation.py",
    ),
    Mutant(
        "dilation: the fast kernels forget it",
        "blocks/convolution.py",
        "own_form = self.dilation == 1 and (",
        "own_form = (",
        "models/test_dilation.py",
    ),
    # The plan.
    Mutant(
        "plan: characters are flipped",
        "training/experiment.py",
        "mirrored.mean() > own.mean() - error)",
        "mirrored.mean() >= 0)",
        "training/test_plan.py",
    ),
    Mutant(
        "plan: gray scenes are not flipped",
        "training/experiment.py",
        "right(images[:, :, ::-1])",
        "right(images[:, ::-1])",
        "training/test_plan.py",
    ),
    Mutant(
        "plan: the settings of a rule win over what was asked for",
        "training/experiment.py",
        'fitting = fill({"recipe": chosen})[0]',
        'fitting = fill({"recipe": rule.recipe})[0].replace(rule.settings)',
        "training/test_plan.py",
    ),
    Mutant(
        "page: the map shows directions that are not centered",
        "report/run_page.py",
        'centered = features.astype("float64") - features.mean(axis=0)',
        'centered = features.astype("float64")',
        "report/test_run_page.py",
    ),
    Mutant(
        "embeddings: an example is its own nearest copy",
        "evaluation/embeddings.py",
        "others = np.where(indices[:, 0] == np.arange(len(indices)), 1, 0)",
        "others = np.where(indices[:, 0] == np.arange(len(indices)), 0, 0)",
        "evaluation/test_embeddings.py",
    ),
    Mutant(
        "plan: a policy that was asked for is left out",
        "training/trainer.py",
        'if "augment.policy" in free and minutes is not None',
        "if free and minutes is not None",
        "training/test_plan.py",
    ),
    Mutant(
        "kernels: a narrow network is differentiated by what corrupts the memory",
        "blocks/kernels/convolution.py",
        "channels < 16 and geometry.rank == 2",
        "channels < 8 and geometry.rank == 2",
        "blocks/test_kernels.py",
    ),
    Mutant(
        "robustness: views are left out",
        "evaluation/robustness.py",
        "split, task, on_bad_image, views)",
        'split, task, on_bad_image, "none")',
        "evaluation/test_robustness.py",
    ),
    Mutant(
        "answers: a table without novelty",
        "report/answers.py",
        'return row | ({"novelty": answer["novelty"]} if "novelty" in answer else {})',
        "return row",
        "evaluation/test_embeddings.py",
    ),
    Mutant(
        "plan: weights of signals are tuned as photographs",
        "training/experiment.py",
        "Recipe.load(FOR_WEIGHTS), augment=chosen.augment, loss=chosen.loss)",
        "Recipe.load(FOR_WEIGHTS), loss=chosen.loss)",
        "training/test_plan.py",
    ),
    Mutant(
        "tuning: the recipe is found without what was said of the data",
        "tuning/definition.py",
        "training.resolve(**named_data, overrides=changes).recipe",
        "training.resolve(**named_data).recipe",
        "tuning/test_search.py",
    ),
    Mutant(
        "data: quantities are classes",
        "data/sources/table.py",
        "if any(float(name) % 1 for name in names):",
        "if False:",
        "data/sources/test_cells.py",
    ),
    Mutant(
        "folds: the mean model reads other data by default",
        "evaluation/predictor.py",
        "reader = run or predictor.fold",
        "reader = run",
        "training/test_folds.py",
    ),
    # Forked workers.
    Mutant(
        "fork server: a signal reaches every worker",
        "tuning/fork_server.py",
        'for pid in [pid for pid, number in children.items() if number == request["number"]]:',
        "for pid in list(children):",
        "tuning/test_fork_server.py",
    ),
    Mutant(
        "fork server: workers outlive it",
        "tuning/fork_server.py",
        "                    if worker.pid is not None:\n                        os.kill(worker.pid, signal.SIGKILL)",
        "                    pass",
        "tuning/test_fork_server.py",
    ),
    Mutant(
        "fork server: a driver of a GPU is forked",
        "tuning/fork_server.py",
        'has_gpu = any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "kfd").exists()',
        "has_gpu = False",
        "tuning/test_fork_server.py",
    ),
    # Answers by an export in the run folder.
    Mutant(
        "answers: an export answers for another model",
        "cli/answers.py",
        'parts = {"best.keras": facts["model_sha256"], **facts["sha256"]}',
        'parts = {**facts["sha256"]}',
        "cli/test_answers.py",
    ),
    Mutant(
        "answers: another export answers",
        "cli/answers.py",
        'parts = {"best.keras": facts["model_sha256"], **facts["sha256"]}',
        'parts = {"best.keras": facts["model_sha256"]}',
        "cli/test_answers.py",
    ),
    Mutant(
        "answers: a model of 16 bits is answered for in 32",
        "cli/answers.py",
        ' or facts["model_dtype"] != "float32"',
        "",
        "cli/test_answers.py",
    ),
    Mutant(
        "answers: pictures with a palette are read as gray ones",
        "cli/answers.py",
        "is_plain = image.format == SUFFIXES[path.suffix.lower()] and image.mode in MODES",
        "is_plain = image.format == SUFFIXES[path.suffix.lower()]",
        "cli/test_answers.py",
    ),
    Mutant(
        "answers: the least probable class first",
        "cli/answers.py",
        "key=lambda place: -values[place]",
        "key=lambda place: values[place]",
        "cli/test_answers.py",
    ),
    Mutant(
        "tracking: W&B gets every epoch again",
        "tracking.py",
        "return _Open(run, path, last + 1 if run.offline else run.step)",
        "return _Open(run, path, 0)",
        "test_tracking.py",
    ),
    Mutant(
        "tracking: what was sent whole is sent again",
        "tracking.py",
        'if sent.get("digest") == digest:',
        "if False:",
        "test_tracking.py",
    ),
]


def _path_of(mutant: Mutant) -> pathlib.Path:
    return ROOT / mutant.file if mutant.file.startswith("tuning/") else ROOT / "keras_resnet" / mutant.file


def apply(mutant: Mutant) -> str:
    """Writes the fault and returns the original text."""
    path = _path_of(mutant)
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.before) != 1:
        raise SystemExit(f"{mutant.name}: {path} holds the text {text.count(mutant.before)} times, not once.")
    path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    return text


def is_found(mutant: Mutant, tier: str) -> bool:
    """Returns True if a test of the tier fails."""
    tests = [path for path in (f"tests/{name}" for name in mutant.tests.split()) if (ROOT / path).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", TIERS[tier], "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if done.returncode not in (0, TEST_FAILED, 2, NO_TESTS):  # 2: the fault stops the collection or the session
        raise SystemExit(f"{mutant.name}: pytest ended with {done.returncode}.\n{done.stdout[-2000:]}")
    return done.returncode in (TEST_FAILED, 2)


def main() -> int:
    """Runs the mutants and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of names; none for all")
    parser.add_argument("--tier", choices=[*TIERS, "both"], default="both")
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    parser.add_argument("--part", default="1/1", help="one of several parts, such as 2/2")
    options = parser.parse_args()
    number, count = map(int, options.part.split("/"))
    chosen = [mutant for mutant in MUTANTS if not options.words or any(word in mutant.name for word in options.words)]
    tiers = list(TIERS) if options.tier == "both" else [options.tier]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the file is restored
    rows = []
    for mutant in chosen[number - 1 :: count]:
        started, original = time.monotonic(), apply(mutant)
        try:
            found = next((tier for tier in tiers if is_found(mutant, tier)), None)
        finally:
            _path_of(mutant).write_text(original, encoding="utf-8")
        rows.append({"name": mutant.name, "found": found, "seconds": round(time.monotonic() - started)})
        print(f"{found or 'SURVIVED':<9}{rows[-1]['seconds']:>5} s  {mutant.name}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    survived = sum(row["found"] is None for row in rows)
    counts = [f"{sum(row['found'] == tier for row in rows)} by {tier}" for tier in tiers]
    print(f"{len(rows)} mutants: {', '.join(counts)}, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())

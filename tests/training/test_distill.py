"""Distillation: the term of the teacher against SciPy, what the teacher sees, and what a run keeps of it."""

import json
import shutil

import keras
import numpy as np
import pytest
from scipy.special import expit, rel_entr, softmax

pytest.importorskip("tensorflow")

from keras_resnet import models, preprocessing, training  # noqa: E402
from keras_resnet.training.distill import Teacher, attention_distance, divergence  # noqa: E402
from keras_resnet.training.state import state_variables  # noqa: E402
from tests.distribution import test_devices as several_devices  # noqa: E402
from tests.distribution import test_recipes as several_processes  # noqa: E402

SMALL = {
    "model.width": 4,
    "train.epochs": 2,
    "train.batch_size": 64,
    "optimizer.weight_decay": 0.0,
    "loss.label_smoothing": 0.0,
}
RNG = np.random.default_rng(0)
LOGITS = [RNG.normal(size=(6, 3)).astype("float32") * 3 for _ in range(2)]


def taught(teacher, **overrides):
    words = {**SMALL, "distill.teacher": str(teacher), **overrides}
    return training.resolve("quick", model="resnet10", overrides=words)


def test_the_divergence_is_that_of_scipy():
    teacher, student = LOGITS
    for temperature in (1.0, 4.0):
        soft = rel_entr(softmax(teacher / temperature, axis=1), softmax(student / temperature, axis=1)).sum(axis=1)
        found = divergence(*LOGITS, "softmax", temperature)
        np.testing.assert_allclose(found, soft * temperature**2, rtol=1e-4)
        parts = [rel_entr(expit(sign * teacher / temperature), expit(sign * student / temperature)) for sign in (1, -1)]
        found = divergence(*LOGITS, "sigmoid", temperature)
        np.testing.assert_allclose(found, np.mean(sum(parts), axis=1) * temperature**2, rtol=1e-4)
    np.testing.assert_allclose(divergence(*LOGITS, None), ((teacher - student) ** 2).mean(axis=1), rtol=1e-6)


def test_attention_maps_are_compared_whatever_the_widths():
    teacher, student = RNG.normal(size=(2, 4, 4, 5)), RNG.normal(size=(2, 4, 4, 3))
    rows = [(part**2).mean(axis=-1).reshape(2, -1) for part in (teacher, student)]
    rows = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows]
    expected = ((rows[0] - rows[1]) ** 2).sum(axis=1)
    np.testing.assert_allclose(attention_distance([teacher] * 2, [student] * 2), expected, rtol=1e-5)
    assert float(np.max(attention_distance([3 * teacher], [teacher]))) < 1e-12


def test_a_student_that_answers_as_its_teacher_has_no_gradient(digits_run):
    import tensorflow as tf

    experiment = taught(digits_run.path)
    network = experiment.build_model()
    network.compile(**experiment.compile_args())
    images, labels, *_ = next(iter(experiment.training_batches()))
    outputs = tf.constant(digits_run.model(images, training=False))
    gradients = []
    for answers in (outputs, outputs[:, ::-1]):
        with tf.GradientTape() as tape:
            tape.watch(answers)
            loss = network.compute_loss(images, labels, answers, None, training=True)
        gradients.append(np.abs(tape.gradient(loss, answers).numpy()).max())
    assert gradients[0] < 1e-7 < 1e-3 < gradients[1]
    # The validation loss is that of the labels.
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, outputs)
    assert float(network.compute_loss(images, labels, outputs, None, training=False)) == pytest.approx(float(plain))


def test_labels_weights_and_penalties_keep_their_part(digits_run):
    experiment = taught(digits_run.path, **{"distill.alpha": 0.25, "distill.temperature": 2.0, "model.l2": 0.01})
    network = experiment.build_model()
    network.compile(**experiment.compile_args())
    images, labels, *_ = next(iter(experiment.training_batches()))
    weights = np.linspace(0, 2, len(labels)).astype("float32")
    student = np.asarray(network(images, training=False))
    teacher = np.asarray(digits_run.model(images, training=False))
    apart = rel_entr(softmax(teacher / 2, axis=1), softmax(student / 2, axis=1)).sum(axis=1) * 4
    of_labels = -np.log(softmax(student, axis=1)[np.arange(len(labels)), labels])
    penalty = 0.01 * sum(
        float((v**2).sum()) for v in map(np.asarray, network.trainable_variables) if v.ndim > 1 and v.shape[-1] > 0
    )
    assert float(sum(network.losses)) == pytest.approx(penalty, rel=1e-4)
    expected = np.mean(weights * (0.25 * apart + 0.75 * of_labels)) + penalty
    found = network.compute_loss(images, labels, student, weights, training=True)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("where", ["host", "device"])
def test_the_teacher_sees_the_very_images_of_the_step(digits_run, where):
    seen = []

    class Watched(keras.Model):
        def call(self, inputs, training=None, mask=None):
            seen.append(np.asarray(inputs))
            return super().call(inputs, training=training, mask=mask)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            seen.append(np.asarray(x))
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    changes = {"augment.mixup": 0.5, "augment.erasing": 0.5, "augment.augment_on": where}
    experiment = taught(digits_run.path, **changes)
    network = experiment.build_model(Watched)
    network.compile(**experiment.compile_args(), run_eagerly=True)
    network.fit(experiment.training_batches(), steps_per_epoch=2, verbose=0, shuffle=False)
    assert len(seen) == 4 and all(np.array_equal(*pair) for pair in zip(seen[::2], seen[1::2], strict=True))
    assert not np.array_equal(seen[0], seen[2])
    assert any(len(np.unique(image)) > 17 for image in seen[0])  # mixed: the digits have 17 shades


def test_the_teacher_is_no_part_of_the_network_or_its_state(digits_run):
    plain = training.resolve("quick", model="resnet10", overrides=SMALL)
    networks = [experiment.build_model() for experiment in (plain, taught(digits_run.path))]
    for network, experiment in zip(networks, (plain, taught(digits_run.path)), strict=True):
        network.compile(**experiment.compile_args())
        network.fit(experiment.training_batches(), steps_per_epoch=1, verbose=0, shuffle=False)
    rows = [[(variable.path, tuple(variable.shape)) for variable in state_variables(network)] for network in networks]
    assert [shape for _, shape in rows[0]] == [shape for _, shape in rows[1]]


def test_classes_are_matched_by_name(tmp_path):
    images = RNG.integers(0, 256, (40, 8, 8, 1)).astype("uint8")
    orders = {"teacher": ["ant", "bee", "cat"], "student": ["cat", "ant"]}
    inputs = keras.Input((8, 8, 1))
    pixels = preprocessing.InputNormalization("unit")(inputs)
    settings = {"stem": "small", "width": 4, "classes": 3, "classifier_activation": None}
    whole = models.build("resnet10", input_tensor=pixels, **settings)
    preprocessing.describe_outputs(whole, class_names=orders["teacher"], task="classification")
    whole.save(tmp_path / "teacher.keras")
    teacher = Teacher.open(str(tmp_path / "teacher.keras"))
    outputs = np.asarray(teacher.model(images.astype("float32")))
    np.testing.assert_array_equal(teacher.logits(outputs, orders["student"]), outputs[:, [2, 0]])
    np.testing.assert_array_equal(teacher.logits(outputs, orders["teacher"]), outputs)
    probabilities = keras.Model(whole.input, keras.layers.Softmax()(whole.outputs[0]))
    preprocessing.describe_outputs(probabilities, class_names=orders["teacher"], task="classification")
    soft = Teacher(probabilities, preprocessing.for_model(probabilities), "", "")
    np.testing.assert_allclose(
        softmax(
            np.asarray(soft.logits(np.asarray(probabilities(images.astype("float32"))), orders["student"])), axis=1
        ),
        softmax(outputs[:, [2, 0]], axis=1),
        rtol=1e-4,
    )


def test_images_become_what_the_teacher_takes(digits_run):
    teacher = Teacher.open(str(digits_run.path))
    images = RNG.uniform(size=(2, 8, 8, 1)).astype("float32")
    record = preprocessing.InputRecord(channel_order="grey", pixel_range=(0.0, 1.0))
    np.testing.assert_allclose(teacher.convert(images, record), images * 255, rtol=1e-6)
    enlarged = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2) * 255
    found = teacher.convert(enlarged, preprocessing.InputRecord(channel_order="grey"))
    assert tuple(found.shape) == (2, 8, 8, 1)
    np.testing.assert_allclose(np.mean(found), np.mean(enlarged), rtol=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"distill.teacher": "nowhere"}, "distill.teacher='nowhere' holds no model"),
        ({"distill.teacher": "resnet18:cifar10"}, "takes 3 channels, and the data have 1"),
        ({"loss.name": "sigmoid_cross_entropy"}, "gives softmax, and the loss of the student sigmoid"),
        ({"distill.kind": "features"}, "teaches the last layer nothing"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(digits_run, words, message):
    with pytest.raises(ValueError, match=message):
        taught(digits_run.path, **words)


def test_fields_without_a_teacher_have_no_effect_and_are_refused():
    for name, value in {"alpha": 0.5, "kind": "features", "temperature": 4.0}.items():
        with pytest.raises(ValueError, match=f"distill.{name} has no effect without distill.teacher"):
            training.Recipe().replace({f"distill.{name}": value})


def weights_of(run):
    return keras.saving.load_model(run.path / "final.keras").get_weights()


def fitted(out, teacher, **words):
    overrides = {**SMALL, "distill.teacher": str(teacher), "distill.alpha": 0.5, **words.pop("overrides", {})}
    return training.fit("quick", model="resnet10", out=out, overrides=overrides, verbose=0, score=(), **words)


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_bits_and_the_same_teacher_alone(digits_run, tmp_path):
    teacher = shutil.copytree(digits_run.path, tmp_path / "teacher")
    whole = fitted(tmp_path / "whole", teacher)
    fitted(tmp_path / "run", teacher, report=lambda epoch, figures: epoch == 1)
    moved = shutil.move(teacher, tmp_path / "moved")
    again = fitted(tmp_path / "run", moved, resume=True)
    assert all(np.array_equal(*pair) for pair in zip(weights_of(whole), weights_of(again), strict=True))
    written = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert len(written["teacher_sha256"]) == 64
    fitted(tmp_path / "other", moved, report=lambda epoch, figures: epoch == 1)
    model = keras.saving.load_model(moved / "best.keras")
    model.set_weights([value * 1.01 for value in model.get_weights()])
    model.save(moved / "best.keras")
    with pytest.raises(ValueError, match="holds another run.*distill.teacher"):
        fitted(tmp_path / "other", moved, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        {"optimizer.accumulation": 2, "optimizer.ema_momentum": 0.9, "augment.mixup": 0.2},
        {"optimizer.sam_radius": 0.05, "train.precision": "mixed_bfloat16"},
        {"distill.kind": "features", "train.precision": "mixed_float16", "augment.augment_on": "device"},
        {"data.progressive_from": 0.5, "train.recompute": True},
    ],
)
def test_a_teacher_beside_every_other_part_of_a_step(digits_run, tmp_path, words):
    run = fitted(tmp_path / "run", digits_run.path, overrides=words)
    assert np.isfinite(run.history["loss"]).all() and run.history["val_loss"][-1] < run.history["val_loss"][0]
    alone = training.Run.load(tmp_path / "run").model
    assert alone.count_params() < 2 * digits_run.model.count_params()


@pytest.mark.slow
def test_multi_label_targets_and_values_have_teachers_too(tmp_path):
    images = RNG.integers(0, 256, (120, 8, 8, 1)).astype("uint8")
    tables = {
        "multilabel_cross_entropy": (RNG.integers(0, 2, (120, 3)), "multilabel"),
        "mean_squared_error": (RNG.normal(50, 9, 120).astype("float32"), "regression"),
    }
    for loss, (labels, task) in tables.items():
        np.savez(tmp_path / f"{task}.npz", x=images, y=labels)
        words = {"loss.name": loss, "model.width": 4, "train.epochs": 1, "train.batch_size": 16}
        common = {"model": "resnet10", "data": f"npz:{tmp_path}/{task}.npz", "verbose": 0, "score": ()}
        training.fit("quick", out=tmp_path / task, overrides=words, **common)
        words["distill.teacher"] = str(tmp_path / task)
        run = training.fit("quick", out=tmp_path / f"{task}-student", overrides=words, **common)
        assert np.isfinite(run.history["loss"]).all()


@pytest.mark.exhaustive
def test_devices_and_processes_give_the_run_of_one(digits_run, tmp_path):
    """Two processes and two devices, each compared with one: about two minutes, most of it importing TensorFlow."""
    words = {"distill.teacher": str(digits_run.path), "distill.alpha": 0.5, "train.epochs": 2, "augment.mixup": 0.2}
    (alone,) = several_processes.train(1, tmp_path / "alone", words)
    several_processes.check_equal(alone, several_processes.train(2, tmp_path / "processes", words))
    devices, _ = several_devices.train(tmp_path / "devices", words, "mirrored", 2)
    several_devices.check_equal(alone, devices)

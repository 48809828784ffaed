"""Searches and trainings on a Ray cluster of two nodes on this machine, one of which dies.

A cluster of two nodes starts, loses one and starts a process again, beside what one machine finds: up to two minutes.
"""

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training, tuning  # noqa: E402
from keras_resnet.tuning import ray_engine  # noqa: E402
from tests.distribution.test_recipes import SMALL  # noqa: E402

# The nodes and what starts on them are told apart from those of a user by a process of their own.
SCRIPT = """
import pathlib, subprocess, sys, time
from ray.cluster_utils import Cluster

words, wanted = sys.argv[2:], [pathlib.Path(path) for path in sys.argv[1].split(":") if path]
cluster = Cluster()
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
process = subprocess.Popen(
    [sys.executable, "-P", "-m", "keras_resnet", *words, "--engine", "ray", "--address", cluster.address]
)
last = time.monotonic() + 400
while wanted and process.poll() is None and time.monotonic() < last and not all(any(path.glob("*")) for path in wanted):
    time.sleep(0.2)
if wanted:
    print("one node dies", flush=True)
    cluster.remove_node(nodes[1], allow_graceful=False)
    cluster.add_node(num_cpus=1)
status = process.wait()
cluster.shutdown()
sys.exit(status)
"""
RAY = {"RAY_worker_niceness": "0", "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}


def started_on_ray(*words, kill_after=()):
    """What a command prints that runs on two nodes, one of which dies once these folders have something in them."""
    pytest.importorskip("ray")
    environment = {**os.environ, **RAY, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {name: value for name, value in environment.items() if name != "TF_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, ":".join(map(str, kill_after)), *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.exhaustive
def test_a_search_loses_a_node_and_finds_what_one_machine_finds(tmp_path):
    out = tmp_path / "there"
    words = [
        "--trials",
        "2",
        "--workers",
        "2",
        "--epochs",
        "6",
        "--set",
        "model.width=4",
        "--set",
        "train.save_every=5",
    ]
    words += ["--set", "data.validation_fraction=0.3"]
    states = [out / "trials" / trial / "last" for trial in ("0", "1")]
    told = started_on_ray("tune", "--out", out, *words, kill_after=states)
    found = tuning.Search.load(out)
    assert "one node dies" in told and [trial.status for trial in found.trials] == ["complete"] * 2
    logs = "".join(path.read_text() for path in (out / "workers").glob("*.log"))
    assert "lost its node" in logs
    here = tuning.search(
        trials=2,
        epochs=6,
        out=tmp_path / "here",
        overrides={"model.width": 4, "train.save_every": "5", "data.validation_fraction": 0.3},
        verbose=False,
    )
    assert [trial.values for trial in found.trials] == [trial.values for trial in here.trials]
    for there, alone in zip(found.trials, here.trials, strict=True):
        assert there.curve == pytest.approx(alone.curve, abs=0.02)  # other threads, other last bits
    assert found.metrics["accuracy"] == pytest.approx(here.metrics["accuracy"], abs=0.03)
    assert (out / "best.toml").exists()


@pytest.mark.exhaustive
def test_a_training_loses_a_node_and_goes_on(tmp_path):
    out = tmp_path / "run"
    sets = [f"--set={name}={str(value).lower()}" for name, value in SMALL.items()]
    told = started_on_ray(
        "train", "--workers", "2", "--out", out, *sets, "--set=train.save_every=5", kill_after=[out / "last"]
    )
    assert "begins again from its last state" in told
    run = training.Run.load(out)
    alone = training.fit("quick", out=tmp_path / "alone", overrides=SMALL, verbose=0)
    assert run.file.status == "complete"
    assert run.history["val_loss"] == pytest.approx(alone.history["val_loss"], rel=1e-2)


def test_files_of_a_run_travel_whole_and_stay_in_their_folder(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    for name in ("run.json", "history.csv", "best.keras", ".lock", "last/000005", "last/000010"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(name)
    contents = ray_engine.read_files(there, whole=True)
    assert ".lock" not in contents
    ray_engine.write_files(here, contents)
    assert {name: (here / name).read_bytes() for name in contents} == contents
    assert ray_engine.read_files(tmp_path / "missing", whole=False) == {}
    with pytest.raises(ValueError, match=r"'\.\./run\.json'"):
        ray_engine.write_files(here, {"../run.json": b""})
    assert not (tmp_path / "run.json").exists()


@pytest.mark.slow
def test_a_cluster_is_named_only_where_one_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match="given without engine='ray'"):
        tuning.search(out=tmp_path / "search", address="127.0.0.1:6379")
    assert not (tmp_path / "search").exists()
    for words in (["--workers", "2"], ["--address", "127.0.0.1:6379"]):
        done = subprocess.run(
            [sys.executable, "-m", "keras_resnet", "train", "--out", str(tmp_path / "run"), *words],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and "without --engine ray" in done.stderr
    assert not list(pathlib.Path(tmp_path).iterdir())


def test_what_no_node_has_is_refused(monkeypatch):
    from keras_resnet.distribution import launch

    class Nodes:
        @staticmethod
        def nodes():
            return [
                {"Alive": True, "Resources": {"CPU": 4.0}},
                {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
            ]

    launch.check_resources(Nodes, 4, 0)
    with pytest.raises(ValueError, match="asks for 8 CPUs and 0 GPUs, and no node.* 4 CPUs and 0 GPUs"):
        launch.check_resources(Nodes, 8, 0)
    assert launch._shares(Nodes, 2) == (2, 0) and launch._shares(Nodes, 3) == (1, 0)
    with pytest.raises(ValueError, match="--workers 5 asks for a core each"):
        launch._shares(Nodes, 5)


def test_signs_of_a_trial_and_its_states_reach_its_keeper(tmp_path):
    keeper = ray_engine.Keeper()
    assert keeper.look(0) == (False, 0, 0.0, 0, None)
    keeper.begin()
    keeper.beat(0.5)
    keeper.keep({"run.json": b"{}"})
    assert keeper.look(0) == (True, 1, 0.5, 1, {"run.json": b"{}"}) and keeper.look(1).contents is None

"""The batch scripts of examples/slurm under a real Slurm of one machine: its daemons, srun, signals and the queue."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("tensorflow")

from keras_resnet import training, tuning  # noqa: E402
from keras_resnet.distribution.launch import free_ports  # noqa: E402
from keras_resnet.training.state import newest_first  # noqa: E402
from tests.distribution.processes import ROOT  # noqa: E402
from tests.distribution.test_recipes import SMALL  # noqa: E402

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
EPOCHS = 40  # Slurm looks at its clocks each half minute
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not all(map(shutil.which, DAEMONS)), reason="Slurm is not installed (slurmctld, slurmd, munge)"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="Slurm's daemons run as root"),
]


def wait_until(is_so, seconds=900, told=lambda: ""):
    last = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < last, f"it did not come about; {told()}"
        time.sleep(0.2)


@pytest.fixture
def slurm(tmp_path):
    """A function that calls a command of Slurm and returns what it prints."""
    folder, host = tmp_path / "slurm", socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, folder=folder, ports=free_ports(2)))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(config), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    environment = {name: value for name, value in environment.items() if name != "TF_CONFIG"}
    named = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
    named |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    key = [f"--{option}={folder / name}" for option, name in named.items()]
    daemons = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in (
            ["munged", "--foreground", "--force", *key],
            ["slurmctld", "-D", "-f", str(config)],
            ["slurmd", "-D", "-f", str(config)],
        )
    ]

    def call(*command):
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command} fails: {done.stderr}"
        return done.stdout.strip()

    def is_idle():
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        return done.stdout.strip() == "idle"

    try:
        wait_until(is_idle, 120)
        yield call
    finally:
        call("scancel", "--user=root", "--signal=KILL", "--full")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def state_of(slurm, job):
    return slurm("squeue", "-h", "-j", job, "-o", "%T")


def used_minutes(slurm, job):
    *hours, minutes, _ = map(int, slurm("squeue", "-h", "-j", job, "-o", "%M").split(":"))
    return 60 * sum(hours) + minutes


def test_a_training_goes_on_after_a_warning_and_an_array_of_jobs_searches_together(slurm, tmp_path):
    # One test: slurmd ends another one of the same node.
    check_training(slurm, tmp_path)
    check_search(slurm, tmp_path)


def check_training(slurm, tmp_path):
    sets = [f"--set={name}={str(value).lower()}" for name, value in SMALL.items()]
    out, script = tmp_path / "run", str(ROOT / "examples" / "slurm" / "train.sh")
    log = pathlib.Path(tmp_path / "job.log")
    sets += [f"--set=train.epochs={EPOCHS}", "--set=train.save_every=5"]
    job = slurm("sbatch", "--parsable", "-n2", "--time=60", f"-o{log}", script, *sets, f"--out={out}")

    def told():
        logs = [log, *(tmp_path / "slurm").glob("slurm*.log")]
        return "\n".join(
            [slurm("squeue"), slurm("sinfo"), *(path.read_text()[-3000:] for path in logs if path.exists())]
        )

    wait_until(lambda: (out / "last").is_dir() and newest_first(out / "last"), told=told)
    # The script asks for a warning three minutes before the end; from now on fewer are left.
    slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={used_minutes(slurm, job) + 3}")
    wait_until(lambda: state_of(slurm, job) == "PENDING", told=told)
    assert "Interrupted after" in log.read_text() and "by Slurm's job" in log.read_text()
    stopped = training.Run.load(out)
    assert stopped.file.status == "running"
    # By itself Slurm waits for two minutes. In the second in which a job was taken back its node refuses it.
    time.sleep(3)
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=60")
    wait_until(lambda: training.Run.load(out).file.status == "complete", told=told)
    run = training.Run.load(out)
    alone = training.fit("quick", out=tmp_path / "alone", overrides={**SMALL, "train.epochs": EPOCHS}, verbose=0)
    assert run.history["val_loss"] == pytest.approx(alone.history["val_loss"], rel=1e-2)


def check_search(slurm, tmp_path):
    out, script = tmp_path / "search", str(ROOT / "examples" / "slurm" / "search.sh")
    words = ["--set=model.width=4", "--set=train.batch_size=64", "--epochs=2", "--trials=4", f"--out={out}"]
    job = slurm("sbatch", "--parsable", "--array=0-1", f"-o{tmp_path}/%a.log", script, *words)
    assert job
    wait_until(lambda: (out / "search.json").exists() and tuning.Search.load(out).metrics is not None, 600)
    found = tuning.Search.load(out)
    assert [trial.status for trial in found.trials] == ["complete"] * 4
    assert {trial.worker for trial in found.trials} <= {"worker-1", "job-1-1"}
    assert "4 trials" in (tmp_path / "0.log").read_text()

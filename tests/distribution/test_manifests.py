"""The manifest for Kubernetes: its schema, and what its script tells each pod."""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

pytest.importorskip("tensorflow")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")

from keras_resnet import distribution  # noqa: E402
from keras_resnet.cli.options import parse  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "kubernetes"
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "train.yaml").read_text("utf-8")))


def test_the_manifest_is_what_kubernetes_takes():
    assert [document["kind"] for document in DOCUMENTS] == ["Service", "Job"]
    for document in DOCUMENTS:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    broken = json.loads(json.dumps(DOCUMENTS[1]).replace("completionMode", "completionmode"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_pods_of_the_ray_job_are_what_kubernetes_takes_and_its_command_is_ours():
    job = yaml.safe_load((FOLDER / "ray.yaml").read_text("utf-8"))
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    (workers,) = cluster["workerGroupSpecs"]
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    words = shlex.split(job["spec"]["entrypoint"])
    options = parse(words[1:])
    assert words[0] == "keras-resnet" and options.command == "tune" and options.engine == "ray"
    settings = dict(word.split("=") for word in options.set)
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert settings["search.trial_gpus"] == str(limits["nvidia.com/gpu"])
    assert settings["search.trial_cpus"] == limits["cpu"] and options.workers == workers["replicas"]


@pytest.mark.parametrize("index", [0, 3])
def test_each_pod_finds_the_others(tmp_path, monkeypatch, index):
    service, job = DOCUMENTS
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (tmp_path / "keras-resnet").write_text('#!/bin/sh\necho "$TF_CONFIG"\n')
    (tmp_path / "keras-resnet").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
    told = subprocess.run([*container["command"], *container["args"]], env=environment, capture_output=True, text=True)
    monkeypatch.setenv("TF_CONFIG", told.stdout)
    peers = distribution.find_peers()
    name, subdomain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert subdomain == service["metadata"]["name"] and service["spec"]["selector"] == {"job-name": name}
    # The name of a pod of an indexed Job, in the domain of its Service.
    assert peers.addresses == tuple(f"{name}-{number}.{subdomain}:2222" for number in range(4))
    assert peers.index == index and peers.count == job["spec"]["completions"] == job["spec"]["parallelism"]

"""The manifests for Kubernetes and KubeRay: their schemas, and what a script tells each pod."""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

pytest.importorskip("tensorflow")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

from keras_resnet import distribution  # noqa: E402
from keras_resnet.cli.options import parse  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "kubernetes"
WHOLE, WORDS = {"type": "integer"}, {"type": "object", "additionalProperties": {"type": "string"}}
# Fields, and which of them must be there, of KubeRay's RayJobSpec, RayClusterSpec, HeadGroupSpec and WorkerGroupSpec:
# github.com/ray-project/kuberay, ray-operator/apis/ray/v1. Templates of pods are Kubernetes's.
RAY_JOB = {
    "entrypoint": {"type": "string"},
    "runtimeEnvYAML": {"type": "string"},
    "jobId": {"type": "string"},
    "metadata": WORDS,
    "clusterSelector": WORDS,
    "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    "entrypointResources": {"type": "string"},
    "entrypointNumCpus": {"type": "number"},
    "entrypointNumGpus": {"type": "number"},
    "activeDeadlineSeconds": WHOLE,
    "backoffLimit": WHOLE,
    "ttlSecondsAfterFinished": WHOLE,
    "shutdownAfterJobFinishes": {"type": "boolean"},
    "suspend": {"type": "boolean"},
    "submitterPodTemplate": {"type": "object"},
}
GROUP = {"rayStartParams": WORDS, "template": {"type": "object", "required": ["spec"]}}
HEAD = {**GROUP, "serviceType": {"type": "string"}, "headService": {"type": "object"}}
HEAD |= {"enableIngress": {"type": "boolean"}}
WORKERS = {**GROUP, "groupName": {"type": "string"}, "replicas": WHOLE, "minReplicas": WHOLE, "maxReplicas": WHOLE}
WORKERS |= {"numOfHosts": WHOLE, "scaleStrategy": {"type": "object"}}
CLUSTER = {
    "headGroupSpec": {},
    "workerGroupSpecs": {"type": "array"},
    "rayVersion": {"type": "string"},
    "enableInTreeAutoscaling": {"type": "boolean"},
    "autoscalerOptions": {"type": "object"},
    "headServiceAnnotations": WORDS,
    "suspend": {"type": "boolean"},
}
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "train.yaml").read_text("utf-8")))


def test_the_manifest_is_what_kubernetes_takes():
    assert [document["kind"] for document in DOCUMENTS] == ["Service", "Job"]
    for document in DOCUMENTS:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    broken = json.loads(json.dumps(DOCUMENTS[1]).replace("completionMode", "completionmode"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def check_fields(found, fields, *required):
    schema = {"type": "object", "properties": fields, "additionalProperties": False, "required": list(required)}
    jsonschema.validate(found, schema)


def check_ray_job(job):
    spec = job["spec"]
    check_fields(spec, {**RAY_JOB, "rayClusterSpec": {}})
    check_fields(spec["rayClusterSpec"], CLUSTER, "headGroupSpec")
    check_fields(spec["rayClusterSpec"]["headGroupSpec"], HEAD, *GROUP)
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        check_fields(group, WORKERS, *GROUP, "groupName", "minReplicas", "maxReplicas")


def test_the_ray_job_has_the_fields_of_kuberay():
    text = (FOLDER / "ray.yaml").read_text("utf-8")
    check_ray_job(yaml.safe_load(text))
    for right, wrong in (
        ("backoffLimit: 3", "backoffLimits: 3"),
        ('rayVersion: "2.60.0"', "rayVersion: 2.6"),
        ('num-cpus: "0"', "num-cpus: 0"),
        ("maxReplicas: 4", "# maxReplicas"),
        ("groupName: trials", "name: trials"),
    ):
        assert right in text
        with pytest.raises(jsonschema.ValidationError):
            check_ray_job(yaml.safe_load(text.replace(right, wrong)))


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

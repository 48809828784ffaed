import ipaddress
import json

import pytest

from keras_resnet import distribution
from keras_resnet.distribution import peers
from keras_resnet.distribution.peers import expand_nodes

CLUSTER = {"worker": ["a:1", "b:2"]}


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def test_a_list_tf_config_and_slurm_name_the_same_peers(monkeypatch):
    given = distribution.find_peers(["a:1", "b:2"], 1)
    assert (given.count, given.is_first, str(given)) == (2, False, "process 2 of 2 at b:2, by the list of addresses")
    monkeypatch.setenv("TF_CONFIG", given.tf_config())
    found = distribution.find_peers()
    assert (found.addresses, found.index, found.source) == (given.addresses, 1, "TF_CONFIG")
    chief = {"cluster": {"chief": ["c:9"], **CLUSTER}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(chief))
    assert (distribution.find_peers().addresses, distribution.find_peers().index) == (("c:9", "a:1", "b:2"), 2)
    monkeypatch.delenv("TF_CONFIG")
    slurm = {"PROCID": "3", "STEP_NODELIST": "gpu[01-02],big", "STEP_TASKS_PER_NODE": "2(x2),1", "JOB_ID": "301"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = distribution.find_peers()
    assert found.addresses == ("gpu01:20064", "gpu01:20065", "gpu02:20064", "gpu02:20065", "big:20064")
    assert found.addresses[found.index] == "gpu02:20065" and "Slurm's job 301" in str(found)


# What Slurm's own `scontrol show hostnames` prints for these lists.
@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("a[08-10],b", ["a08", "a09", "a10", "b"]),
        ("x[1,3-4]-ib", ["x1-ib", "x3-ib", "x4-ib"]),
        ("r1,r2", ["r1", "r2"]),
    ],
)
def test_the_nodes_of_slurm(text, nodes):
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("a:1", 0), TypeError, "not a list of strings"),
        ((["a"], 0), ValueError, "a host and a port"),
        ((["a:0"], 0), ValueError, "a host and a port"),
        ((["a:99999"], 0), ValueError, "a host and a port"),
        ((["a:1", "a:1"], 0), ValueError, "names a process twice"),
        (([], 0), ValueError, "is empty"),
        ((["a:1"], 1), ValueError, "index must be an int from 0 to 0"),
        ((["a:1"],), ValueError, "without index"),
        ((None, 0), ValueError, "without addresses"),
        ((), ValueError, "Nothing names the processes"),
    ],
    ids=str,
)
def test_a_mistake_is_told(words, error, message):
    with pytest.raises(error, match=message):
        distribution.find_peers(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "cannot be read"),
        ("[" * 60_000, "TF_CONFIG='\\[\\[.{0,200}cannot be read.*recursion"),
        ('{"cluster": {"worker": [["a:1"]]}, "task": {"type": "worker", "index": 0}}', "are not strings"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "calls this process 'ps'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 4}}', "index must be"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', "TF_CONFIG holds 'a'"),
    ],
)
def test_a_variable_that_cannot_be_read_is_told(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        distribution.find_peers()


@pytest.mark.parametrize(
    ("address", "is_public"), [("10.1.2.3", False), ("127.0.0.1", False), ("8.8.8.8", True), (None, False)]
)
def test_an_open_server_on_a_public_address_takes_consent(monkeypatch, capsys, address, is_public):
    monkeypatch.setattr(peers, "own_address", lambda: address)
    if is_public:
        with pytest.raises(ValueError, match="public address 8.8.8.8.*KERAS_RESNET_TRUST_NETWORK=1"):
            peers.announce_open_server()
        monkeypatch.setenv("KERAS_RESNET_TRUST_NETWORK", "1")
    peers.announce_open_server()
    assert "without a password" in capsys.readouterr().out


def test_the_address_of_this_machine_is_one():
    found = peers.own_address()
    assert found is None or ipaddress.ip_address(found)

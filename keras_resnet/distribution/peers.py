"""The processes that train one model together: from a list, `TF_CONFIG`, or the variables that Slurm sets."""

import dataclasses
import ipaddress
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence

from keras_resnet.arguments import check_int
from keras_resnet.errors import BadType, BadValue

# Slurm gives no ports. A job takes its own, so that two jobs on a node do not meet.
FIRST_PORT, PORTS, MAX_TASKS = 20_000, 300, 64
_ADDRESS = re.compile(r"[^\s:/]+:(\d{1,5})|\[[0-9a-fA-F:.]+\]:(\d{1,5})")


@dataclasses.dataclass(frozen=True)
class Peers:
    """The processes of a training.

    Attributes:
        addresses: "host:port" of each, the same list in every process.
        index: of this process, 0-based; the first one writes.
        source: where they were found, for a line of output.
    """

    addresses: tuple[str, ...]
    index: int
    source: str

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.addresses)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def tf_config(self) -> str:
        """Returns the value of the environment variable `TF_CONFIG`."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})

    def __str__(self) -> str:
        """Returns the line that says who trains."""
        return f"process {self.index + 1} of {self.count} at {self.addresses[self.index]}, by {self.source}"


# TensorFlow binds its server to every address of the machine, and offers no way to say which (2.21).
OPEN_SERVER = (
    "distribution: TensorFlow's server of each process listens on every address of its machine, without a password; "
    "whoever reaches its port can read and write files as you. Train on a network that you trust, or behind a firewall."
)


TRUST = "KERAS_RESNET_TRUST_NETWORK"


def announce_open_server() -> None:
    """Prints that TensorFlow's server is open, before it starts; on an address of the Internet it takes consent."""
    address = own_address()
    if address is not None and ipaddress.ip_address(address).is_global and os.environ.get(TRUST) != "1":
        raise BadValue(
            f"This machine has the public address {address}, and TensorFlow's server would listen there without a "
            f"password: whoever reaches it could read and write files as you. Put the machine behind a firewall, and "
            f"say so by {TRUST}=1."
        )
    print(OPEN_SERVER, flush=True)


def own_address() -> str | None:
    """Returns the address from which this machine would reach others; None where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737, for documentation; nothing is sent
        except OSError:
            return None
        return str(probe.getsockname()[0])


def find_peers(addresses: Sequence[str] | None = None, index: int | None = None) -> Peers:
    """Returns the processes of this training, without a word where the environment names them.

    Args:
        addresses: "host:port" of each, the same list in every process; None for what the environment says: `TF_CONFIG`,
            which Ray and Kubernetes' operators set, else the variables of a step of Slurm.
        index: of this process in the list; needed with one, and only then.

    Raises:
        TypeError, ValueError: the list, the index or a variable is not what is allowed, or nothing names them.
    """
    if addresses is not None:
        if isinstance(addresses, str) or not all(isinstance(address, str) for address in addresses):
            raise BadType(
                f"addresses={addresses!r} is not a list of strings. Expected something like 'host:2222'. Pass a list."
            )
        if index is None:
            raise BadValue("addresses were given without index. Allowed is the place of this process in them. Pass it.")
        return _checked(addresses, index, "addresses", "the list of addresses")
    if index is not None:
        raise BadValue(f"index={index!r} was given without addresses. It is a place in them. Pass both, or none.")
    if os.environ.get("TF_CONFIG"):
        return _of_tf_config(os.environ["TF_CONFIG"])
    if "SLURM_PROCID" in os.environ and "SLURM_STEP_NODELIST" in os.environ:
        return _of_slurm(os.environ)
    raise BadValue(
        "Nothing names the processes of this training. Allowed are a list of addresses with the index of this process, "
        "the variable TF_CONFIG, or a start by srun. Give one of them."
    )


def are_named() -> bool:
    """Returns whether the environment names the processes of a training."""
    return bool(os.environ.get("TF_CONFIG")) or {"SLURM_PROCID", "SLURM_STEP_NODELIST"} <= os.environ.keys()


def _checked(addresses: Sequence[str], index: int, argument: str, source: str) -> Peers:
    for address in addresses:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[1] or match[2]) < 2**16:
            raise BadValue(f"{argument} holds {address!r}. Allowed is a host and a port, as 'node1:2222'. Correct it.")
    if not addresses or len(set(addresses)) < len(addresses):
        raise BadValue(
            f"{argument}={list(addresses)!r} is empty or names a process twice. Allowed are different addresses. "
            "Correct the list."
        )
    return Peers(tuple(addresses), check_int("index", index, minimum=0, maximum=len(addresses) - 1), source)


def _of_tf_config(text: str) -> Peers:
    try:
        values = json.loads(text)
        cluster, task = values["cluster"], values["task"]
        # The first of the workers writes where no chief is named.
        addresses = [*cluster.get("chief", []), *cluster.get("worker", [])]
        offset = 0 if task["type"] == "chief" else len(cluster.get("chief", []))
        index, kind = offset + int(task["index"]), task["type"]
        if not all(isinstance(address, str) for address in addresses):
            raise TypeError(f"addresses {addresses!r} are not strings")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadValue(
            f"TF_CONFIG={text[:80]!r} cannot be read ({type(error).__name__}: {error}). Allowed is JSON with `cluster` "
            "and `task`. Correct it, or unset it for one process."
        ) from error
    if kind not in ("worker", "chief"):
        raise BadValue(f"TF_CONFIG calls this process {kind!r}. Allowed are 'worker' and 'chief'. Correct its task.")
    return _checked(addresses, index, "TF_CONFIG", "TF_CONFIG")


def _of_slurm(environment: Mapping[str, str]) -> Peers:
    try:
        nodes = expand_nodes(environment["SLURM_STEP_NODELIST"])
        tasks = _tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        index, job = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_JOB_ID", "0"))
    except (KeyError, ValueError) as error:
        raise BadValue(
            f"The variables of Slurm cannot be read ({type(error).__name__}: {error}). Allowed is a step of srun. "
            "Start with srun, or pass addresses and index."
        ) from error
    port = FIRST_PORT + job % PORTS * MAX_TASKS
    addresses = [f"{node}:{port + task}" for node, count in zip(nodes, tasks, strict=True) for task in range(count)]
    return _checked(addresses, index, "SLURM_STEP_NODELIST", f"Slurm's job {job}")


def expand_nodes(text: str) -> list[str]:
    """Returns the nodes of Slurm's compact list.

    Example:
        >>> from keras_resnet.distribution.peers import expand_nodes
        >>> expand_nodes("gpu[01-03,7],login")
        ['gpu01', 'gpu02', 'gpu03', 'gpu7', 'login']
    """
    nodes: list[str] = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)?", text):
        match = re.fullmatch(r"([^\[]*)\[([\d,\-]+)\]([^\[]*)", part)
        if match is None:
            nodes.append(part)
            continue
        for piece in match[2].split(","):
            first, _, last = piece.partition("-")
            numbers = range(int(first), int(last or first) + 1)
            nodes += [f"{match[1]}{number:0{len(first)}d}{match[3]}" for number in numbers]
    return nodes


def _tasks_per_node(text: str) -> list[int]:
    """Returns how many tasks each node has, from Slurm's "2(x3),1"."""
    counts: list[int] = []
    for part in text.split(","):
        count, _, times = part.removesuffix(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    return counts

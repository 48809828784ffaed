"""Two hosts on this machine: network namespaces with a cable between them, which can be cut or slow."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

# Its address, and the words before a command that runs there.
Host = tuple[str, list[str]]
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def why_not() -> str:
    """Returns why there can be no such hosts here; nothing where there can."""
    if not shutil.which("ip"):
        return "the command ip is missing"
    try:
        with two_hosts():
            return ""
    except OSError as error:
        return f"no hosts can be made: {error}"


class Cable:
    """What is between the hosts.

    Args:
        names: of the namespaces.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def cut(self) -> None:
        """Lets nothing pass."""
        _run("ip", "-n", self.names[0], "link", "set", "cable", "down")

    def mend(self) -> None:
        """Lets everything pass again."""
        _run("ip", "-n", self.names[0], "link", "set", "cable", "up")

    def limit(self, rate: str) -> None:
        """Lets no more than so much pass each way.

        Args:
            rate: such as "1gbit".
        """
        for name in self.names:
            queue = ("root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")
            _run("tc", "-n", name, "qdisc", "replace", "dev", "cable", *queue)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[list[Host], Cable]]:
    """Gives the hosts and their cable.

    Raises:
        OSError: they cannot be made; this takes Linux and root.
    """
    names = [f"keras-resnet-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            _run("ip", "netns", "add", name)
        ends = ("type", "veth", "peer", "name", "cable", "netns", names[1])
        _run("ip", "link", "add", "cable", "netns", names[0], *ends)
        for name, address in zip(names, ADDRESSES, strict=True):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _run("ip", "-n", name, "link", "set", "cable", "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
        hosts = [(address, ["ip", "netns", "exec", name]) for name, address in zip(names, ADDRESSES, strict=True)]
        yield hosts, Cable(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

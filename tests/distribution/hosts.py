"""Two hosts on this machine: network namespaces with a cable between them, which can be cut or slow."""

import contextlib
import os
import shutil
import subprocess

ADDRESSES = ("10.77.0.1", "10.77.0.2")


def _ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def why_not():
    """Why there can be no such hosts here; nothing where there can."""
    if not shutil.which("ip"):
        return "the command ip is missing"
    name = f"keras-resnet-{os.getpid()}"
    done = _ip("netns", "add", name)
    _ip("netns", "delete", name)
    return f"no network namespace can be made: {done.stderr.strip()}" if done.returncode else ""


class Cable:
    """What is between the hosts."""

    def __init__(self, names):
        self.names = names

    def cut(self):
        self._set("down")

    def mend(self):
        self._set("up")

    def _set(self, state):
        done = _ip("-n", self.names[0], "link", "set", "cable", state)
        assert done.returncode == 0, done.stderr

    def limit(self, rate):
        """Lets no more than so much pass, such as "1gbit"."""
        for name in self.names:
            queue = ("qdisc", "replace", "dev", "cable", "root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms")
            subprocess.run(["tc", "-n", name, *queue], check=True)


@contextlib.contextmanager
def two_hosts():
    """Gives `(address, words before a command that runs there)` of each host, and their cable."""
    names = [f"keras-resnet-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        for name in names:
            done = _ip("netns", "add", name)
            assert done.returncode == 0, done.stderr
        ends = ("type", "veth", "peer", "name", "cable", "netns", names[1])
        for words in (
            ("link", "add", "cable", "netns", names[0], *ends),
            *(
                command
                for name, address in zip(names, ADDRESSES, strict=True)
                for command in (
                    ("-n", name, "address", "add", f"{address}/24", "dev", "cable"),
                    ("-n", name, "link", "set", "cable", "up"),
                    ("-n", name, "link", "set", "lo", "up"),
                )
            ),
        ):
            done = _ip(*words)
            assert done.returncode == 0, (words, done.stderr)
        hosts = [(address, ["ip", "netns", "exec", name]) for name, address in zip(names, ADDRESSES, strict=True)]
        yield hosts, Cable(names)
    finally:
        for name in names:
            _ip("netns", "delete", name)

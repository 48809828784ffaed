"""Files of weights from their publishers into a cache: checked, resumed, one at a time, whole or not at all."""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from keras_resnet import files
from keras_resnet.errors import BadValue, require

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 1.0  # doubled after every attempt that failed
TIMEOUT_SECONDS = 30.0  # without a byte
SLOWEST_BYTES, SLOWEST_SECONDS = 20_000, 60.0  # fewer bytes in so long a time count as a connection that stands still
CHUNK_BYTES = 1 << 20
LOCK_SECONDS = 3600.0
OFFLINE = ("KERAS_RESNET_OFFLINE", "HF_HUB_OFFLINE")


class _Refused(Exception):
    """The server will not give the file, however often it is asked."""


class _Failed(OSError):
    """An attempt failed, and the next one may do better."""


def cache_folder() -> pathlib.Path:
    """Returns the folder of fetched weights: `$KERAS_RESNET_HOME/weights`, by default below the user's cache."""
    return files.cache_home() / "weights"


def is_offline() -> bool:
    """Returns whether the environment forbids connections."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE)


def mirrored(url: str) -> str:
    """Returns the URL at the mirror that `KERAS_RESNET_MIRROR` names: its prefix, then host and path."""
    mirror = os.environ.get("KERAS_RESNET_MIRROR")
    parts = urllib.parse.urlsplit(url)
    return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}" if mirror else url


def fetch(url: str, path: pathlib.Path, digest: str = "", license: str = "") -> pathlib.Path:
    """Returns a file of the cache, downloaded where it is not there yet."""
    metadata_path = path.with_name(f"{path.name}.json")
    if path.is_file():
        check_whole(path, f"sha256 {known}" if (known := _known(metadata_path)) else digest)
        return path
    if is_offline():
        raise BadValue(
            f"{url} is not on this machine, and {' or '.join(OFFLINE)} forbids to fetch it. Allowed is a file at "
            f"{os.fspath(path)!r}. Put it there, or allow connections."
        )
    filelock = require("filelock", "A download")  # models on JAX and PyTorch need it for this alone
    from keras_resnet import locks

    files.make_writable(path.parent)
    try:
        with locks.acquire(path.with_name(f"{path.name}.lock"), LOCK_SECONDS):
            if not path.is_file():  # another process may have been quicker
                _download(mirrored(url), path, metadata_path, digest, license)
    except filelock.Timeout:
        raise BadValue(f"{os.fspath(path)!r} is being fetched by another process for an hour. Look for it.") from None
    return path


def _download(url: str, path: pathlib.Path, noted: pathlib.Path, digest: str, license: str) -> None:
    part, before = path.with_name(f"{path.name}.part"), _known(noted)
    if part.is_symlink() or not digest and not before:
        part.unlink(missing_ok=True)  # never through a link; and without a hash nothing says whose part it is
    print(f"Fetching {url}{f', licensed as {license}' if license else ''}", file=sys.stderr)
    failures: list[str] = []
    for attempt in range(ATTEMPTS):
        try:
            _receive(url, part)
            break
        except _Refused as error:
            raise BadValue(f"{url} cannot be fetched: {error}. Check the address, or a mirror that is set.") from None
        except OSError as error:  # of urllib too: refused, reset, cut, timed out
            failures.append(f"{type(error).__name__}: {error}")
            if attempt + 1 < ATTEMPTS:
                time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
    else:
        got = part.stat().st_size if part.exists() else 0
        raise BadValue(
            f"{url} could not be fetched in {ATTEMPTS} attempts; {got:,} bytes are kept, and the next call goes on "
            f"from there. The last failure was {failures[-1]}. Check the connection, or set KERAS_RESNET_MIRROR."
        )
    sha256 = _hash(part, "sha256")
    expected = digest or (f"sha256 {before}" if before else "")
    size = part.stat().st_size
    if not size or not _agrees(part, sha256, expected):
        part.unlink()
        raise BadValue(
            f"{url} gave {size:,} bytes whose sha256 is {sha256}, and {expected or 'more'} was published. The file is "
            "not the one that was meant, and was removed. Try again, or another source."
        )
    files.write_text(noted, json.dumps({"url": url, "sha256": sha256, "bytes": size}) + "\n")
    os.replace(part, path)


def _receive(url: str, part: pathlib.Path) -> None:
    """Receives the rest of a file, from its beginning where the server does not know ranges."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "keras_resnet", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={offset}-"} if offset else {}
    try:
        answer: Any = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # a range behind the end: what is there is whole, or of another file
            part.unlink(missing_ok=True)
            raise _Failed("the part that was kept is longer than the file") from None
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Failed(f"the server answered {error.code}") from None
        raise _Refused(f"the server answered {error.code} {error.reason}") from None
    with answer:
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith("text/") or answer.headers.get("Content-Encoding", "identity") != "identity":
            raise _Refused(f"the server sent {kind or 'a page'}, and no file of weights")
        offset = offset if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = offset + int(length) if length is not None else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - offset > free:
            raise _Refused(f"it has {total:,} bytes, and {os.fspath(part.parent)!r} has room for {free:,}")
        with open(part, "ab" if offset else "wb") as file:
            _copy(answer, file, offset, total)
    if total is not None and part.stat().st_size != total:
        raise _Failed(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def _copy(answer: Any, file: Any, begun: int, total: int | None) -> None:
    received, since, counted, last_update = begun, time.monotonic(), 0, 0.0
    start = since
    while chunk := answer.read1(CHUNK_BYTES):
        file.write(chunk)
        received, counted, now = received + len(chunk), counted + len(chunk), time.monotonic()
        if now - since > SLOWEST_SECONDS:
            if counted < SLOWEST_BYTES:
                raise _Failed(f"{counted} bytes came in {now - since:.0f} s")
            since, counted = now, 0
        if sys.stderr.isatty() and now - last_update > 0.2:
            last_update = now
            rate = (received - begun) / max(now - start, 1e-9) / 2**20
            whole = f" of {total / 2**20:.1f}" if total else ""
            print(f"\r{received / 2**20:.1f}{whole} MiB, {rate:.1f} MiB/s ", end="", file=sys.stderr)
    if last_update:
        print(file=sys.stderr)


def _hash(path: pathlib.Path, name: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def _agrees(part: pathlib.Path, sha256: str, digest: str) -> bool:
    """Returns whether a file has the hash that its publisher states; True where none is stated."""
    kind, *words = digest.split() or [""]
    if kind == "md5":
        return _hash(part, "md5") == words[-1]
    return sha256.startswith(words[-1]) if kind == "sha256" else True


def _known(noted: pathlib.Path) -> str:
    """Returns the sha256 that an earlier download recorded; empty for none."""
    try:
        return str(json.loads(noted.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_whole(path: pathlib.Path, digest: str) -> None:
    """Raises ValueError where a file is not the one that was published or fetched."""
    if digest and not _agrees(path, _hash(path, "sha256"), digest):
        raise BadValue(
            f"{os.fspath(path)!r} is not the file that was published, or has changed since: it has not the {digest}. "
            "Remove it, so that it is fetched again, or install the package again."
        )

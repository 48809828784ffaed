"""Repositories of the Hugging Face Hub, by its own client."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from keras_resnet.errors import BadValue, require
from keras_resnet.weights.sources import repository_of

# Status of an answer -> what to do.
ADVICE = {
    401: "No valid token was sent. Run `hf auth login`, or set HF_TOKEN",
    403: "The token may not write there. Take one with the right to write, or a namespace of yours",
    404: "There is no such repository, or the token may not see it. Check the name",
    409: "The repository was changed meanwhile. Call again",
    413: "The Hub takes no files of this size. Publish a smaller model",
    429: "The Hub asks to wait. Call again in some minutes",
}


def _client() -> Any:
    require("huggingface_hub.errors", "The Hub", "hub")
    return require("huggingface_hub", "The Hub", "hub")


def upload(folder: pathlib.Path, to: str, private: bool, message: str) -> None:
    """Makes the repository where it is missing, and puts the folder into it in one commit: all of it or nothing."""
    repository, client = repository_of(to), _client()
    api = client.HfApi()
    with _explained(client, to):
        api.create_repo(repository, private=private, exist_ok=True)
        # `upload_folder` may make several commits.
        present, earlier = sorted(folder.iterdir()), api.list_repo_files(repository)
        names = {path.name for path in present} | {".gitattributes"}
        changes = [client.CommitOperationDelete(name) for name in earlier if name not in names]
        changes += [client.CommitOperationAdd(path.name, os.fspath(path)) for path in present]
        api.create_commit(repository, changes, commit_message=message)


def download(source: str) -> pathlib.Path:
    """Returns the local folder of a repository, fetched where it is not in the cache of the Hub's client."""
    repository, client = repository_of(source), _client()
    with _explained(client, source):
        return pathlib.Path(client.snapshot_download(repository))


@contextlib.contextmanager
def _explained(client: Any, where: str) -> Iterator[None]:
    """Turns errors of the client into ones that say what to do."""
    refused = client.errors.HfHubHTTPError
    try:
        yield
    # The client wraps errors of single files in RuntimeError, and answers that it cannot read in ValueError.
    except (client.errors.HTTPError, OSError, RuntimeError, ValueError) as error:
        answer = next((each for each in (error, error.__cause__) if isinstance(each, refused)), None)
        if answer is None:
            problem = (
                f"failed: {type(error).__name__}: {error.__cause__ or error}. Check the connection, and call again"
            )
        else:
            status = answer.response.status_code
            problem = f"was refused: the Hub answered {status}. {ADVICE.get(status, 'Call again')}"
        raise BadValue(f"{where!r} {problem}. A repository holds all of a commit or nothing of it.") from error

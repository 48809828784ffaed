"""A server with the part of the Hugging Face Hub's interface that `publish` and `verify` use, for its real client."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse

LFS_ENDINGS = (".keras", ".safetensors", ".png")


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        repositories: "ORG/NAME" -> file -> content.
        objects: sha256 -> content, of files that were sent and perhaps never committed.
        private: repositories that were made private.
        commits: "ORG/NAME" -> number of commits.
        failures: step -> status to answer with, "cut" to close the connection, or "stop" to wait for `release`.
        reached: set when a step begins to wait.
        sent: names of files that were sent as objects.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.objects, self.commits, self.failures = {}, {}, {}, {}
        self.private, self.sent = set(), []
        self.reached, self.release = threading.Event(), threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Clients that were killed leave broken connections."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *values):
        pass

    def answer(self, content=b"", status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fails(self, step):
        """Does what the test wants to go wrong in a step; returns whether it answered."""
        how = self.server.failures.get(step)
        if how is None:
            return False
        if how == "stop":
            self.server.reached.set()
            self.server.release.wait(60)
        if how in ("cut", "stop"):
            self.close_connection = True
            return True
        self.answer({"error": "of the test"}, how)
        return True

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = urllib.parse.urlparse(self.path).path
        hub = self.server
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if self.headers.get("authorization") != "Bearer hf_secret":
                return self.answer({"error": "no token"}, 401)
            if self.fails("create"):
                return None
            if name in hub.repositories:
                return self.answer({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
            hub.repositories[name] = {}
            if asked.get("visibility") == "private" or asked.get("private"):
                hub.private.add(name)
            return self.answer({"url": f"{hub.url}/{name}"})
        if path == "/api/validate-yaml":
            return self.fails("validate") or self.answer({"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.fails("batch") or self.answer(
                {
                    "transfer": "basic",
                    "objects": [
                        {"oid": each["oid"], "size": each["size"]}
                        if each["oid"] in hub.objects
                        else {
                            **{"oid": each["oid"], "size": each["size"]},
                            "actions": {"upload": {"href": f"{hub.url}/objects/{each['oid']}"}},
                        }
                        for each in json.loads(content)["objects"]
                    ],
                },
                Content_Type="application/vnd.git-lfs+json",
            )
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith(LFS_ENDINGS) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for each in json.loads(content)["files"]
            ]
            return self.fails("preupload") or self.answer({"files": files})
        if "/commit/" in path:
            if self.fails("commit"):
                return None
            files = dict(hub.repositories[name])
            for line in content.splitlines():
                change = json.loads(line)
                value = change["value"]
                if change["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif change["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
                elif change["key"] == "deletedFile":
                    del files[value["path"]]
            hub.repositories[name] = files
            hub.commits[name] = hub.commits.get(name, 0) + 1
            return self.answer({"commitUrl": f"{hub.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40})
        return self.answer({"error": path}, 404)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.fails("put"):
            return
        digest = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == digest
        self.server.objects[digest] = content
        self.server.sent.append(digest)
        self.answer()

    def do_GET(self):
        parts = urllib.parse.urlparse(self.path).path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.server.repositories.get(name)
        if files is None:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif self.fails("get"):
            pass
        elif parts[0] == "api" and "tree" in parts:
            self.answer([{"type": "file", "path": path, "size": len(files[path]), "oid": "0" * 40} for path in files])
        elif parts[0] == "api":
            self.answer({"id": name, "sha": "0" * 40, "siblings": [{"rfilename": path} for path in files]})
        elif parts[-1] in files:
            digest = hashlib.sha256(files[parts[-1]]).hexdigest()
            self.answer(files[parts[-1]], X_Repo_Commit="0" * 40, ETag=f'"{digest}"')
        else:
            self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET


@contextlib.contextmanager
def running():
    """Yields a running server."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.release.set()
        hub.shutdown()
        hub.server_close()

"""The requests that a fake hub answers: the part of the hub's API that its clients use to push, look and load."""

import base64
import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from aiohttp import web

from helpers.fake_hub_access import Access, Refused

if TYPE_CHECKING:
    from helpers.fake_hub import FakeHub, Repo


def routes(hub: "FakeHub") -> list[web.RouteDef]:
    """Every route of the hub."""
    api = Api(hub)
    name = r"{owner:[^/]+}/{name:[^/]+}"
    repo = rf"/api/{{kinds:models|datasets}}/{name}"
    found = [
        ("GET", "/api/whoami-v2", api.whoami),
        ("POST", "/api/repos/create", api.create),
        ("POST", "/api/validate-yaml", api.validate),
        ("GET", repo, api.info),
        ("GET", repo + "/revision/{revision}", api.info),
        ("GET", repo + "/tree/{revision}", api.tree),
        ("GET", repo + "/tree/{revision}/{path:.+}", api.tree),
        ("POST", repo + "/paths-info/{revision}", api.paths),
        ("POST", repo + "/preupload/{revision}", api.preupload),
        ("POST", repo + "/commit/{revision}", api.commit),
        ("POST", rf"/{name}.git/info/lfs/objects/batch", api.batch),
        ("PUT", "/large/{oid}", api.put_large),
        ("GET", "/large/{oid}", api.get_large),
        ("POST", "/large-verify/{owner}/{name}", api.verify_large),
        ("GET", rf"/{name}/resolve/{{revision}}/{{path:.+}}", api.resolve),
        ("GET", rf"/datasets/{name}/resolve/{{revision}}/{{path:.+}}", api.resolve),
    ]
    return [
        route
        for method, path, handler in found
        for route in (
            [web.get(path, api.guarded(handler), allow_head=True)]
            if method == "GET"
            else [web.route(method, path, api.guarded(handler))]
        )
    ]


class Api(Access):
    """Answers, each as the real hub gives it where a client looks."""

    async def whoami(self, request: web.Request) -> web.Response:
        token = self.token(request)
        if token is None:
            raise Refused(401, message="Invalid username or password.")
        access = {"displayName": "a token", "role": token.role, "createdAt": "2026-01-01T00:00:00.000Z"}
        if token.fine:
            access["fineGrained"] = token.fine  # type: ignore[assignment]
        told = {"type": "user", "id": token.user, "name": token.user, "fullname": token.user, "orgs": []}
        return web.json_response({**told, "auth": {"type": "access_token", "accessToken": access}})

    async def create(self, request: web.Request) -> web.Response:
        asked, token = await request.json(), self.token(request)
        if token is None:
            raise Refused(401, message="Invalid username or password.")
        owner = asked.get("organization") or token.user
        name, kind = f"{owner}/{asked['name']}", asked.get("type") or "model"
        if not token.may_create(owner):
            raise Refused(403, message="You don't have the rights to create a model under this namespace")
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repos:
            return web.json_response({"error": "You already created this repo", "url": url}, status=409)
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.create(name, kind, private=private)
        return web.json_response({"url": url, "name": name, "id": name})

    async def validate(self, request: web.Request) -> web.Response:
        import yaml

        content = (await request.json())["content"]
        parts = content.split("---\n")
        try:
            yaml.safe_load(parts[1] if len(parts) > 2 else "")
        except yaml.YAMLError as error:
            return web.json_response({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        return web.json_response({"errors": [], "warnings": []})

    async def info(self, request: web.Request) -> web.Response:
        commit, files = self.files(request)
        repo = self.repo(request)
        siblings = [{"rfilename": path} for path in sorted(files)]
        told = {
            "_id": repo.name,
            "id": repo.name,
            "sha": commit,
            "private": repo.private,
            "siblings": siblings,
        }
        return web.json_response(
            {
                **told,
                **_weights(files),
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "gated": False,
                "disabled": False,
            }
        )

    async def tree(self, request: web.Request) -> web.Response:
        _, files = self.files(request)
        under = request.match_info.get("path", "")
        listed = {path: blob for path, blob in files.items() if not under or path.startswith(f"{under}/")}
        if under and not listed:
            raise Refused(404, "EntryNotFound", "no such folder")
        if request.query.get("recursive", "").lower() not in ("true", "1"):
            depth = under.count("/") + 1 if under else 0
            folders = {"/".join(path.split("/")[: depth + 1]) for path in listed if path.count("/") > depth}
            listed = {path: blob for path, blob in listed.items() if path.count("/") == depth}
            told = [
                {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)
            ]
            return web.json_response(told + [_listed(path, blob) for path, blob in listed.items()])
        return web.json_response([_listed(path, blob) for path, blob in sorted(listed.items())])

    async def paths(self, request: web.Request) -> web.Response:
        _, files = self.files(request)
        asked = await request.post() if "json" not in request.content_type else await request.json()
        wanted = asked.getall("paths", []) if hasattr(asked, "getall") else asked["paths"]  # type: ignore[union-attr]
        return web.json_response(
            [_listed(str(path), files[str(path)]) for path in wanted if str(path) in files]
        )

    async def preupload(self, request: web.Request) -> web.Response:
        from helpers.fake_hub import LARGE

        repo, told = self.repo(request, write=True), []
        for file in (await request.json())["files"]:
            base64.b64decode(file["sample"], validate=True)
            large = file["path"].endswith(LARGE) or file["size"] > 10_000_000
            there = repo.files.get(file["path"])
            row = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            told.append({**row, "oid": (there.sha256 if there.large else there.oid) if there else None})
        return web.json_response({"files": told})

    async def batch(self, request: web.Request) -> web.Response:
        repo = self.repo(request, write=True)
        objects = []
        for asked in json.loads(await request.read())["objects"]:
            row: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.large:
                verify = {"href": f"{self.hub.url}/large-verify/{repo.name}"}
                row["actions"] = {
                    "upload": {"href": f"{self.hub.url}/large/{asked['oid']}"},
                    "verify": verify,
                }
            objects.append(row)
        return web.json_response({"transfer": "basic", "objects": objects})

    async def put_large(self, request: web.Request) -> web.Response:
        content = await request.read()
        if hashlib.sha256(content).hexdigest() != request.match_info["oid"]:
            raise Refused(400, message="the content is not what was announced")
        self.hub.large[request.match_info["oid"]] = content
        return web.Response()

    async def verify_large(self, request: web.Request) -> web.Response:
        self.repo(request, write=True)
        asked = await request.json()
        if len(self.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404, message="no such object")
        return web.json_response({"message": "ok"})

    async def get_large(self, request: web.Request) -> web.Response:
        return _ranged(request, self.hub.large[request.match_info["oid"]], {})

    async def commit(self, request: web.Request) -> web.Response:
        repo = self.repo(request, write=True)
        if (happens := self.hub.meanwhile) is not None:
            self.hub.meanwhile = None
            happens()
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        files = dict(repo.files)
        for line in lines:
            self._apply(files, line["key"], line["value"], repo)
        commit = repo.commit(files)
        told = {
            "success": True,
            "commitOid": commit,
            "commitUrl": f"{self.hub.url}/{repo.name}/commit/{commit}",
        }
        return web.json_response({**told, "hookOutput": ""})

    def _apply(self, files: dict[str, Any], key: str, value: dict[str, Any], repo: "Repo") -> None:
        from helpers.fake_hub import Blob

        if key == "header":
            if value.get("parentCommit") not in (None, repo.head):
                raise Refused(412, message="A commit has happened since. Please refresh and try again.")
        elif key == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
        elif key == "lfsFile":
            if value["oid"] not in self.hub.large:
                raise Refused(400, message="the large file was not uploaded")
            files[value["path"]] = Blob(self.hub.large[value["oid"]], large=True)
        elif key == "deletedFile":
            del files[value["path"]]
        else:
            raise Refused(400, message=f"unknown operation {key}")

    async def resolve(self, request: web.Request) -> web.Response:
        commit, files = self.files(request)
        blob = files.get(request.match_info["path"])
        if blob is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if not blob.large:
            return _ranged(request, blob.content, headers)
        headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # as large files are on another host
        return web.Response(status=302, headers={**headers, "Location": f"{elsewhere}/large/{blob.sha256}"})


def _listed(path: str, blob: Any) -> dict[str, Any]:
    told = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
    if blob.large:
        told["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 130}
    return told


def _ranged(request: web.Request, content: bytes, headers: dict[str, str]) -> web.Response:
    wanted = request.http_range
    start, stop = wanted.start or 0, wanted.stop if wanted.stop is not None else len(content)
    if (start, stop) == (0, len(content)):
        return web.Response(body=content, headers=headers)
    headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
    return web.Response(status=206, body=content[start:stop], headers=headers)


def _weights(files: Any) -> dict[str, Any]:
    """What the hub has read from the header of a model's weights."""
    if "model.safetensors" not in files:
        return {}
    content = files["model.safetensors"].content
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except ValueError:  # damaged
        return {}
    count = sum(math.prod(item["shape"]) for name, item in header.items() if name != "__metadata__")
    return {"safetensors": {"parameters": {"F32": count}, "total": count}}

"""An API server of many pods, for `nsprobe cluster` and kubectl: pages, plain lists and Tables, over HTTP.

api-server.py PODS RECORDED FILE   answers on a free port of 127.0.0.1 and writes a kubeconfig for it to FILE. Every pod
                                   is the recorded one (the first running of the list RECORDED, gzipped) under another
                                   name, UID, address and node.
"""

import gzip
import http.server
import json
import os
import socketserver
import sys
import urllib.parse

PAGE_OF_NODES = 1000
KUBECONFIG = """apiVersion: v1
kind: Config
current-context: c
clusters: [{name: k, cluster: {server: 'http://127.0.0.1:%d'}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
users: [{name: u, user: {token: t}}]
"""
RESOURCES = [
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"], "shortNames": ["po"]},
    {"name": "nodes", "singularName": "", "namespaced": False, "kind": "Node", "verbs": ["get", "list"]},
]
COLUMNS = ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"]


def template(pod, mark):
    """The pod as text around its number: pieces that are joined by it."""
    pod["metadata"].update(name=f"web-6f5d8c7b9-{mark}", namespace="shop", uid=f"6dde955c-2593-47aa-8aa2-{mark}")
    pod["spec"]["nodeName"] = f"node-{mark}-of"
    pod["status"]["podIPs"] = [{"ip": f"ip-{mark}"}]
    pod["status"]["podIP"] = f"ip-{mark}"
    return json.dumps(pod, separators=(",", ":"))


def numbered(text, number):
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    node = f"node-{number // 30:05}"
    return text.replace("node-@@-of", node).replace("ip-@@", address).replace("@@", f"{number:012}")


def main():
    pods, recorded, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    with gzip.open(recorded) as text:
        running = next(p for p in json.load(text)["items"] if p["status"]["phase"] == "Running")
    plain = template(running, "@@")
    cells = [running["metadata"]["name"], "1/1", "Running", 0, "1d", "ip-@@", "node-@@-of", "<none>", "<none>"]
    cells[0] = "web-6f5d8c7b9-@@"
    part = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": running["metadata"]}
    row = json.dumps({"cells": cells, "object": part}, separators=(",", ":"))
    columns = json.dumps(
        [{"name": n, "type": "string", "format": "", "description": "", "priority": int(at > 4)} for at, n in enumerate(COLUMNS)]
    )

    def page(accept, query):
        first, limit = int(query.get("continue", ["0"])[0]), int(query.get("limit", [pods])[0])
        after = min(first + limit, pods)
        meta = {"resourceVersion": "1", "continue": str(after) if after < pods else "", "remainingItemCount": pods - after}
        table = "as=Table" in accept
        items = ",".join(numbered(row if table else plain, number) for number in range(first, after))
        if table:
            head = '{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":%s,"columnDefinitions":%s,"rows":['
            return head % (json.dumps(meta), columns) + items + "]}"
        return '{"kind":"PodList","apiVersion":"v1","metadata":%s,"items":[' % json.dumps(meta) + items + "]}"

    pages = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            accept = self.headers.get("accept", "")
            code, body = 200, b'{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}'
            if url.path == "/api":
                body = b'{"kind":"APIVersions","versions":["v1"]}'
            elif url.path == "/apis":
                body = b'{"kind":"APIGroupList","apiVersion":"v1","groups":[]}'
            elif url.path == "/api/v1":
                body = json.dumps({"kind": "APIResourceList", "groupVersion": "v1", "resources": RESOURCES}).encode()
            elif url.path == "/api/v1/pods":
                # A page is made once, before the first run that counts.
                key = ("as=Table" in accept, url.query)
                if key not in pages:
                    pages[key] = page(accept, urllib.parse.parse_qs(url.query)).encode()
                body = pages[key]
            elif not url.path.startswith("/api/v1/"):
                code, body = 404, b'{"kind":"Status","status":"Failure","code":404}'
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    with open(f"{file}.new", "w", encoding="utf-8") as out:
        out.write(KUBECONFIG % server.server_port)
    os.rename(f"{file}.new", file)
    server.serve_forever()


main()

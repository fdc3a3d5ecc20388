"""The two control APIs a test talks to: the lab's and the node's."""
import http.client
import json
import socket
import time


class Http:
    """Requests over sockets that a function makes."""

    def __init__(self, dial, headers=None):
        self._dial, self._headers = dial, headers or {}

    def request(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = self._dial()
        connection.sock.settimeout(timeout)
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        all_headers = {**self._headers, **(headers or {})}
        if isinstance(body, (dict, list)):
            all_headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, all_headers)
            answer = connection.getresponse()
            return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
        finally:
            connection.close()

    def call(self, method, path, body=None, ok=(200, 201, 202, 204), **more):
        status, _, data = self.request(method, path, body, **more)
        if status not in ok:
            raise AssertionError(f"{method} {path}: {status} {data.decode(errors='replace')[:400]}")
        return json.loads(data) if data.strip() else None

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.call("POST", path, {} if body is None else body, **more)


def unix(path):
    def dial():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(str(path))
        return s

    return dial


def wait_for(what, test, seconds=10, every=0.02):
    """Polls until the test gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        found = test()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(every)

"""The form: a page on this machine that shows a sheet and keeps every answer as it is given."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from hare_evaluation.human_study.answers import Answers
from hare_evaluation.human_study.design import CHOICE, RATINGS, SCALES
from hare_gym.errors import DataError

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_BODY = 4096
_STATIC = {
    "/": ("form.html", "text/html"),
    "/form.css": ("form.css", "text/css"),
    "/form.js": ("form.js", "text/javascript"),
}


def server(answers: Answers, port: int = 0) -> ThreadingHTTPServer:
    """A server of the form, bound to this machine only; port 0 takes a free one. ``serve_forever`` starts it."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


class _Handler(BaseHTTPRequestHandler):
    answers: Answers
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in _STATIC:
            name, kind = _STATIC[path]
            self._send(HTTPStatus.OK, (files("hare_evaluation.human_study") / name).read_bytes(), kind)
        elif path.startswith("/sheet/"):
            self._answered(lambda: self._sheet(path.removeprefix("/sheet/")))
        else:
            self._json(HTTPStatus.NOT_FOUND, {"detail": "There is no such page."})

    def do_PUT(self) -> None:
        path = urlsplit(self.path).path
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _BODY:
            self.close_connection = True
            self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"detail": f"An answer has at most {_BODY} bytes."})
            return
        body = self.rfile.read(int(length))
        if not path.startswith("/sheet/"):
            self._json(HTTPStatus.NOT_FOUND, {"detail": "There is no such page."})
            return
        self._answered(lambda: self._put(path.removeprefix("/sheet/"), body))

    def _sheet(self, code: str) -> dict[str, Any]:
        asked = {"scales": SCALES, "ratings": RATINGS, "choice": CHOICE}
        return {**self.answers.sheet(code), "answers": self.answers.of(code), "asked": asked}

    def _put(self, code: str, body: bytes) -> dict[str, Any]:
        try:
            said = json.loads(body)
            round, field, value = said["round"], said["field"], said["value"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError("An answer is JSON with round, field and value.") from error
        self.answers.put(code, round, field, value)
        return {"done": self.answers.done(code)}

    def _answered(self, work: Any) -> None:
        try:
            self._json(HTTPStatus.OK, work())
        except DataError as error:
            self._json(HTTPStatus.BAD_REQUEST, {"detail": str(error)})
        except OSError as error:
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"detail": f"It could not be kept: {error.strerror}."})

    def _json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who asked when is nobody's business."""

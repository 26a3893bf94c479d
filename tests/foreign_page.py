"""A page of somebody else, open in the browser of a person who is signed in, tries everything that pages can send."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from flows import guard
from tests.browser import open_browser

FOREIGN = "foreign.example"  # and rebound.example: names that lead the browser to this machine
ATTACK = """async ([own, changed, body]) => {
    const wait = (target, ...events) => new Promise(done => {
        for (const event of events) target.addEventListener(event, () => done(event));
        setTimeout(() => done("nothing"), 5000);
    });
    const outcomes = [];
    const credentials = "include", headers = {"Content-Type": "application/json"};
    const plain = {method: "POST", mode: "no-cors", credentials, body};
    for (const [address, request] of [
        [changed, {method: "PATCH", credentials, headers, body}],
        [changed, {method: "DELETE", credentials}],
        [changed, {credentials}],
        [own + "/api/flows/filter", plain],
        [own + "/api/%66lows/filter", plain],
        [own + "//api/flows/", plain],
    ])
        outcomes.push(await fetch(address, request).then(answer => answer.type, () => "refused"));
    for (const path of ["/api/events/in", "/api/events/out", "/api/logs/out", "/api/task_runs/subscriptions/scheduled"])
        outcomes.push(await wait(new WebSocket(own.replace("http", "ws") + path, ["prefect"]), "open", "error"));
    for (const [name, attribute] of [["img", "src"], ["script", "src"]]) {
        const element = document.createElement(name);
        element[attribute] = own + "/api/version";
        const waited = wait(element, "load", "error");
        document.body.append(element);
        outcomes.push(await waited);
    }
    navigator.sendBeacon(own + "/api/flows/", body);
    for (const [method, type] of [["POST", "text/plain"], ["POST", "application/x-www-form-urlencoded"], ["GET", ""]]) {
        const frame = document.createElement("iframe"), form = document.createElement("form");
        frame.name = form.target = "frame-" + document.forms.length;
        [form.action, form.method, form.enctype] = [own + "/api/flows/", method, type];
        const field = document.createElement("input");
        [field.name, field.value] = [body, ""];
        form.append(field);
        document.body.append(frame, form);
        const waited = wait(frame, "load");
        form.submit();
        await waited;
    }
    return outcomes;
}"""
OUTCOMES = [*["refused"] * 3, *["opaque"] * 3, *["error"] * 6]


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><body>")

    def log_message(self, *arguments: object) -> None: ...


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a page of another origin."""
    with http.server.ThreadingHTTPServer((guard.HOST, 0), Page) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"http://{FOREIGN}:{pages.server_address[1]}/"
        pages.shutdown()


def attack(own: str, secret: str, changed: str, body: str) -> list[int]:
    """What a server at ``own`` answered to a foreign page's requests, with the browser signed in: all statuses.

    ``changed`` is an address that the page tries to change, to ``body``. Fails where the page learns or opens anything.
    """
    resolved = "--host-resolver-rules=MAP *.example 127.0.0.1"
    statuses: list[int] = []
    with served() as foreign, open_browser(resolved) as browser:
        page = browser.new_page()
        page.goto(guard.link(own, secret, "/api/version"), timeout=90_000)
        assert page.url == f"{own}/api/version"  # without the secret
        assert page.inner_text("body").strip('"')
        page.on("response", lambda answer: answer.url.startswith(own) and statuses.append(answer.status))
        for address in (foreign, foreign.replace(FOREIGN, guard.HOST)):  # another site, and another port of this one
            page.goto(address, timeout=90_000)
            assert page.evaluate(ATTACK, [own, changed, body]) == OUTCOMES
        rebound = page.goto(f"http://rebound.example:{urlsplit(own).port}/api/version", timeout=90_000)
        assert rebound is not None
        assert rebound.status == 421
        followed = page.goto(foreign, timeout=90_000)
        assert followed is not None
        with page.expect_navigation(timeout=90_000):  # a link may be followed; a form that is sent may not
            page.evaluate(
                "address => { const form = document.createElement('form'); form.action = address; form.method = 'POST';"
                " document.body.append(form); form.submit(); }",
                f"{own}/api/flows/",
            )
    return statuses

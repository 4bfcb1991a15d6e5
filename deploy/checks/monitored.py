"""A server of Tollgate with a gateway before a model without a model, and a Prometheus that scrapes it. All listen on loopback,
at free ports, and end with the `with` block."""

import contextlib
import http.server
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

TOKEN = "token-of-the-checks"
# Only a process that hangs takes so long.
STARTS_WITHIN_S = 300.0

CATALOG = {
    "tenants": [{"id": "acme"}],
    "policies": [
        {"id": "requests", "scope": "USER", "limit": 3, "windowSeconds": 3600},
        {"id": "tokens", "per": ["tenant", "model"], "unit": "tokens", "limit": 1000000000, "windowSeconds": 60},
        {"id": "trial", "scope": "USER_MODEL", "limit": 1, "windowSeconds": 60, "mode": "shadow"},
    ],
}


class Model(http.server.BaseHTTPRequestHandler):
    """Answers chats in OpenAI's dialect, as a stream or at once."""

    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        base = {"id": "1", "created": 1, "model": "mock"}
        if not request.get("stream"):
            message = {"role": "assistant", "content": "two words"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.send("application/json", {**base, "object": "chat.completion", "choices": [choice], "usage": self.usage})
            return
        chunks = [{**base, "object": "chat.completion.chunk", "choices": [choice]} for choice in (
            {"index": 0, "delta": {"role": "assistant", "content": "two "}, "finish_reason": None},
            {"index": 0, "delta": {"content": "words"}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )]
        chunks.append({**base, "object": "chat.completion.chunk", "choices": [], "usage": self.usage})
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.send("text/event-stream", events)

    def send(self, kind, content):
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def model():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def process(command, cwd, log, env=None):
    """A process whose output goes to the file `log`; it gets SIGTERM at the end."""
    with log.open("wb") as output:
        one = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield one
    finally:
        one.terminate()
        try:
            one.wait(timeout=300)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def wait_for(pattern, one, log):
    """What the first group of `pattern` finds in the log of a process."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        found = re.search(pattern, log.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
        if one.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"{one.args[0]} did not log {pattern!r}; it logged:\n{log.read_text(encoding='utf-8')}")


def call(url, body=None, headers=None):
    """The status and the JSON of an answer, or its text if it is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except json.JSONDecodeError:
        return status, text


class Tollgate:
    """A running server."""

    def __init__(self, http, gateway):
        self.http, self.gateway = http, gateway
        admin = {"authorization": f"Bearer {TOKEN}"}
        status, answer = call(f"{http}/admin/import", CATALOG, admin)
        assert status == 200, answer
        status, answer = call(f"{http}/admin/api-keys", {"id": "key", "tenantId": "acme"}, admin)
        assert status == 201, answer
        self.key = answer["key"]

    def traffic(self):
        """A few calls of each kind, some of which are denied."""
        check = {"userId": "alice", "modelId": "gpt-4"}
        for _ in range(5):
            call(f"{self.http}/rate-limit/check", check)
        lease = {"tenantId": "acme", "modelId": "gpt-4", "cost": {"tokens": 100}}
        status, answer = call(f"{self.http}/rate-limit/leases", lease)
        assert status == 201, answer
        settle = f"{self.http}/rate-limit/leases/{answer['lease']['id']}/settle"
        status, answer = call(settle, {"seq": 1, "usage": {"requests": 1, "tokens": 70}})
        assert status == 200, answer
        for stream in (False, True):
            chat = {"model": "gpt-4", "stream": stream, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
            status, answer = call(f"{self.gateway}/chat/completions", chat, {"authorization": f"Bearer {self.key}"})
            assert status == 200, answer

    def metrics(self):
        """The names of all series that the server can have."""
        endings = {
            "counter": ("_total",), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count"),
        }
        _, text = call(f"{self.http}/metrics")
        families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
        return {name + ending for name, kind in families for ending in endings[kind]}


@contextlib.contextmanager
def tollgate(program, folder):
    with model() as upstream:
        gateway = {
            "listen": "127.0.0.1:0",
            "upstreams": [{"id": "model", "baseUrl": upstream, "dialect": "openai"}],
            "models": [{"id": "gpt-4", "upstreams": ["model"]}],
        }
        (folder / "gateway.json").write_text(json.dumps(gateway))
        command = [program, "serve", "--http", "127.0.0.1:0", "--catalog", f"sqlite:{folder / 'catalog.db'}"]
        command += ["--store", f"memory:{folder / 'usage'}", "--gateway", folder / "gateway.json", "--log-format", "json"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        log = folder / "server.log"
        with process(command, folder, log, {**env, "TOLLGATE_ADMIN_TOKEN": TOKEN}) as server:
            http = wait_for(r'"http":"(http://[^"]+)"', server, log)
            yield Tollgate(http, wait_for(r'"gateway":"(http://[^"]+)"', server, log))


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url):
        self.url = url

    def ask(self, expression):
        """The status and the series, or the error, of an expression at this moment."""
        status, answer = call(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if isinstance(answer, dict) and status == 200:
            return answer["status"], answer["data"]["result"]
        return f"{status}", answer


@contextlib.contextmanager
def prometheus(target, rules, folder):
    """A Prometheus that scrapes `target` every second."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "tollgate", "static_configs": [{"targets": [target.removeprefix("http://")]}]}],
    }
    (folder / "prometheus.json").write_text(json.dumps(configuration))
    command = ["prometheus", f"--config.file={folder / 'prometheus.json'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += ["--web.listen-address=127.0.0.1:0"]
    log = folder / "prometheus.log"
    with process(command, folder, log) as server:
        address = wait_for(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', server, log)
        wait_for(r'(Server is ready to receive web requests)', server, log)
        yield Prometheus(f"http://{address}")


@contextlib.contextmanager
def everything(program, rules):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tollgate(program, folder) as server, prometheus(server.http, rules, folder) as scraper:
            yield server, scraper

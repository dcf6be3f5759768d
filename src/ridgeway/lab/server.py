"""The page served on this machine: tables and predictions as JSON, runs of the engine as a stream of lines.

It listens to this machine alone. Requests that name another host are refused, and runs are asked for with a JSON body,
so that no page from elsewhere can start one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ridgeway.core.errors import RequestError, RidgewayError, did_you_mean
from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.figures import FIGURES
from ridgeway.lab.page import boot, modules, served_page, static
from ridgeway.lab.runs import Runner, RunRequest
from ridgeway.roofline.decoding import parse_decoding
from ridgeway.roofline.workload import Workload

_KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]


def make_app(catalog: Catalog, start: Subject, runner: Runner | None = None) -> FastAPI:
    """The application; `start` is what the page shows first."""
    app = FastAPI(title="ridgeway lab", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)
    runner = runner or Runner()
    catalog.as_run = runner.predictor

    @app.exception_handler(RidgewayError)
    def refused(request: Request, error: RidgewayError) -> Response:
        return JSONResponse({"error": str(error)}, status_code=422)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return served_page({**boot(catalog, start), "runnable": runner.described(), "runs": runner.points})

    @app.get("/static/{name}")
    def part(name: str) -> Response:
        known = {*modules(), "style.css", "icon.svg"}
        if name not in known:
            return JSONResponse({"error": f"no such part: {name}"}, status_code=404)
        return Response(static(name), media_type=_KINDS[name.rsplit(".", 1)[-1]])

    @app.get("/api/tables/{figure}")
    def table(figure: str, model: str, machine: str, precision: str, request: Request) -> dict[str, Any]:
        if figure not in FIGURES:
            raise RequestError(f"no figure is called {figure!r}; {did_you_mean(figure, FIGURES)}")
        position = {
            name: _number(name, value)
            for name, value in request.query_params.items()
            if name not in ("model", "machine", "precision")
        }
        return FIGURES[figure].table(catalog.predictor(Subject(model, machine, precision)), position).as_json()

    @app.get("/api/predict")
    def predict(
        model: str,
        machine: str,
        precision: str = "bf16",
        method: str = "autoregressive",
        prompt: int = 512,
        output: int = 256,
        batch: int = 1,
    ) -> dict[str, Any]:
        predictor = catalog.predictor(Subject(model, machine, precision))
        workload = Workload(prompt, output, batch)
        predictor.check_fits(workload)
        found = predictor.predict(workload, parse_decoding(method))
        return found.as_json() | {"flops_per_second": found.flops_per_second}

    @app.get("/api/runs")
    def runs() -> list[dict[str, Any]]:
        return runner.points

    @app.post("/api/run")
    async def run(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise RequestError("expected a body of application/json")
        asked = _asked(await request.body())
        return StreamingResponse(_lines(runner, asked), media_type="application/x-ndjson")

    return app


def _lines(runner: Runner, asked: RunRequest) -> Iterator[str]:
    """Events one a line; an error is an event too, as the answer has begun by then."""
    events = runner.run(asked)
    try:
        for event in events:
            yield json.dumps(event) + "\n"
    except RidgewayError as error:
        yield json.dumps({"event": "error", "error": str(error)}) + "\n"
    finally:
        events.close()


def _asked(body: bytes) -> RunRequest:
    try:
        plain = json.loads(body)
        return RunRequest(**plain)
    except RequestError:
        raise
    except (ValueError, TypeError) as error:
        fields = ", ".join(asdict(RunRequest(model="smollm2-135m")))
        raise RequestError(f"a run is asked for by an object with {fields}: {error}") from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"{name}={text}: expected a number") from None

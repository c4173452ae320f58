"""`python -m infra.serve NAME`: the champion behind MLflow's own protocol, and a page to try it.

It listens on this machine only. Whoever wants more puts a server with authentication in front of it, or uses
`mlflow models serve` in a place that has one.
"""

import argparse
from html import escape
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from steps import tracking

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("serve.html")


def make_app(name: str) -> FastAPI:
    """Return MLflow's scoring server for the champion of a registered model, with a page at its root."""
    import mlflow
    from mlflow.pyfunc import load_model, scoring_server

    mlflow.set_tracking_uri(tracking.connect().tracking_uri)
    app: FastAPI = scoring_server.init(load_model(f"models:/{name}@champion"))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE.read_text(encoding="utf-8").replace("{{ name }}", escape(name))

    return app


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="the registered model")
    parser.add_argument("--port", type=int, default=8000)
    words = parser.parse_args()
    app = make_app(words.name)
    print(f"http://{HOST}:{words.port}", flush=True)
    uvicorn.run(app, host=HOST, port=words.port, log_level="warning")


if __name__ == "__main__":
    main()

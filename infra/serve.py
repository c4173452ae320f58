"""`headstart serve NAME`: the champion behind MLflow's own protocol, and a page to try it.

It listens on this machine only. At another address it asks every caller for $HEADSTART_SERVE_TOKEN, and
does not start without one.
"""

import runpy
import sys
from html import escape
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from infra.guard import guard, token_for
from steps.core.system.errors import HeadstartError, RegistryError
from steps.runtime import mlflow_client
from steps.runtime.registry import CHAMPION, Registry

HOST = "127.0.0.1"
LOADER = "mlflow.pyfunc.loaders.code_model"
PICKLED = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"}
PAGE = Path(__file__).with_name("serve.html")


def make_app(name: str) -> FastAPI:
    """Return MLflow's scoring server for the champion of a registered model, with a page at its root.

    Raises:
        RegistryError: There is no champion, its files are gone, or they are not what `promote` writes.
    """
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.pyfunc import load_model, scoring_server

    registry = Registry(name, mlflow_client.connect())
    if (version := registry.aliases().get(CHAMPION)) is None:
        raise RegistryError(f"{name} has no champion: run the pipeline, or look up the name with mlflow ui")
    if not registry.whole(version):
        raise registry.lost(version, "its files are gone")
    mlflow.set_tracking_uri(registry.client.tracking_uri)
    folder = Path(download_artifacts(f"models:/{name}@champion"))
    refuse_foreign(folder)
    app: FastAPI = scoring_server.init(load_model(str(folder)))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE.read_text(encoding="utf-8").replace("{{ name }}", escape(name))

    return app


def refuse_foreign(folder: Path) -> None:
    """Look at a model before MLflow loads it: one of another kind could be a pickle, which runs code.

    Raises:
        RegistryError: It is not of the kind that `promote` writes.
    """
    from mlflow.models import Model

    flavors = Model.load(str(folder)).flavors
    odd = sorted(set(flavors) - {"python_function"})
    loader = flavors.get("python_function", {}).get("loader_module")
    odd += [str(loader)] if loader != LOADER else []
    odd += sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLED)
    if odd:
        raise RegistryError(
            f"{folder} has files that promote does not write ({', '.join(odd)}), and could run code: "
            "check who changed the registry, and roll back to a version of your own"
        )


def serve(name: str, host: str = HOST, port: int = 8000) -> None:
    """Serve the champion of a registered model until Ctrl-C."""
    try:
        token = token_for(host)
        app = make_app(name)
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    if token is not None:
        guard(app, token)
    print(f"http://{host}:{port}", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    runpy.run_module("infra", run_name="__main__")

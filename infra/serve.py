"""`headstart serve NAME`: the champion behind MLflow's own protocol, and a page to try it.

It listens on this machine only. At another address it asks every caller for $HEADSTART_SERVE_TOKEN, and
does not start without one. Its limits are in the section `serve` of params.yaml.
"""

import logging
import runpy
import sys

import uvicorn

from infra.champion import ChampionFollower
from infra.guard import guard, impatient, token_for, trust_own_hosts
from infra.serving import make_app
from steps.core.system.errors import HeadstartError
from steps.runtime import mlflow_client
from steps.runtime.params import Serve
from steps.runtime.phase import all_configs
from steps.runtime.registry import Registry

HOST = "127.0.0.1"


def serve(name: str, host: str = HOST, port: int = 8000) -> None:
    """Serve the champion of a registered model until Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        token = token_for(host)
        limits = all_configs()["serve"]
        assert isinstance(limits, Serve)
        follower = ChampionFollower(Registry(name, mlflow_client.connect()))
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    app = make_app(follower, limits)
    if token is None:
        trust_own_hosts(app)
    else:
        guard(app, token)
    print(f"http://{host}:{port}", flush=True)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", server_header=False,
        http=impatient(limits.read_seconds), limit_concurrency=limits.connections,
    )  # fmt: skip


if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    runpy.run_module("infra", run_name="__main__")

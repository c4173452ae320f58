"""Nothing that the tests run may write to, or ask, anything outside of their own folders."""

import os
import tempfile
from pathlib import Path

_home = tempfile.mkdtemp(prefix="headstart-tests-")
os.environ.update(
    ZENML_ANALYTICS_OPT_IN="false",
    # ZenML rewrites its files at every start; a worker that reads one meanwhile finds half of it.
    ZENML_CONFIG_PATH=f"{_home}/zenml",
    ZENML_REPOSITORY_PATH=_home,
    ZENML_CUSTOM_SOURCE_ROOT=str(Path(__file__).resolve().parent.parent),
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_TRACKING_URI=f"sqlite:///{_home}/mlflow.db",
    HEADSTART_SCRATCH=f"{_home}/scratch",
    HF_HUB_OFFLINE="1",
    DO_NOT_TRACK="1",
)
os.environ.setdefault("TESTS_SHARE", f"{_home}/share")  # what workers make for each other: the first one's
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers would wait for each other, spinning
    os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("HEADSTART_PARAMS", "HEADSTART_DATA"):
    os.environ.pop(_name, None)

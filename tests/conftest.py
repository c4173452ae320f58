"""Nothing that the tests run may write to, or ask, anything outside of their own folders."""

import os
import tempfile

_home = tempfile.mkdtemp(prefix="headstart-tests-")
os.environ.update(
    ZENML_ANALYTICS_OPT_IN="false",
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_TRACKING_URI=f"sqlite:///{_home}/mlflow.db",
    HEADSTART_SCRATCH=f"{_home}/scratch",
    HF_HUB_OFFLINE="1",
    DO_NOT_TRACK="1",
)
for _name in ("HEADSTART_PARAMS", "HEADSTART_DATA"):
    os.environ.pop(_name, None)

"""The model as MLflow serves it: image bytes in base64, answered with labels and probabilities."""

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from torch import Tensor

    from steps.core.modalities.image.pixels import Preprocessing


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Answers a table with one column, `image`, of base64 text."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier once."""
        from steps.artifacts.models import Classifier

        self.classifier = Classifier.load(Path(context.artifacts["classifier"]))
        self.network = self.classifier.network()

    def predict(  # type: ignore[no-untyped-def] # MLflow takes type hints for a schema
        self, context, model_input, params=None
    ):
        """Return label or labels, and calibrated probabilities; a bad image is the caller's mistake: 400."""
        from steps.core.evaluation.inference import predict_views
        from steps.core.tasks.thresholds import say

        look, meta = self.classifier.look, self.classifier.meta
        views = [view_of(number, text, look) for number, text in enumerate(model_input["image"])]
        return [say(row, meta) for row in predict_views(self.network, look, views)]


def view_of(number: int, text: str, look: "Preprocessing") -> "Tensor":
    """Return the view of one image that the model answers.

    Raises:
        MlflowException: It is no base64, or no image; a server answers this with 400.
    """
    from steps.core.modalities.image.pixels import plain_view, read_image
    from steps.core.system.errors import DataError

    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise MlflowException.invalid_parameter_value(f"image {number}: not base64") from None
    try:
        return plain_view(read_image(data), look)
    except DataError as error:
        raise MlflowException.invalid_parameter_value(f"image {number}: {error}") from None


mlflow.models.set_model(ServedClassifier())

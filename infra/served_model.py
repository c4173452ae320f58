"""The model as MLflow serves it: image bytes in base64, answered with labels and probabilities."""

import base64
import binascii
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Answers a table with one column, `image`, of base64 text."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier once."""
        from steps.artifacts import Classifier

        self.classifier = Classifier.load(Path(context.artifacts["classifier"]))
        self.network = self.classifier.network()

    def predict(  # type: ignore[no-untyped-def] # MLflow takes type hints for a schema
        self, context, model_input, params=None
    ):
        """Return label or labels, and calibrated probabilities; a bad image is the caller's mistake: 400."""
        from steps.core.predict import predict_bytes
        from steps.core.thresholds import say

        images = [checked(number, text) for number, text in enumerate(model_input["image"])]
        meta = self.classifier.meta
        logits = predict_bytes(self.network, self.classifier.look, images)
        return [say(row, meta) for row in logits]


def checked(number: int, text: str) -> bytes:
    """Return the bytes of one image, which can be decoded.

    Raises:
        MlflowException: It is no base64, or no image; a server answers this with 400.
    """
    from steps.core.errors import DataError
    from steps.core.images import decode, open_image

    try:
        data = base64.b64decode(text, validate=True)
        decode(open_image(data))
    except (binascii.Error, ValueError, TypeError):
        raise MlflowException.invalid_parameter_value(f"image {number}: not base64") from None
    except DataError as error:
        raise MlflowException.invalid_parameter_value(f"image {number}: {error}") from None
    return data


mlflow.models.set_model(ServedClassifier())

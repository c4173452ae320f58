"""The model as MLflow serves it: image bytes in base64, answered with labels and probabilities."""

import base64
from pathlib import Path

import mlflow
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
        """Return label and calibrated probabilities per image."""
        from scipy.special import softmax

        from steps.core.predict import predict_bytes

        images = [base64.b64decode(text, validate=True) for text in model_input["image"]]
        meta = self.classifier.meta
        logits = predict_bytes(self.network, self.classifier.look, images)
        probabilities = softmax(logits / meta["temperature"], axis=1)
        return [
            {
                "label": meta["labels"][int(row.argmax())],
                "probabilities": dict(zip(meta["labels"], row.tolist(), strict=True)),
            }
            for row in probabilities
        ]


mlflow.models.set_model(ServedClassifier())

"""The model as MLflow serves it: samples in, as requests hold them, labels and probabilities out."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Answers a table with one column, named after the modality: for images `image`, base64 text.

    The answers are those of the ONNX file that the promotion gates have judged.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the file once."""
        from steps.artifacts.models import DEPLOYED_FILE, Classifier
        from steps.core.export.deployed import DeployedClassifier

        classifier = Path(context.artifacts["classifier"])
        file = classifier.parents[1] / DEPLOYED_FILE  # artifacts/classifier lies beside it
        self.deployed = DeployedClassifier.open(file.read_bytes(), Classifier.load(classifier).meta)

    def predict(  # type: ignore[no-untyped-def] # MLflow takes type hints for a schema
        self, context, model_input, params=None
    ):
        """Return label or labels, and calibrated probabilities; a bad sample is the caller's mistake: 400."""
        column = self.deployed.modality.name
        return [self.answer(number, value) for number, value in enumerate(model_input[column])]

    def answer(self, number: int, value: object) -> dict[str, Any]:
        """Return the answer to one sample.

        Raises:
            MlflowException: The request holds no such sample; a server answers this with 400.
        """
        from steps.core.system.errors import DataError

        modality = self.deployed.modality
        try:
            return self.deployed.answer(modality.from_request(value))
        except DataError as error:
            raise MlflowException.invalid_parameter_value(f"{modality.name} {number}: {error}") from None


mlflow.models.set_model(ServedClassifier())

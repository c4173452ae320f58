"""The model as MLflow serves it: samples in, as requests hold them, labels and probabilities out."""

from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from torch import Tensor


class ServedClassifier(PythonModel):  # type: ignore[misc]
    """Answers a table with one column, named after the modality: for images `image`, base64 text."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier once."""
        from steps.artifacts.models import Classifier
        from steps.core.modalities.registry import modality_of

        self.classifier = Classifier.load(Path(context.artifacts["classifier"]))
        self.network = self.classifier.network()
        self.modality = modality_of(self.classifier.meta)

    def predict(  # type: ignore[no-untyped-def] # MLflow takes type hints for a schema
        self, context, model_input, params=None
    ):
        """Return label or labels, and calibrated probabilities; a bad sample is the caller's mistake: 400."""
        from steps.core.evaluation.inference import predict_views
        from steps.core.tasks.thresholds import format_prediction

        meta, column = self.classifier.meta, self.modality.name
        views = [self.view_of(number, value) for number, value in enumerate(model_input[column])]
        return [
            format_prediction(row, meta)
            for row in predict_views(self.network, self.classifier.preprocessing, views)
        ]

    def view_of(self, number: int, value: object) -> "Tensor":
        """Return the view of one sample that the model answers.

        Raises:
            MlflowException: The request holds no such sample; a server answers this with 400.
        """
        from steps.core.system.errors import DataError

        preprocessing = self.classifier.preprocessing
        try:
            return preprocessing.view(preprocessing.decode(self.modality.from_request(value)))
        except DataError as error:
            problem = f"{self.modality.name} {number}: {error}"
            raise MlflowException.invalid_parameter_value(problem) from None


mlflow.models.set_model(ServedClassifier())

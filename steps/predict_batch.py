"""Answer the samples of a folder or a table with the champion's exported file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from steps.artifacts.models import DEPLOYED_FILE
from steps.artifacts.predictions import BatchPredictions
from steps.core.backbones.settings import BackboneConfig
from steps.core.system.config import Config, Count, Fraction
from steps.core.system.errors import RegistryError
from steps.ingest_data import without_secret
from steps.runtime import mlflow_client
from steps.runtime.data_identity import model_name
from steps.runtime.params import From
from steps.runtime.registry import CHAMPION, Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    import pandas as pd

    from steps.core.audit.drift import Floats
    from steps.core.export.batch import DeployedModel
    from steps.core.features.embedding import Encoder


class PredictBatch(Config):
    """See params.yaml."""

    model: str | None
    """Name of the registered model; null: as `promote` calls it."""
    data: Annotated[str | None, AfterValidator(lambda path: path and without_secret(path))]
    """A folder, a .csv or .parquet, or a URL; null: ingest_data.path."""
    abstain_below: Fraction
    """Calibrated probability of the answer below which it is marked for a person to look at."""
    part_samples: Count
    """Samples between two saves; a kill loses no more."""
    sheet_samples: Count
    """Of the least sure ones, on the page."""
    min_drift_samples: Annotated[int, From("watch_data.min_drift_samples")]
    drift_samples: Annotated[int, From("watch_data.samples")]
    false_alarm_rate: Annotated[float, From("watch_data.false_alarm_rate")]
    permutations: Annotated[int, From("watch_data.permutations")]
    name: Annotated[str | None, From("promote.name")]
    training_data: Annotated[str, From("ingest_data.path")]
    backbone: Annotated[BackboneConfig, From("backbone")]
    seed: Annotated[int, From("seed")]


def predict_batch(cfg: PredictBatch) -> Annotated[BatchPredictions, "batch"]:
    """Answer every sample, name those that cannot be read, and test whether they are as in training.

    Raises:
        RegistryError: There is no champion, or it has no exported file.
        DataError: Nothing there is a sample.
    """
    import shutil

    from steps.core.export.batch import as_answers, list_unlabelled, parts_folder, predict_samples
    from steps.core.modalities.registry import modality_of

    registry = Registry(cfg.model or model_name(cfg.name, cfg.training_data), mlflow_client.connect())
    version, model = deployed_model(registry, cfg)
    data = cfg.data or cfg.training_data
    root, paths, stamps = list_unlabelled(data, scratch(), modality_of(model.meta))
    found = predict_samples(model, root, paths, stamps, scratch())
    answers = as_answers(model, found, cfg.abstain_below)
    skipped = found.loc[found["error"].notna(), ["path", "error"]].to_dict("records")
    tests, drift = drift_tests(registry, version, model, root, answers, cfg)
    facts = {
        "model": registry.name,
        "version": version,
        "data": data,
        "samples": len(answers),
        "abstained": int(answers["abstained"].sum()),
        "skipped": skipped,
    }
    page = least_sure(model, root, answers, {**facts, "drift": drift}, cfg.sheet_samples)
    shutil.rmtree(parts_folder(model, root, paths, stamps, scratch()), ignore_errors=True)
    return BatchPredictions(answers, {**facts, "drift": tests, "drift_in_words": drift}, page)


def deployed_model(registry: Registry, cfg: PredictBatch) -> "tuple[str, DeployedModel]":
    """Return the champion's version, and its float32 file.

    Raises:
        RegistryError: There is none.
    """
    from steps.core.export.batch import DeployedModel

    if (version := registry.aliases().get(CHAMPION)) is None:
        raise RegistryError(
            f"{registry.name} has no champion: run the pipeline, or look up the name with mlflow ui"
        )
    meta = registry.load(version, scratch()).meta
    if (file := registry.fetch_kept_file(version, DEPLOYED_FILE, scratch())) is None:
        raise RegistryError(
            f"version {version} of {registry.name} has no {DEPLOYED_FILE}: run the pipeline again"
        )
    return version, DeployedModel(file.read_bytes(), meta, cfg.part_samples)


def drift_tests(
    registry: Registry,
    version: str,
    model: "DeployedModel",
    root: str,
    answers: "pd.DataFrame",
    cfg: PredictBatch,
) -> tuple[list[dict[str, Any]], str]:
    """Return the tests of steps.core.audit.drift on a bounded sample, and what they say in words."""
    from steps.core.audit.drift import REFERENCE_FILE, Reference, run_drift_tests
    from steps.core.features.embedding import Encoder
    from steps.core.modalities.registry import modality_of

    file = registry.fetch_kept_file(version, REFERENCE_FILE, scratch())
    if file is None:
        return [], "Drift was not tested: the model keeps no sample of its training data."
    if len(answers) < cfg.min_drift_samples:
        return [], f"Drift was not tested: it takes {cfg.min_drift_samples} samples (watch_data)."
    reference = Reference.read(Path(str(file)))
    kind, about = modality_of(model.meta), reference.backbone
    name = cfg.backbone.of(kind.default_backbone)
    weights = kind.find_weights(name, cfg.backbone.weights, scratch())
    encoder = Encoder(kind, name, weights, kind.preprocessing(about["preprocessing"]))
    if about != encoder.describe():
        return [], "Drift was not tested: params.yaml names another backbone than the model was trained with."
    chosen = answers.sample(min(cfg.drift_samples, len(answers)), random_state=cfg.seed).sort_index()
    z = embed_paths(root, list(chosen["path"]), encoder)
    tests = run_drift_tests(
        reference, z, list(answers["label"]), cfg.false_alarm_rate, cfg.permutations, cfg.seed
    )
    found = [row["test"] for row in tests if row["drift"]]
    if not found:
        return tests, "The samples look like those of the training."
    return tests, f"The samples differ from those of the training ({', '.join(found)}): check before use."


def embed_paths(root: str, paths: list[str], encoder: "Encoder") -> "Floats":
    """Return z (samples, features) of samples, by the pretrained backbone."""
    import hashlib

    import numpy as np
    import pandas as pd

    from steps.core.data.rows import open_source
    from steps.core.features.embedding import embed

    source = open_source(root, scratch())
    digests = [hashlib.sha256(source.read(path)).hexdigest() for path in paths]
    table = pd.DataFrame({"path": paths, "sha256": digests})
    return embed(source, table, encoder, scratch()).astype(np.float32)


def least_sure(
    model: "DeployedModel", root: str, answers: "pd.DataFrame", facts: dict[str, Any], count: int
) -> str:
    """Return the page of the answers that a person should look at first."""
    from steps.core.data.rows import open_source
    from steps.core.modalities.registry import modality_of
    from steps.core.report.contact_sheet import contact_sheet

    source, kind = open_source(root, scratch()), modality_of(model.meta)

    def show(path: str) -> str:
        return kind.show(source.read(path), path)

    return contact_sheet(answers, model.meta["labels"], show, count, facts)


if __name__ == "__main__":
    main(predict_batch)

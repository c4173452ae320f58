"""Is a retraining worth its time? What is new since the champion, and whether the inputs have drifted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from steps.artifacts.dataset import Dataset
from steps.artifacts.watch import Watch
from steps.core.backbones.settings import BackboneConfig
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Count
from steps.core.system.errors import DataError
from steps.runtime import mlflow_client
from steps.runtime.data_identity import data_root, model_name, refuse_other_data
from steps.runtime.params import From
from steps.runtime.registry import CHAMPION, Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    import pandas as pd


class WatchData(Config):
    """See params.yaml."""

    min_new_samples: Count
    """New or relabelled samples that are reason enough."""
    min_drift_samples: Annotated[int, Field(ge=8)]
    """New samples below which drift is not tested: nothing could be found."""
    samples: Annotated[int, Field(ge=8)]
    """Samples on either side of the test; of the training ones, so many are kept with the model."""
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)]
    """Probability of a false alarm, of both tests together."""
    permutations: Annotated[int, Field(ge=19)]
    name: Annotated[str | None, From("promote.name")]
    data: Annotated[str, From("ingest_data.path")]
    same_data: Annotated[float, From("promote.same_data")]
    renamed: Annotated[dict[str, str], From("promote.renamed")]
    backbone: Annotated[BackboneConfig, From("backbone")]
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]

    @model_validator(mode="after")
    def can_alarm(self) -> "WatchData":
        """Refuse so few permutations that no p-value could be small enough."""
        if 1 / (self.permutations + 1) > self.false_alarm_rate / 2:
            raise ValueError(f"permutations of at least {int(2 / self.false_alarm_rate)} for this level")
        return self


def watch_data(dataset: Dataset, cfg: WatchData) -> Annotated[Watch, "watch"]:
    """Compare the data set with what the champion knew, and decide whether to train.

    Raises:
        DataError: Samples have moved to another split since: the frozen test set would be no test.
        RegistryError: The registered model is another data set's.
    """
    import pandas as pd

    from steps.core.audit.known_samples import KNOWN

    registry = Registry(model_name(cfg.name, cfg.data), mlflow_client.connect(), data_root(cfg.data))
    refuse_other_data(registry, dataset.table, cfg.same_data, scratch())
    version = registry.aliases().get(CHAMPION)
    if version is None:
        return Watch(["there is no champion"], {"name": registry.name})
    champion = {"name": registry.name, "version": version}
    file = registry.fetch_kept_file(version, KNOWN, scratch())
    if not registry.whole(version):
        return Watch(["the champion's files are gone"], champion)
    if file is None:
        return Watch(["the champion has no record of its training data"], champion)
    known = pd.read_parquet(file)
    refuse_moved(known, dataset, version)
    new = ~dataset.table["sha256"].isin(own_rows(known)["sha256"])
    relabelled = count_relabelled(known, dataset, cfg.renamed)
    reasons = []
    if strange := other_classes(known, dataset, cfg.renamed):
        reasons.append(f"other classes: {', '.join(strange)}")
    if (fresh := int(new.sum()) + relabelled) >= cfg.min_new_samples:
        reasons.append(f"{fresh} new or relabelled samples")
    tests: list[dict[str, Any]] = []
    if new.sum() >= cfg.min_drift_samples:
        tests = look_for_drift(registry, version, dataset, new, cfg)
    reasons += [f"drift of {row['test']}: p = {row['p']:.3g}" for row in tests if row["drift"]]
    counts = {"new": int(new.sum()), "relabelled": relabelled}
    return Watch(reasons, champion, counts, tests, sorted(dataset.table["sha256"][new]))


def own_rows(known: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of the data set that the champion was trained on, without what it has inherited."""
    return known[~known["inherited"]] if "inherited" in known else known


def other_classes(known: "pd.DataFrame", dataset: Dataset, renamed: dict[str, str]) -> list[str]:
    """Return the classes that only one of the champion's data set and this one has."""
    before = dataset.labelling.explode(own_rows(known)["label"]).map(lambda name: renamed.get(name, name))
    return sorted(set(dataset.labels) ^ set(before))


def refuse_moved(known: "pd.DataFrame", dataset: Dataset, version: str) -> None:
    """Raise DataError if a sample that the champion knew is in another split now."""
    before = known.drop_duplicates("sha256").set_index("sha256")["split"]
    rows = dataset.table[dataset.table["sha256"].isin(before.index)]
    moved = rows[rows["split"] != rows["sha256"].map(before)]
    moved = moved[~returned(moved, before, known, dataset)]
    if len(moved):
        row = moved.iloc[0]
        raise DataError(
            f"{len(moved)} samples are in another split than when version {version} was trained: "
            f"{row['path']} was {before[row['sha256']]} and is {row['split']}; a test set must stay one: "
            "restore ingest_data.splits, seed and the manifest, or set promote.name to begin another model"
        )


def returned(
    moved: "pd.DataFrame", before: "pd.Series[str]", known: "pd.DataFrame", dataset: Dataset
) -> "pd.Series[bool]":
    """Say which moved samples only went back to train, since new ones of their class took their place.

    `cover_classes` lends a class's sample to a split that has none by chance, until others are there. The
    champion never learnt from what was in test, and its new test samples are new to both.
    """

    def held(rows: "pd.DataFrame") -> set[tuple[str, str]]:
        labels = dataset.labelling.explode(rows["label"])
        return set(zip(rows["split"][labels.index], labels, strict=True))

    old = dataset.table["sha256"].isin(known["sha256"])
    stayed = old & ~dataset.table.index.isin(moved.index)
    replaced = held(dataset.table[~old]) - held(dataset.table[stayed])
    were = moved.assign(split=moved["sha256"].map(before))
    lent = were.index.map(lambda row: bool(held(were.loc[[row]]) & replaced))
    return (moved["split"] == "train") & lent.to_numpy(dtype=bool)


def count_relabelled(known: "pd.DataFrame", dataset: Dataset, renamed: dict[str, str]) -> int:
    """Count the samples whose content was known under another label; another name is none."""
    from steps.core.tasks.labelling import join_labels, split_labels

    own, table = own_rows(known), dataset.table

    def now(cell: str) -> str:
        names = split_labels(cell) if dataset.label_sets else [cell]
        return join_labels(renamed.get(name, name) for name in names)

    pairs = set(zip(own["sha256"], own["label"].map(now), strict=True))
    seen = table[table["sha256"].isin(own["sha256"])]
    return sum(pair not in pairs for pair in zip(seen["sha256"], seen["label"], strict=True))


def look_for_drift(
    registry: Registry, version: str, dataset: Dataset, new: "pd.Series[bool]", cfg: WatchData
) -> list[dict[str, Any]]:
    """Hold the two-sample tests between the champion's reference and the new samples."""
    from steps.core.audit.drift import REFERENCE_FILE, Reference, embed_rows, first_rows, run_drift_tests
    from steps.core.data.rows import open_source
    from steps.core.evaluation.inference import predict_bytes
    from steps.core.features.embedding import pretrained_encoder
    from steps.core.tasks.thresholds import answers_of

    file = registry.fetch_kept_file(version, REFERENCE_FILE, scratch())
    reference = Reference.read(Path(str(file)))
    encoder = pretrained_encoder(dataset.modality, cfg.backbone, cfg.modality, dataset.table, scratch())
    # as the reference was embedded: what is `auto` may come to something else with the new samples
    encoder = encoder.with_preprocessing(encoder.modality.preprocessing(reference.backbone["preprocessing"]))
    if reference.backbone != encoder.describe():
        row = {"test": "the backbone, which is not the champion's", "p": 0.0, "limit": 0.0}
        return [{**row, "samples": 0, "drift": True}]
    champion = registry.load(version, scratch())
    mask = first_rows(new.to_numpy(), cfg.samples)
    z = embed_rows(dataset.root, dataset.table, mask, encoder, scratch())
    source = open_source(dataset.root, scratch(), dataset.table)
    paths = list(dataset.table["path"][mask])
    logits = predict_bytes(champion.network(), champion.preprocessing, map(source.read, paths))
    answers = answers_of(logits, champion.meta)  # a new sample may be of a class that it does not know
    return run_drift_tests(reference, z, answers, cfg.false_alarm_rate, cfg.permutations, cfg.seed)


if __name__ == "__main__":
    main(watch_data)

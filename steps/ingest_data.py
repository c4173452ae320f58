"""A folder, a manifest file or a hub data set in; a table with a row per sample out."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, model_validator

from steps.artifacts.dataset import Manifest
from steps.core.data.settings import Columns
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Fraction, WatchedFile
from steps.core.system.secrets import holds_secret
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class Splits(Config):
    """The share of the samples that each split gets, where the data set brings none."""

    train: Fraction
    val: Fraction
    test: Fraction

    @model_validator(mode="after")
    def sum_to_one(self) -> "Splits":
        """Refuse fractions that do not add up."""
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError("train, val and test that add up to 1")
        return self


def without_secret(path: str) -> str:
    """Refuse a URL that would carry a password into artifacts, logs and the tracker."""
    if holds_secret(path):
        raise ValueError(
            "a URL without password or key: give those to fsspec by its variables (FSSPEC_...), by its "
            "configuration in ~/.config/fsspec, or by the variables of the storage's own tools"
        )
    return path


class IngestData(Config):
    """See params.yaml."""

    path: Annotated[str, AfterValidator(without_secret)]
    corrections: WatchedFile
    """A .csv with columns path and label: labels that a person has corrected."""
    columns: Columns | None
    """Of a table; null: recognised by their names, or by their content."""
    max_unknown_formats: Fraction
    """Share of the samples that may be left out since their format is not read."""
    splits: Splits
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]


def ingest_data(cfg: IngestData) -> Annotated[Manifest, "manifest"]:
    """List the data set, hash every file, read every sample's facts, and give each row a split."""
    from steps.core.data.files import Folder
    from steps.core.data.hub import local_copy
    from steps.core.data.ingest import correct_labels, describe_samples
    from steps.core.data.layouts import find_ignored_files, read_layout
    from steps.core.data.rows import columns_of_root, open_source
    from steps.core.data.splits import assign_splits, cover_classes
    from steps.core.data.unread import refuse_unread
    from steps.core.modalities.registry import Known, modality
    from steps.core.tasks.labelling import labelling

    known = Known(tuple(cfg.modality.packages))
    path = local_copy(cfg.path, scratch(), known)
    folder, formats = Folder(path, scratch()), (known.endings, known.unread_endings, cfg.max_unknown_formats)
    if not folder.is_file():
        refuse_unread(path, folder.list(), *formats)
    root, table = read_layout(path, scratch(), known, cfg.columns)
    if folder.is_file() and not columns_of_root(root):
        refuse_unread(path, table["path"], *formats)
    kind = modality(known.recognise(root, table["path"]))
    # beside a manifest anything may lie
    left = find_ignored_files(folder, kind.endings, table["path"]) if root == path else {}
    label_sets = "labels" in table
    table = table.rename(columns={"labels": "label"})
    corrected = correct_labels(table, Path(cfg.corrections), labelling(label_sets))
    source = open_source(root, scratch())
    table = describe_samples(source, corrected, kind.describe, kind.blank_facts)
    shares, members = cfg.splits.model_dump(), labelling(label_sets).explode(table["label"])
    splits = assign_splits(table, shares, cfg.seed)
    table["split"] = cover_classes(table, splits, members, shares, cfg.seed)
    table = table.sort_values(["sha256", "path"], ignore_index=True)
    return Manifest(table, root, left, label_sets=label_sets, modality=kind.name)


if __name__ == "__main__":
    main(ingest_data)

"""A folder, a manifest file or a hub data set in; a table with a row per sample out."""

from typing import Annotated

from pydantic import model_validator

from steps.artifacts import Manifest
from steps.config import From
from steps.core.config import Config, Fraction
from steps.run import main
from steps.scratch import scratch


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


class IngestData(Config):
    """See params.yaml."""

    path: str
    splits: Splits
    seed: Annotated[int, From("seed")]


def ingest_data(cfg: IngestData) -> Annotated[Manifest, "manifest"]:
    """List the data set, hash every file, read every image's header, and give each row a split."""
    from steps.core.ingest import describe_files, local_copy
    from steps.core.layouts import assign_splits, read_layout

    folder, table = read_layout(local_copy(cfg.path, scratch()), scratch())
    table = describe_files(folder, table)
    table["split"] = assign_splits(table, cfg.splits.model_dump(), cfg.seed)
    table = table.sort_values(["sha256", "path"], ignore_index=True)
    return Manifest(table, folder.url)


if __name__ == "__main__":
    main(ingest_data)

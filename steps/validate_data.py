"""The gate: every image is decoded, the manifest is checked, and a bad data set stops the pipeline."""

from typing import Annotated

from steps.artifacts import Dataset, Manifest
from steps.config import From
from steps.core.errors import DataRejected
from steps.core.limits import Limits
from steps.ingest_data import Splits
from steps.run import main
from steps.scratch import scratch


class ValidateData(Limits):
    """See params.yaml."""

    splits: Annotated[Splits, From("ingest_data.splits")]


def validate_data(manifest: Manifest, cfg: ValidateData) -> Annotated[Dataset, "dataset"]:
    """Quarantine what cannot be decoded, check the rest, and return what is fit to train on.

    Raises:
        DataRejected: A critical check failed; lists them all, with files and remedies.
    """
    from steps.core.files import Folder
    from steps.core.quality import check, declare, decode_all, quarantine

    folder = Folder(manifest.root, scratch())
    table = decode_all(folder, manifest.table)
    suites = declare(cfg, cfg.splits.model_dump())
    findings = [quarantine(table), *check(table, suites)]
    failed = [finding for finding in findings if finding["verdict"] == "fail"]
    if failed:
        raise DataRejected(explain(failed))
    clean = table[table["error"].isna()].reset_index(drop=True)
    return Dataset(clean, manifest.root, findings, suites)


def explain(failed: list[dict[str, object]]) -> str:
    """Write the failed checks as a list for a person."""
    lines = [f"{len(failed)} critical check(s) failed; nothing was trained."]
    for finding in failed:
        files = ", ".join(str(name) for name in list(finding["files"])[:5])  # type: ignore[call-overload]
        lines.append(f"  not true: {finding['check']} ({finding['observed']}): {files}")
        lines.append(f"    remedy: {finding['remedy']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(validate_data)

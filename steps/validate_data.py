"""The gate: every image is decoded, the data set is audited, and a bad one stops the pipeline."""

from pathlib import Path
from typing import Annotated, Any

from steps.artifacts.dataset import Dataset, Manifest
from steps.core.audit.limits import Limits
from steps.core.system.config import BackboneConfig
from steps.core.system.errors import DataRejected
from steps.core.system.storage import write_file
from steps.ingest_data import Splits
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class ValidateData(Limits):
    """See params.yaml."""

    splits: Annotated[Splits, From("ingest_data.splits")]
    backbone: Annotated[BackboneConfig, From("backbone")]
    seed: Annotated[int, From("seed")]


def validate_data(manifest: Manifest, cfg: ValidateData) -> Annotated[Dataset, "dataset"]:
    """Quarantine what cannot be decoded, audit the rest, and return what is fit to train on.

    Raises:
        DataRejected: A critical check failed; lists them all, with files and remedies.
    """
    from steps.core.audit.audit import audit, leftovers
    from steps.core.audit.findings import settled
    from steps.core.audit.suites import check, corrected, declare, quarantine
    from steps.core.data.files import Folder
    from steps.core.features.embedding import embed
    from steps.core.modalities.image.moments import pretrained_preprocessing
    from steps.core.modalities.image.scan import survey
    from steps.core.report.audit_page import render_audit

    read = manifest.labelling
    suites = declare(Path(cfg.suite), cfg, cfg.splits.model_dump())
    folder = Folder(manifest.root, scratch(), manifest.table)
    seen = survey(folder, manifest.table, cfg.audit_samples)
    table = manifest.table.assign(error=seen.facts["error"].to_numpy(dtype=object))
    findings = [quarantine(table), corrected(table), *leftovers(manifest.overlooked)]
    findings += check(table, suites, read)
    stop(findings, "")
    whole = table["error"].isna().to_numpy()
    clean, seen = table[whole].reset_index(drop=True), seen.only(whole.nonzero()[0])
    look = pretrained_preprocessing(cfg.backbone.name, cfg.backbone.image_size)
    z = embed(folder, clean.head(len(seen.prints)), cfg.backbone, look, scratch())
    found = audit(clean, seen, z, cfg, cfg.seed, read)
    kept = found.repaired if cfg.repair else clean
    judged = settled(found.findings) if cfg.repair else found.findings
    after = check(kept, suites, read) if len(kept) < len(clean) else []
    findings += [*judged, *(row for row in after if row["verdict"] == "fail")]
    html = render_audit(findings, found, folder, clean, len(kept))
    write_file(scratch() / "audit" / "audit.html", html.encode())  # also where the gate then stops
    stop(findings, f"pictures: {scratch()}/audit/audit.html")
    suspects = found.suspects.to_csv(index=False)
    found_at = (manifest.root, manifest.overlooked)
    return Dataset(kept, *found_at, findings, suites, html, suspects, label_sets=manifest.label_sets)


def stop(findings: list[dict[str, Any]], hint: str) -> None:
    """Raise DataRejected if a finding is critical."""
    failed = [finding for finding in findings if finding["verdict"] == "fail"]
    if not failed:
        return
    lines = [f"{len(failed)} critical check(s) failed; nothing was trained."]
    for finding in failed:
        files = ", ".join(str(name) for name in finding["files"][:5])
        lines.append(f"  not true: {finding['check']} ({finding['observed']}): {files}")
        lines.append(f"    remedy: {finding['remedy']}")
    raise DataRejected("\n".join([*lines, *([hint] if hint else [])]))


if __name__ == "__main__":
    main(validate_data)

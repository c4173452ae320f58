"""Data validation: every sample is decoded, the data set is audited, and a bad one stops the pipeline."""

from pathlib import Path
from typing import Annotated, Any

from steps.artifacts.dataset import Dataset, Manifest
from steps.core.audit.limits import Limits
from steps.core.backbones.settings import BackboneConfig
from steps.core.modalities.settings import ModalitySettings
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
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]


def validate_data(manifest: Manifest, cfg: ValidateData) -> Annotated[Dataset, "dataset"]:
    """Quarantine what cannot be decoded, audit the rest, and return what is fit to train on.

    Raises:
        DataRejected: A critical check failed; lists them all, with files and remedies.
    """
    from steps.core.audit.audit import ReadableSamples, audit, check_ignored_files
    from steps.core.audit.suites import corrections_finding, load_suites, quarantine_finding, run_suites
    from steps.core.data.findings import mark_repaired
    from steps.core.data.rows import open_source
    from steps.core.features.embedding import embed, pretrained_encoder
    from steps.core.modalities.registry import modality
    from steps.core.report.audit_page import render_audit
    from steps.core.system.cells import quoted

    read, name = manifest.labelling, manifest.modality
    kind, settings = modality(name), cfg.modality.of(name)
    suites = load_suites(Path(cfg.suite), cfg, settings, name, cfg.splits.model_dump())
    source = open_source(manifest.root, scratch(), manifest.table)
    pairs = zip(manifest.table["error"], kind.refuse(manifest.table, settings), strict=True)
    reasons: list[Any] = [error if isinstance(error, str) else no for error, no in pairs]
    admitted = manifest.table.assign(error=reasons)
    scan = kind.scan(source, admitted, cfg.audit_samples)
    table = manifest.table.assign(error=scan.facts["error"].to_numpy(dtype=object))
    findings = [
        quarantine_finding(table),
        corrections_finding(table),
        *check_ignored_files(manifest.overlooked),
    ]
    findings += run_suites(table, suites, name, read)
    stop_if_rejected(findings, "")
    whole = table["error"].isna().to_numpy()
    clean, scan = table[whole].reset_index(drop=True), scan.select(whole.nonzero()[0])
    encoder = pretrained_encoder(name, cfg.backbone, cfg.modality, clean, scratch())
    z = embed(source, clean.head(scan.audited), encoder, scratch())
    found = audit(clean, ReadableSamples(kind, settings, scan, z), cfg, cfg.seed, read)
    kept = found.repaired if cfg.repair else clean
    judged = mark_repaired(found.findings) if cfg.repair else found.findings
    after = run_suites(kept, suites, name, read) if len(kept) < len(clean) else []
    findings += [*judged, *(row for row in after if row["verdict"] == "fail")]
    html = render_audit(findings, found, kind, source, clean, len(kept))
    write_file(scratch() / "audit" / "audit.html", html.encode())  # also where the data set is then rejected
    stop_if_rejected(findings, f"shown in {scratch()}/audit/audit.html")
    words = found.suspects.select_dtypes(exclude="number").columns
    shown = found.suspects.assign(**{name: found.suspects[name].astype(str).map(quoted) for name in words})
    suspects = shown.to_csv(index=False)
    found_at = (manifest.root, manifest.overlooked)
    seen = (kept, *found_at, findings, suites, html, suspects)
    return Dataset(*seen, label_sets=manifest.label_sets, modality=name)


def stop_if_rejected(findings: list[dict[str, Any]], hint: str) -> None:
    """Raise DataRejected if a finding is critical."""
    failed = [finding for finding in findings if finding["verdict"] == "fail"]
    if not failed:
        return
    lines = [f"{len(failed)} critical check(s) failed; nothing was trained."]
    for finding in failed:
        files = ", ".join(str(name) for name in finding["files"][:5])
        lines.append(f"  failed: {finding['check']} ({finding['observed']}): {files}")
        lines.append(f"    remedy: {finding['remedy']}")
    raise DataRejected("\n".join([*lines, *([hint] if hint else [])]))


if __name__ == "__main__":
    main(validate_data)

"""Batch prediction from the command line: the phase `predict_batch`, and its files in a folder."""

import time
from pathlib import Path

from steps.core.system.disk import disk_errors
from steps.predict_batch import PredictBatch, predict_batch
from steps.runtime.failures import ErrorBlock
from steps.runtime.journal import journal
from steps.runtime.phase import all_configs
from steps.runtime.terminal import phase_bar, terminal


def predict(model: str, data: str, out: Path) -> None:
    """Answer the samples in `data` with the champion of `model`, and write the answers into `out`.

    predictions.parquet has an answer per sample, contact_sheet.html the least sure ones, batch.json the
    counts, what could not be read, and whether the samples are like those of the training.
    """
    run, begun = f"predict-{time.strftime('%Y_%m_%d-%H_%M_%S')}", time.monotonic()
    with (
        ErrorBlock("predict", run),
        terminal(("predict_batch",), run) as shown,
        journal(run, "predict_batch"),
    ):
        cfg = all_configs()["predict_batch"]
        assert isinstance(cfg, PredictBatch)
        with phase_bar("predict_batch", run):
            made = predict_batch(cfg.model_copy(update={"model": model, "data": data}))
        with disk_errors(out):
            made.save(out)
        found = made.in_words(made.headline())
        if shown is not None:
            shown.show_phase("predict_batch", found, time.monotonic() - begun)
            for row in made.facts["skipped"][:10]:
                shown.write(f"        not readable: {row['path']}: {row['error']}")
            shown.result(
                f"look at:     {out / 'contact_sheet.html'}\npredictions: {out / 'predictions.parquet'}"
            )

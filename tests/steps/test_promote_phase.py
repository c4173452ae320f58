"""The promotion phase as a run calls it, on small pictures: who is met, on what, and what is decided anew."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Candidate, Classifier, Student
from steps.artifacts.report import Report
from steps.core.audit.known_samples import KNOWN
from steps.core.backbones.network import Network
from steps.core.data.files import Folder
from steps.core.export import parity
from steps.core.export.onnx_export import export_onnx
from steps.core.modalities.image.pixels import deterministic_view, normalise, read_image
from steps.core.modalities.parts import InputGraph
from steps.core.system.errors import ModelLostError, RegistryError
from steps.core.tasks.targets import Targets
from steps.evaluate import Evaluate, evaluate
from steps.promote import Promote, promote
from steps.runtime import mlflow_client, tracking
from steps.runtime.phase import all_configs
from steps.runtime.registry import Registry
from steps.runtime.rollback import roll_back
from tests.clone import ROOT, write_images, write_weights
from tests.core.toys import PREPROCESSING, build, modalities
from tests.steps.test_validate_data import gate
from tests.stores import use_store

LOOSE: Mapping[str, Any] = {
    "min_accuracy": 0.0, "min_macro_f1": 0.0, "max_ece": 1.0, "int8": False, "latency_runs": 3,
    "bootstrap": 100,
    "calibration_images": 4, "golden_images": 2, "reference_samples": 20, "min_unknown": 5,
    "class_margin": 1.0, "calibration_margin": 1.0,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    use_store(tmp_path, monkeypatch)
    monkeypatch.setenv("HEADSTART_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(parity, "export_onnx", export_once)
    write_images(tmp_path / "images", 40)
    return tmp_path / "images"


EXPORTED: dict[bytes, bytes] = {}


def export_once(network: Network, graph: InputGraph, temperature: float, means: Targets) -> bytes:
    """Export a network, the same one only once in all tests."""
    key = save({name: tensor.contiguous() for name, tensor in network.state().items()})
    if key not in EXPORTED:
        EXPORTED[key] = export_onnx(network, graph, temperature, means)
    return EXPORTED[key]


def fitted(dataset: Dataset, known: int | None = None, seed: int = 0) -> Classifier:
    """A random network under a head that was fitted to the first `known` classes, and never says others."""
    network = build("test_resnet", classes=len(dataset.labels))
    train = dataset.part("train")
    folder = Folder(dataset.root, Path("scratch").absolute())
    views = torch.stack(
        [deterministic_view(read_image(folder.read(path)), PREPROCESSING) for path in train["path"]]
    )
    with torch.no_grad():
        z = network.embed(normalise(views, PREPROCESSING), 0)
        y = dataset.labelling.encode(train["label"], dataset.labels)
        rows = y < (known or len(dataset.labels))
        head = LogisticRegression(max_iter=2000).fit(z[rows].numpy(), y[rows])
        network.head.weight.zero_()
        network.head.bias.fill_(-50.0)
        weight, bias = head.coef_, head.intercept_
        if len(weight) == 1:  # of two classes: the second one's against the first's
            weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
        network.head.weight[: len(weight)] = torch.tensor(weight)
        network.head.bias[: len(bias)] = torch.tensor(bias) + 1e-4 * seed  # another model, the same answers
    meta = {
        "backbone": "test_resnet", "stages": len(network.stages), "labels": dataset.labels,
        "modality": "image", "preprocessing": PREPROCESSING.to_dict(), "temperature": 1.0,
    }  # fmt: skip
    return Classifier(network.state(), meta, [], {"val_loss": 0.0})


@dataclass(frozen=True)
class Trained:
    """What the phases before the promotion have made."""

    dataset: Dataset
    warm_head: Classifier
    finetuned: Classifier
    student: Student
    report: Report


def run(dataset: Dataset, finetuned: Classifier, candidate: Any = "finetuned") -> Trained:
    """Let everything before the promotion happen."""
    other = fitted(dataset, known=2, seed=4)
    controls = {"hard_labels": fitted(dataset, 2, seed=1), "frozen": fitted(dataset, 2, seed=2)}
    student = Student(other.state, other.meta, [], other.metrics, controls, {"chosen": "x"}, {})
    cfg = Evaluate(
        bootstrap=100, mistakes=1, robustness_samples=0, candidate=candidate, same_cost=0.1, seed=0
    )
    with tracking.phase_run("run", "evaluate", {"seed": 0}, {}):
        warm_head = fitted(dataset, 2, seed=3)
        report = evaluate(dataset, warm_head, finetuned, student, cfg)
    return Trained(dataset, warm_head, finetuned, student, report)


def config(path: Path | str, **changes: Any) -> Promote:
    shipped = all_configs(ROOT / "params.yaml")["promote"].model_dump()
    lax = {"fp32": {"logits": 1.0, "probabilities": 1.0, "top1": 0.0}}
    backbone = {
        "name": "test_efficientnet",
        "weights": str(Path("w.safetensors").absolute()),
    }
    settings = {
        **shipped,
        **LOOSE,
        "data": str(path),
        "backbone": backbone,
        "modality": modalities(),
        **changes,
    }
    parity = {**shipped["parity"], **lax, **changes.get("parity", {})}
    return Promote.model_validate({**settings, "parity": parity})


def decide(made: Trained, path: Path | str = "images", **changes: Any) -> Decision:
    with tracking.phase_run("run", "promote", {"seed": 0}, {}):
        cfg = config(path, **changes)
        return promote(made.dataset, made.warm_head, made.finetuned, made.student, made.report, cfg)


def found(decision: Decision) -> dict[str, dict[str, Any]]:
    return {row["gate"]: row for row in decision.gates}


def registry(name: str = "images") -> Registry:
    return Registry(name, mlflow_client.connect())


def champion(name: str = "images") -> str | None:
    return registry(name).aliases().get("champion")


def test_changed_limits_are_judged_anew_and_unchanged_ones_are_not(images: Path) -> None:
    dataset = gate(images)
    made = run(dataset, fitted(dataset, known=2))
    assert decide(made, max_megabytes=1e-4).verdict == "rejected"
    assert champion() is None
    first = decide(made, max_ece=1.0)
    assert (first.verdict, first.registered["version"]) == ("promoted", "2")
    assert decide(made, max_ece=1.0).digest == first.digest
    assert decide(made, max_megabytes=1e-4).verdict == "rejected", "as it was then: nobody was champion"
    assert len(registry().versions()) == 2, "nothing is judged twice"
    strict = decide(made, min_accuracy=1.0)
    assert (strict.verdict, found(strict)["accuracy"]["passed"]) == ("not promoted", False)
    assert champion() == "2", "it is champion, and would not be made so again"
    assert decide(made, max_ece=1.0).digest == first.digest


def test_a_better_model_meets_the_champion_and_a_rolled_back_one_does_not_come_back(images: Path) -> None:
    dataset = gate(images)
    decide(run(dataset, fitted(dataset, known=2)))
    better = run(dataset, fitted(dataset))
    decision = decide(better)
    assert decision.verdict == "promoted"
    assert found(decision)["test images unknown to both"]["found"]["value"] == len(dataset.part("test"))
    assert roll_back(registry(), "ann", "too many false alarms", force=False) == ("1", "2")
    again = decide(better)
    assert (again.verdict, champion()) == ("rolled back", "1")
    other = decide(better, max_ece=0.9)
    assert (other.verdict, champion()) == ("not promoted", "1")
    assert found(other)["not rolled back"]["note"] == "ann: too many false alarms"
    roll_back(registry(), "ann", "they were real", force=True)
    assert decide(better).verdict == "promoted"


def test_the_champion_is_met_only_on_images_that_neither_has_learnt_from(images: Path) -> None:
    first, second = gate(images), gate(images, seed=0)
    moved = second.table.copy()
    was_train = moved.index[moved["split"] == "train"][:6]
    was_test = moved.index[moved["split"] == "test"][:6]
    moved.loc[was_train, "split"], moved.loc[was_test, "split"] = "test", "train"
    second = Dataset(moved, second.root, second.overlooked, second.findings, second.suite)
    decide(run(first, fitted(first, known=2)))
    made = run(second, fitted(second))
    few = decide(made, min_unknown=len(second.part("test")))
    assert (few.verdict, champion()) == ("not promoted", "1")
    assert "too few to be compared on" in found(few)["test images unknown to both"]["note"]
    assert "beats champion" not in found(few), "they are not compared"
    decision = decide(made)
    row = found(decision)["test images unknown to both"]
    assert row["found"]["value"] == len(second.part("test")) - 6
    assert "the champion has learnt from 6 (6 by their bytes, 0 by their print)" in row["note"]
    assert "the challenger has learnt from 0" in row["note"]
    assert decision.verdict == "promoted"


def test_a_data_set_that_was_saved_again_is_not_unknown(images: Path, tmp_path: Path) -> None:
    first = gate(images)
    decide(run(first, fitted(first, known=2)))
    for path in sorted(images.rglob("*.png")):
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    again = gate(images, modality=modalities(formats=["JPEG"]))
    assert not set(first.table["sha256"]) & set(again.table["sha256"])
    decision = decide(run(again, fitted(again)))
    row = found(decision)["test images unknown to both"]
    names = {path.rpartition(".")[0] for path in first.table["path"][first.table["split"] != "test"]}
    tested = [path.rpartition(".")[0] for path in again.part("test")["path"]]
    strangers = [name for name in tested if name not in names]
    assert 0 < len(strangers) < len(tested)
    assert row["found"]["value"] == len(strangers)


def test_a_new_class_is_compared_on_the_common_ones(images: Path) -> None:
    first = gate(images)
    decide(run(first, fitted(first, known=2)))
    generator = np.random.default_rng(7)
    (images / "yellow").mkdir()
    for number in range(20):
        pixels = generator.integers(0, 160, (40, 48, 3))
        pixels[..., :2] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(images / "yellow" / f"{number:03d}.png")
    second = gate(images)
    made = run(second, fitted(second))
    decision = decide(made)
    assert decision.verdict == "promoted", decision.gates
    rows = found(decision)
    common = int((second.part("test")["label"] != "yellow").sum())
    assert rows["test images unknown to both"]["found"]["value"] == common
    assert "new: yellow" in rows["beats champion"]["note"]
    shutil.rmtree(images / "green")
    third = gate(images)
    refused = decide(run(third, fitted(third)))
    assert refused.verdict == "not promoted"
    assert "the champion knows green, which" in found(refused)["beats champion"]["note"]


def test_two_data_sets_whose_folders_have_one_name_do_not_share_a_model(images: Path, tmp_path: Path) -> None:
    places = [tmp_path / plant / "images" for plant in ("plantA", "plantB")]
    shutil.copytree(images, places[0])
    write_images(places[1], 40)
    write_weights(tmp_path / "w.safetensors")
    for number, path in enumerate(sorted(places[1].rglob("*.png"))):
        pixels = np.random.default_rng(1000 + number).integers(0, 160, (40, 48, 3))
        pixels[..., ["red", "green", "blue"].index(path.parent.name)] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    one, other = map(gate, places)
    decide(run(one, fitted(one, known=2)), places[0])
    made = run(other, fitted(other))
    with pytest.raises(RegistryError) as caught:
        decide(made, places[1])
    for words in (str(places[0]), str(places[1]), "0 of 120 files are in common", "set promote.name"):
        assert words in str(caught.value)
    assert (champion(), len(registry().versions())) == ("1", 1)
    assert decide(made, places[1], name="plant B").verdict == "promoted"
    assert champion("plant B") == "1"


def test_a_data_set_that_was_moved_or_has_grown_stays_the_same(images: Path, tmp_path: Path) -> None:
    dataset = gate(images)
    made = run(dataset, fitted(dataset, known=2))
    first = decide(made)
    elsewhere = tmp_path / "elsewhere" / "images"
    shutil.copytree(images, elsewhere)
    assert decide(made, elsewhere).digest == first.digest
    better = run(dataset, fitted(dataset))
    assert decide(better, elsewhere).verdict == "promoted"
    tags = mlflow_client.connect().get_registered_model("images").tags
    assert tags["data_root"] == str(elsewhere)
    assert decide(better, "hub:someone/images").verdict == "promoted", "the same files from a hub"


def test_a_lost_champion_stops_the_promotion_in_words_and_not_for_good(images: Path) -> None:
    dataset = gate(images)
    decide(run(dataset, fitted(dataset, known=2)))
    source = Path(mlflow_client.connect().get_model_version_download_uri("images", "1"))
    source.rename(source.with_name("elsewhere"))
    better = run(dataset, fitted(dataset))
    with pytest.raises(ModelLostError, match=r"version 1 .* cannot be loaded, nothing lies at"):
        decide(better)
    assert (champion(), len(registry().versions())) == ("1", 1)
    decision = decide(better, on_lost_champion="succeed")
    assert (decision.verdict, champion()) == ("promoted", "2")
    assert "files of version 1 are gone" in found(decision)["champion can be met"]["note"]
    source.with_name("elsewhere").rename(source)
    assert roll_back(registry(), "ann", "the files were found", force=False) == ("1", "2")


def test_every_model_that_was_judged_is_a_look_and_one_more_image_forgets_none(images: Path) -> None:
    dataset = gate(images)
    first = decide(run(dataset, fitted(dataset, known=2)))
    assert first.measured["test_uses"] == 5, "three models and two controls, whose digests differ"
    second = decide(run(dataset, fitted(dataset)))
    assert second.measured["test_uses"] == 6, "the one that is new; the champion has seen it before"
    table = dataset.table.copy()
    spare = table.index[table["split"] == "train"][0]
    table.loc[spare, "split"] = "test"
    grown = Dataset(table, dataset.root, dataset.overlooked, dataset.findings, dataset.suite)
    third = decide(run(grown, fitted(grown)), max_test_uses=1)
    assert third.measured["test_uses"] > 6, "one added image is no new test set"
    assert not found(third)["models judged on the test set"]["passed"]


def test_what_is_kept_with_a_version_is_enough_to_know_its_samples_again(images: Path) -> None:
    import pandas as pd

    dataset = gate(images)
    decide(run(dataset, fitted(dataset)))
    file = registry().fetch_kept_file("1", KNOWN, Path("scratch").absolute())
    known = pd.read_parquet(str(file))
    assert list(known) == ["sha256", "split", "label", "print", "inherited"]
    assert set(known["sha256"]) == set(dataset.table["sha256"])
    assert (known["print"].notna() == (known["split"] != "test")).all()


def test_the_best_model_on_validation_is_put_forward_whichever_phase_made_it(images: Path) -> None:
    dataset = gate(images)
    good, poor = fitted(dataset), fitted(dataset, known=2)
    made = run(dataset, poor, "auto")
    assert made.report.metrics["candidate"]["metric"] == "accuracy"
    assert {row["model"] for row in made.report.metrics["candidate"]["rows"]} == set(get_args(Candidate))
    controls = {**made.student.controls, "frozen": good}
    best = replace(made.student, controls=controls)
    cfg = Evaluate(bootstrap=100, mistakes=1, robustness_samples=0, candidate="auto", same_cost=0.1, seed=0)
    with tracking.phase_run("run", "evaluate", {"seed": 0}, {}):
        report = evaluate(dataset, made.warm_head, poor, best, cfg)
    decision = decide(Trained(dataset, made.warm_head, poor, best, report))
    assert (decision.candidate["chosen"], decision.model) == ("student_frozen", "student frozen")
    assert decision.headline()["model"] == "student frozen"
    assert registry().champion(Path("scratch")).digest == good.digest  # type: ignore[union-attr]
    assert any(line.startswith("Put forward: student frozen; validation") for line in decision.explanation())
    card = Path(mlflow_client.download(f"{model_folder('1')}/card.md", "card")).read_text()
    assert "Chosen among the run's models: student frozen" in card


def model_folder(version: str) -> str:
    return str(mlflow_client.connect().get_model_version_download_uri("images", version))


def test_an_int8_file_that_does_not_agree_is_withheld_and_blocks_nothing(images: Path) -> None:
    dataset = gate(images)
    made = run(dataset, fitted(dataset))
    never = {"logits": 1e-9, "probabilities": 1e-9, "top1": 1.0}
    decision = decide(made, int8=True, parity={"int8": never})
    assert decision.verdict == "promoted"
    assert not any("int8" in row["gate"] for row in decision.gates)
    exact, small = decision.deployment
    assert (exact["variant"], exact["withheld"]) == ("fp32", "")
    assert small["withheld"].startswith("logits: mean difference, in standard deviations")
    assert "Withheld: finetuned, int8, which does not agree" in decision.explanation()[-1]
    listed = {path.name for path in Path(model_folder("1")).iterdir()}
    assert "model.onnx" in listed
    assert "model.int8.onnx" not in listed
    loose = {"logits": 100.0, "probabilities": 1.0, "top1": 0.0}
    agreed = decide(made, int8=True, parity={"int8": loose})
    assert agreed.deployment[1]["withheld"] == ""
    assert "model.int8.onnx" in {path.name for path in Path(model_folder("2")).iterdir()}

"""params.yaml is checked as a whole, and says what is wrong in the words of the file."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from steps import BATCH, PHASES, RETRAINING
from steps.core.system.code import ROOT
from steps.core.system.errors import ParamsError
from steps.runtime.params import DATA_FOLDER
from steps.runtime.phase import all_configs, all_phases

PARAMS = (ROOT / "params.yaml").read_text()


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        all_configs(path)
    return str(caught.value)


def test_the_file_that_is_shipped_is_right_and_every_phase_has_its_section() -> None:
    assert set(all_configs(ROOT / "params.yaml")) == {*PHASES, *RETRAINING, *BATCH, "retraining", "serve"}


def test_no_config_has_a_default_so_every_number_stands_in_the_file() -> None:
    for phase in all_phases():
        for name, field in phase.config.model_fields.items():
            assert field.is_required(), f"{phase.name}.{name}"


def test_a_misspelt_section_is_named_with_those_that_exist(tmp_path: Path) -> None:
    said = problems(tmp_path, PARAMS.replace("fine_tune:", "fine_tuen:"))
    assert "fine_tuen: unknown section" in said
    assert "fine_tune: found None, expected a section of that name" in said
    assert "fine_tune.unfreeze: missing" in said


def test_a_shared_value_is_reported_under_the_key_where_it_stands_and_once(tmp_path: Path) -> None:
    said = problems(tmp_path, PARAMS.replace("  size: auto", "  size: 8"))
    assert said.count("modality.image.size: found 8, expected greater than or equal to 32 or 'auto'") == 1
    assert said.count("found 8") == 1


def test_a_value_that_is_owned_elsewhere_is_refused_in_a_section(tmp_path: Path) -> None:
    said = problems(tmp_path, PARAMS.replace("measure_stats:\n", "measure_stats:\n  modality: x\n"))
    assert "measure_stats.modality: unknown key; it is set once, as modality" in said


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ratio_high: 1.0", "ratio_high: 1.5", "ratio_low < ratio_high <= 1"),
        ("test: 0.30", "test: 0.35", "train, val and test that add up to 1"),
        ("schedule: cosine\n", "schedule: cosin\n", "'constant', 'cosine' or 'one_cycle'"),
        ("dtype: float16", "dtype: float61", "'float16' or 'float32'"),
        ("unfreeze: 3", "unfreeze: none", "fine_tune.unfreeze"),
        ("seed: 0", "seed: 0.5", "seed: found 0.5, expected a valid integer"),
        ("epochs: 3", "epochs: '3'", "search_lr_ratio.epochs: found '3'"),
        (
            "inverse_penalties: [1.0e-5, 1.0e+3]",
            "inverse_penalties: [1.0e+3, 1.0e-5]",
            "warm_up_head.inverse_penalties: found [1000.0, 1e-05], expected the least first",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_what_may_be(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in PARAMS
    assert expected in problems(tmp_path, PARAMS.replace(old, new, 1))


def test_cutmix_is_refused_where_only_the_head_is_fine_tuned(tmp_path: Path) -> None:
    head, section = PARAMS.split("fine_tune:\n")
    for unfreeze, refused in (("0", True), ("1", False), ("all", False)):
        changed = section.replace("unfreeze: 3", f"unfreeze: {unfreeze}")
        changed = changed.replace("cutmix: 0.0", "cutmix: 1.0", 1)
        path = tmp_path / "params.yaml"
        path.write_text(f"{head}fine_tune:\n{changed}")
        if refused:
            with pytest.raises(ParamsError, match="expected cutmix 0 where unfreeze is 0: the head"):
                all_configs(path)
        else:
            assert all_configs(path)["fine_tune"].model_dump()["cutmix"] == 1.0


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    assert "duplicate key" in problems(tmp_path, PARAMS + "\nseed: 1\n")


@pytest.mark.parametrize("text", ["a: [", "\tseed: 1", "- 1\n- 2\n", ""])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    assert "params.yaml" in problems(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml does not exist"):
        all_configs(tmp_path / "nowhere.yaml")


def test_the_data_folder_can_be_given_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_FOLDER, "/elsewhere")
    assert all_configs(ROOT / "params.yaml")["ingest_data"].path == "/elsewhere"  # type: ignore[attr-defined]


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("weight_decay: 1.0e-2", "weight_decay: 1e-2"))
    assert all_configs(path)["fine_tune"].weight_decay == 1e-2  # type: ignore[attr-defined]


@pytest.mark.parametrize("preset", ["feature_extraction", "partial", "full"])
def test_a_preset_takes_over_its_sections_whole(tmp_path: Path, preset: str) -> None:
    yaml = YAML(typ="safe")
    params = yaml.load(PARAMS)
    sections = yaml.load(ROOT / f"infra/presets/{preset}.yaml")
    assert set(sections) == {"search_lr_ratio", "fine_tune"}
    path = tmp_path / "params.yaml"
    YAML().dump({**params, **sections}, path)
    assert all_configs(path)["fine_tune"].model_dump()["unfreeze"] == sections["fine_tune"]["unfreeze"]


def test_a_document_that_stands_for_billions_of_values_is_refused_at_once(tmp_path: Path) -> None:
    laughs = "a0: &a0 [lol, lol]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    assert "more than 100000 values by its aliases" in problems(tmp_path, PARAMS + laughs)
    assert "more than 1000000 bytes" in problems(tmp_path, PARAMS + "#" + "x" * 1_000_000)
    assert "nested too deeply" in problems(tmp_path, PARAMS + "deep: " + "[" * 5000 + "]" * 5000)

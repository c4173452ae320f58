from pathlib import Path

import pytest
import torch

from steps.core.backbones.network import Network
from steps.core.features.batches import Batches
from steps.core.strategy.trials import Rates, Trials
from tests.core.toys import RECIPE, Pictures, batches, build, cached, same_state

RATES = Rates(1e-2, 0.5, 0.01)


@pytest.fixture(scope="module")
def network() -> Network:
    return build("test_resnet")


@pytest.fixture(scope="module")
def found(pictures: Pictures, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    source = cached(pictures, network, 3, tmp_path_factory.mktemp("features"))
    return batches(source, source.index, 6)


@pytest.fixture
def trials(network: Network, found: Batches, tmp_path: Path) -> Trials:
    return Trials(network, 3, found, RECIPE, 2, tmp_path)


def test_a_finished_run_is_kept_and_not_trained_again(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trials.run(RATES, 7)
    (path,) = trials.folder.iterdir()
    before = path.read_bytes()
    monkeypatch.setattr("steps.core.strategy.trials.fit", None)
    again = trials.run(RATES, 7)
    assert again.val_losses == first.val_losses
    assert same_state(again.state, first.state)
    path.unlink()
    monkeypatch.undo()
    trials.run(RATES, 7)
    assert path.read_bytes() == before


def test_a_broken_file_is_trained_again(trials: Trials) -> None:
    first = trials.run(RATES)
    (path,) = trials.folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert same_state(trials.run(RATES).state, first.state)


def test_what_differs_in_rates_seed_or_stages_is_another_run(trials: Trials) -> None:
    runs = [
        trials.run(RATES),
        trials.run(RATES, 1),
        trials.run(RATES, None, 1),
        trials.run(Rates(1e-2, 0.1, 0.01)),
        trials.run(Rates(1e-2, 0.5, 0.5)),
    ]
    assert len(list(trials.folder.iterdir())) == 5
    assert len({tuple(run.val_losses) for run in runs}) == 5


def test_fewer_stages_leave_the_others_as_they_were(trials: Trials, network: Network) -> None:
    own = network.state()
    narrow, wide = trials.run(RATES, None, 1).state, trials.run(RATES).state
    changed = {name for name, tensor in narrow.items() if not torch.equal(tensor, own[name])}
    assert changed < {name for name, tensor in wide.items() if not torch.equal(tensor, own[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("backbone")} == {"layer4"}


def test_the_kept_weights_give_the_kept_logits_and_the_best_loss(trials: Trials, found: Batches) -> None:
    run = trials.run(RATES)
    restored = trials.with_state(run.state)
    with torch.inference_mode():
        logits = torch.cat([restored(batch.x, 3) for batch in found.deterministic("val")])
    assert torch.equal(logits, run.val_logits)
    labels = torch.cat([batch.y for batch in found.deterministic("val")])
    loss = float(torch.nn.functional.cross_entropy(logits, labels))
    assert loss == pytest.approx(run.val_loss) == pytest.approx(min(run.val_losses))


def test_a_run_that_diverges_is_empty_and_infinite(trials: Trials) -> None:
    run = trials.run(Rates(1e30, 1.0, 0.0))
    assert run.val_loss == float("inf")
    assert not list(trials.folder.iterdir())

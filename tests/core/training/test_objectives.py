import math
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from steps.core.backbones.network import Network
from steps.core.features.batches import Batch, Batches
from steps.core.system.errors import BackboneError
from steps.core.training.objectives import Classify, Distil, class_weights, draw_beta, mix
from tests.core.toys import PLAIN, RECIPE, build

CLASSES = 4
SEEDS = st.integers(0, 2**31)


def linear(seed: int = 0, scale: float = 1.0) -> Network:
    """A network without stages: a head on vectors of eight."""
    torch.manual_seed(seed)
    network = Network([], 8, CLASSES, layout="channels_first")
    nn.init.normal_(network.head.weight, std=scale)
    return network


def oracle(margin: float) -> Network:
    """A network that answers with the place of the one in the first four numbers, by `margin`."""
    network = Network([], 8, CLASSES, layout="channels_first")
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(CLASSES, 8) * margin)
        network.head.bias.zero_()
    return network


def batch(n: int = 6, seed: int = 0) -> Batch:
    """Vectors whose first four numbers are the label's one-hot code and whose others are noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=generator)
    noise = torch.randn(n, 4, generator=generator)
    return Batch(torch.cat([F.one_hot(y, CLASSES).float(), noise], dim=1), y)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(SEEDS)
def test_distilling_from_one_hot_answers_at_temperature_one_is_cross_entropy(seed: int) -> None:
    student, found = linear(seed), batch(seed=seed)
    loss = Distil(oracle(60.0), 1.0, 1.0, PLAIN)(student, found, 0, dice())
    torch.testing.assert_close(loss, F.cross_entropy(student(found.x), found.y), atol=1e-6, rtol=1e-5)


@given(SEEDS, st.floats(0.5, 10))
def test_without_the_teacher_s_word_distilling_is_cross_entropy(seed: int, temperature: float) -> None:
    student, found = linear(seed), batch(seed=seed)
    loss = Distil(linear(seed + 1), temperature, 0.0, PLAIN)(student, found, 0, dice())
    assert torch.equal(loss, F.cross_entropy(student(found.x), found.y))


@given(SEEDS, st.floats(0.5, 10), st.floats(0, 1))
def test_the_loss_is_hinton_s_formula(seed: int, temperature: float, alpha: float) -> None:
    student, teacher, found = linear(seed), linear(seed + 1), batch(seed=seed)
    with torch.no_grad():
        p = (teacher(found.x).double() / temperature).softmax(1)
        q = (student(found.x).double() / temperature).softmax(1)
        kl = (p * (p / q).log()).sum(1).mean()
        hard = F.cross_entropy(student(found.x).double(), found.y)
        wanted = alpha * temperature**2 * kl + (1 - alpha) * hard
    loss = Distil(teacher, temperature, alpha, PLAIN)(student, found, 0, dice())
    torch.testing.assert_close(loss.double(), wanted, atol=1e-5, rtol=1e-4)


def test_the_gradient_does_not_reach_the_teacher_but_does_reach_the_student() -> None:
    student, teacher = linear(0), linear(1)
    Distil(teacher, 2.0, 0.7, PLAIN)(student, batch(), 0, dice()).backward()
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())


def test_a_student_that_agrees_with_its_teacher_has_nothing_left_to_learn_from_it() -> None:
    student = linear(3)
    loss = Distil(linear(3), 4.0, 1.0, PLAIN)(student, batch(), 0, dice())
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert student.head.weight.grad is not None
    assert student.head.weight.grad.abs().max() < 1e-6


def test_the_size_of_the_gradient_does_not_fall_with_the_temperature() -> None:
    norms = []
    for temperature in (5.0, 50.0):
        student = linear(0, 0.1)
        Distil(linear(1, 0.1), temperature, 1.0, PLAIN)(student, batch(), 0, dice()).backward()
        assert student.head.weight.grad is not None
        norms.append(student.head.weight.grad.norm().item())
    assert norms[1] == pytest.approx(norms[0], rel=0.2)


def test_teacher_and_student_enter_at_the_same_boundary() -> None:
    network = build("test_resnet")
    x = torch.randn(3, 3, 32, 32, generator=dice())
    y = torch.tensor([0, 1, 2])
    with torch.no_grad():
        h = network.run(x, 0, 3)
        task = Distil(build("test_resnet", keep=4), 2.0, 0.5, PLAIN)
        assert torch.equal(task(network, Batch(h, y), 3, dice()), task(network, Batch(x, y), 0, dice()))


@given(SEEDS, st.floats(0, 0.9))
def test_label_smoothing_gives_every_class_its_share(seed: int, smoothing: float) -> None:
    network, found = linear(seed), batch(seed=seed)
    recipe = RECIPE.model_copy(update={"label_smoothing": smoothing})
    wanted = F.one_hot(found.y, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    loss = Classify(recipe)(network, found, 0, dice())
    exact = -(wanted * network(found.x).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, exact, atol=1e-5, rtol=1e-5)


@given(SEEDS, st.floats(0.1, 4))
def test_the_loss_of_a_mixture_is_that_of_the_mixed_labels(seed: int, alpha: float) -> None:
    network, found = linear(seed), batch(seed=seed)
    recipe = RECIPE.model_copy(update={"mixup": alpha, "label_smoothing": 0.0})
    loss = Classify(recipe)(network, found, 0, dice(seed))
    x, share, partner = mix(found.x, recipe, dice(seed))
    codes = F.one_hot(found.y, CLASSES).float()
    soft = share * codes + (1 - share) * codes[partner]
    torch.testing.assert_close(loss, F.cross_entropy(network(x), soft), atol=1e-5, rtol=1e-5)


@given(SEEDS, st.floats(0.1, 4), st.integers(2, 9))
def test_mixup_weighs_each_sample_and_its_partner_by_the_stated_share(
    seed: int, alpha: float, n: int
) -> None:
    x = torch.eye(n)
    recipe = RECIPE.model_copy(update={"mixup": alpha})
    mixed, share, partner = mix(x, recipe, dice(seed))
    assert 0 <= share <= 1
    assert sorted(partner.tolist()) == list(range(n))
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[partner])


@given(SEEDS, st.floats(0.1, 4), st.integers(1, 12), st.integers(1, 12))
def test_cutmix_s_share_is_the_area_that_is_really_left(
    seed: int, alpha: float, height: int, width: int
) -> None:
    n = 5
    x = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 2, height, width).contiguous()
    mixed, share, partner = mix(x, RECIPE.model_copy(update={"cutmix": alpha}), dice(seed))
    for row in range(n):
        own = mixed[row] == row
        assert (own | (mixed[row] == partner[row])).all()
        if partner[row] != row:
            assert own.double().mean().item() == pytest.approx(share)
            cut = (~own[0]).nonzero()
            if len(cut):  # one rectangle, the same in every channel
                extent = cut.max(0).values - cut.min(0).values + 1
                assert len(cut) == extent.prod()
            assert torch.equal(own[0], own[1])


def kinds(x: Tensor, **fields: float) -> set[str]:
    """What happens to a batch of ones and zeros over many draws."""
    found = set()
    for seed in range(40):
        mixed, share, _ = mix(x, RECIPE.model_copy(update=fields), dice(seed))
        whole = bool(((mixed == 0) | (mixed == 1)).all())
        found.add("none" if share == 1 else "cut" if whole else "blend")
    return found


def test_with_both_on_a_coin_decides() -> None:
    x = torch.eye(9)[:, :, None, None].expand(9, 9, 8, 8)
    assert {"cut", "blend"} <= kinds(x, mixup=1.0, cutmix=1.0)
    assert kinds(x, mixup=1.0) == {"blend"}
    assert "blend" not in kinds(x, cutmix=1.0)


@pytest.mark.parametrize("fields", [{"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
@pytest.mark.parametrize(
    ("x", "kind"), [(torch.eye(9), "vectors"), (torch.eye(9)[:, None].expand(9, 5, 9), "tokens")]
)
def test_vectors_and_tokens_cannot_be_cut_and_that_is_said_instead_of_doing_nothing(
    x: Tensor, kind: str, fields: dict[str, float]
) -> None:
    with pytest.raises(BackboneError, match=f"cutmix: found 1, and the training reads {kind}"):
        mix(x, RECIPE.model_copy(update=fields), dice())
    assert kinds(x, mixup=1.0) == {"blend"}


@given(SEEDS, st.floats(0, 0.9), st.floats(0, 1))
def test_a_student_s_labels_are_smoothed_and_its_teacher_s_word_is_not(
    seed: int, smoothing: float, alpha: float
) -> None:
    student, teacher, found = linear(seed), linear(seed + 1), batch(seed=seed)
    recipe = RECIPE.model_copy(update={"label_smoothing": smoothing})
    loss, plain = (Distil(teacher, 2.0, alpha, one)(student, found, 0, dice()) for one in (recipe, PLAIN))
    logits = student(found.x)
    smooth = F.cross_entropy(logits, found.y, label_smoothing=smoothing)
    wanted = (1 - alpha) * (smooth - F.cross_entropy(logits, found.y))
    torch.testing.assert_close(loss - plain, wanted, atol=1e-5, rtol=1e-4)


@given(SEEDS, st.floats(0.1, 4), st.floats(0, 1))
def test_a_mixture_s_labels_are_mixed_and_the_teacher_is_asked_about_the_mixture_itself(
    seed: int, mixup: float, alpha: float
) -> None:
    student, teacher, found = linear(seed), linear(seed + 1), batch(seed=seed)
    recipe = PLAIN.model_copy(update={"mixup": mixup})
    loss = Distil(teacher, 3.0, alpha, recipe)(student, found, 0, dice(seed))
    x, share, partner = mix(found.x, recipe, dice(seed))
    codes = F.one_hot(found.y, CLASSES).float()
    hard = F.cross_entropy(student(x), share * codes + (1 - share) * codes[partner])
    taught = (teacher(x) / 3).softmax(1)
    soft = 9 * F.kl_div((student(x) / 3).log_softmax(1), taught, reduction="batchmean")
    torch.testing.assert_close(loss, alpha * soft + (1 - alpha) * hard, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout"])
def test_a_student_s_map_is_cut_through_all_channels_and_the_teacher_sees_the_same_cut(name: str) -> None:
    network = build("test_mambaout") if name == "test_mambaout" else build("test_resnet")
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    def spy() -> Network:
        return Network([nn.Identity(), Watched()], 5, CLASSES, network.layout)

    shape = (3, 6, 6, 5) if network.layout == "channels_last" else (3, 5, 6, 6)
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(shape).contiguous()
    task = Distil(spy(), 2.0, 0.5, PLAIN.model_copy(update={"cutmix": 1.0}))
    for seed in range(10):
        seen.clear()
        task(spy(), Batch(x, torch.tensor([0, 1, 2])), 1, dice(seed))
        own, teacher_s = seen
        assert torch.equal(own, teacher_s)
        channels = own if network.layout == "channels_last" else own.permute(0, 2, 3, 1)
        assert (channels == channels[..., :1]).all()
        if not torch.equal(own, x):
            break
    assert not torch.equal(own, x), "in ten draws something is cut"


def test_a_cut_goes_through_all_channels_also_where_they_come_last() -> None:
    network = build("test_mambaout")
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    spy = Network([nn.Identity(), Watched()], 5, CLASSES, network.layout)
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 6, 6, 5).contiguous()
    recipe = RECIPE.model_copy(update={"cutmix": 1.0})
    for seed in range(10):
        Classify(recipe)(spy, Batch(x, torch.tensor([0, 1, 2])), 1, dice(seed))
    assert any(not torch.equal(found, x) for found in seen)
    assert all((found == found[..., :1]).all() for found in seen)


def test_mixing_leaves_the_batch_that_it_was_given_as_it_was() -> None:
    x = torch.rand(4, 3, 8, 8)
    before = x.clone()
    for fields in ({"mixup": 1.0}, {"cutmix": 1.0}, {}):
        mix(x, RECIPE.model_copy(update=fields), dice(3))
        assert torch.equal(x, before)


def test_mixing_depends_on_its_own_generator_alone() -> None:
    recipe = RECIPE.model_copy(update={"mixup": 0.4, "cutmix": 1.0})
    x = torch.rand(6, 3, 8, 8)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = mix(x, recipe, dice(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    other = mix(x, recipe, dice(5))
    assert torch.equal(one[0], other[0])
    assert one[1] == other[1]
    assert mix(x, recipe, dice(6))[1] != one[1]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_has_the_mean_and_variance_of_a_beta_distribution(alpha: float) -> None:
    generator = dice()
    draws = torch.tensor([draw_beta(alpha, generator) for _ in range(4000)]).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(draws.mean() - 0.5) < 4 * math.sqrt(variance / 4000)
    assert draws.var().item() == pytest.approx(variance, rel=0.1)


def rows(train: list[Any], val: list[Any]) -> Batches:
    """Batches of which only labels and splits are asked."""
    splits = ["train"] * len(train) + ["val"] * len(val)
    index = pd.DataFrame({"label": [*train, *val], "split": splits})
    return Batches(None, index, 0, 4, 0)  # type: ignore[arg-type]


def weighing(choice: str) -> Any:
    return RECIPE.model_copy(update={"class_weights": choice})


@pytest.mark.parametrize(
    ("choice", "counts", "weighted"),
    [
        ("auto", (9, 3), False),
        ("auto", (10, 3), True),
        ("auto", (9, 9, 9), False),
        ("balanced", (3, 3), True),
        ("none", (50, 2), False),
    ],
)
def test_classes_weigh_alike_in_all_where_they_differ_by_more_than_three_to_one(
    choice: str, counts: tuple[int, ...], weighted: bool
) -> None:
    labels = [number for number, count in enumerate(counts) for _ in range(count)]
    found = class_weights(weighing(choice), rows(labels, [1] * 40))
    assert (found is not None) is weighted
    if found is not None:
        sums = found * torch.tensor(counts)
        torch.testing.assert_close(sums, torch.full_like(sums, len(labels) / len(counts)))
        assert found[labels].mean() == pytest.approx(1.0)


def test_a_class_without_training_samples_changes_no_weight_of_the_others() -> None:
    found = class_weights(weighing("auto"), rows([0] * 8 + [2] * 2, [1, 2]))
    assert found is not None
    assert found[[0, 2]].tolist() == [10 / 16, 10 / 4]


def test_label_sets_are_not_weighted() -> None:
    assert class_weights(weighing("balanced"), rows([[1, 0]] * 9 + [[0, 1]], [[1, 1]])) is None


@given(SEEDS, st.booleans())
def test_a_weighted_loss_is_the_loss_of_the_samples_as_often_as_they_weigh(seed: int, taught: bool) -> None:
    network, found = linear(seed), batch(seed=seed)
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0])
    task = Distil(linear(seed + 1), 2.0, 0.0, RECIPE, weights) if taught else Classify(RECIPE, weights)
    often = found.y.repeat_interleave(weights[found.y].long())
    x = found.x.repeat_interleave(weights[found.y].long(), dim=0)
    smoothing = RECIPE.label_smoothing
    wanted = F.cross_entropy(network(x), often, label_smoothing=smoothing, reduction="sum") / len(found.y)
    torch.testing.assert_close(task(network, found, 0, dice()), wanted)


def test_weights_of_one_change_nothing_but_the_last_bits() -> None:
    network, found = linear(), batch()
    plain, weighted = (Classify(RECIPE, w)(network, found, 0, dice()) for w in (None, torch.ones(CLASSES)))
    torch.testing.assert_close(plain, weighted)

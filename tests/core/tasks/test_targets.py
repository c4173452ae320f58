"""Losses of class numbers and of indicators, against torch and by hand."""

import torch
from torch.nn import functional as F

from steps.core.features.batches import Batch
from steps.core.training.objectives import Classify, Distil, targets
from tests.core.toys import PLAIN, RECIPE, build

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
TAUGHT = torch.randn(6, 3, generator=GENERATOR)
SETS = (torch.rand(6, 3, generator=GENERATOR) > 0.5).long()
CLASSES = torch.tensor([0, 1, 2, 2, 1, 0])


def test_the_form_of_the_targets_says_what_they_mean() -> None:
    assert targets.kind_for(CLASSES) is targets.SINGLE_LABEL_TARGETS
    assert targets.kind_for(SETS) is targets.LABEL_SET_TARGETS
    assert targets.kind_for_model({"temperature": 1.0}) is targets.SINGLE_LABEL_TARGETS
    assert targets.kind_for_model({"temperature": 1.0, "thresholds": [0.5]}) is targets.LABEL_SET_TARGETS


def test_the_loss_of_sets_is_torch_s_binary_cross_entropy_and_the_one_written_out_by_hand() -> None:
    found = targets.LABEL_SET_TARGETS.loss(LOGITS, SETS)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(LOGITS, SETS.float()))
    p = 1 / (1 + torch.exp(-LOGITS))
    by_hand = -(SETS * p.log() + (1 - SETS) * (1 - p).log())
    torch.testing.assert_close(found, by_hand.mean())
    torch.testing.assert_close(
        targets.LABEL_SET_TARGETS.loss(LOGITS, SETS, reduction="none"), by_hand.mean(dim=1)
    )


def test_smoothing_of_sets_moves_both_answers_towards_one_half() -> None:
    wanted = torch.where(SETS > 0, 0.9, 0.1)
    torch.testing.assert_close(
        targets.LABEL_SET_TARGETS.loss(LOGITS, SETS, 0.2), F.binary_cross_entropy_with_logits(LOGITS, wanted)
    )


def test_the_divergence_of_sets_is_the_one_between_bernoulli_distributions() -> None:
    own, other = torch.sigmoid(LOGITS), torch.sigmoid(TAUGHT)
    by_hand = other * (other / own).log() + (1 - other) * ((1 - other) / (1 - own)).log()
    torch.testing.assert_close(targets.LABEL_SET_TARGETS.divergence(LOGITS, TAUGHT), by_hand.mean())
    assert abs(float(targets.LABEL_SET_TARGETS.divergence(LOGITS, LOGITS))) < 1e-6


def test_single_labels_have_the_losses_they_always_had() -> None:
    assert torch.equal(
        targets.SINGLE_LABEL_TARGETS.loss(LOGITS, CLASSES, 0.1),
        F.cross_entropy(LOGITS, CLASSES, label_smoothing=0.1),
    )
    wanted = F.kl_div(LOGITS.log_softmax(1), TAUGHT.log_softmax(1), reduction="batchmean", log_target=True)
    assert torch.equal(targets.SINGLE_LABEL_TARGETS.divergence(LOGITS, TAUGHT), wanted)


def test_right_is_the_share_of_right_decisions() -> None:
    logits = torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, 1.0]])
    sets = torch.tensor([[1, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(targets.LABEL_SET_TARGETS.correct(logits, sets), torch.tensor([2 / 3, 1.0]))
    assert targets.SINGLE_LABEL_TARGETS.correct(logits, torch.tensor([2, 1])).tolist() == [1.0, 0.0]


def test_the_tasks_take_sets_and_mixup_mixes_their_losses() -> None:
    network = build("test_resnet")
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = Batch(x, SETS)
    plain = Classify(RECIPE)(network, batch, 0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        plain, targets.LABEL_SET_TARGETS.loss(network(x), SETS, RECIPE.label_smoothing)
    )
    mixing = RECIPE.model_copy(update={"mixup": 1.0, "label_smoothing": 0.0})
    found = Classify(mixing)(network, batch, 0, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(6, generator=generator)
    gammas = torch._standard_gamma(torch.full((2,), 1.0), generator=generator)
    share = float(gammas[0] / gammas.sum())
    logits = network(share * x + (1 - share) * x[order])
    mixed = share * SETS + (1 - share) * SETS[order]  # the loss is linear in the target
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, mixed))


def test_a_student_of_sets_at_temperature_one_without_teacher_learns_the_labels() -> None:
    network, teacher = build("test_resnet"), build("test_resnet")
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator()
    hard = Distil(teacher, 1.0, 0.0, PLAIN)(network, Batch(x, SETS), 0, generator)
    torch.testing.assert_close(hard, targets.LABEL_SET_TARGETS.loss(network(x), SETS))
    with torch.no_grad():
        teacher.head.weight.mul_(2.0)
    soft = Distil(teacher, 3.0, 1.0, PLAIN)(network, Batch(x, SETS), 0, generator)
    torch.testing.assert_close(soft, 9 * targets.LABEL_SET_TARGETS.divergence(network(x) / 3, teacher(x) / 3))


def test_a_cut_turns_thresholds_into_logits() -> None:
    meta = {"labels": ["a", "b", "c"], "temperature": 2.0, "thresholds": [0.3, 0.5, 0.9]}
    said = torch.sigmoid(LOGITS / 2.0) >= torch.tensor(meta["thresholds"])
    assert torch.equal(LOGITS - targets.logit_thresholds(meta) >= 0, said)
    assert targets.logit_thresholds({"labels": ["a"], "temperature": 2.0}).tolist() == [0.0]

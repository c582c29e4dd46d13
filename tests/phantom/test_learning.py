"""A network learns the age from the images, and needs the gender for that."""

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wds_bone.phantom import draw_hand, synthetic_hands
from wds_bone.phantom.maturity import BOY_MONTHS, GIRL_MONTHS, girl_equivalent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NUM_TRAIN, NUM_VAL, IMAGE_PIXELS = 900, 300, 64
NUM_EPOCHS, BATCH_SIZE = 24, 32
MEAN_MONTHS, SD_MONTHS = 127.0, 41.0


@dataclass(frozen=True)
class Hands:
    image: torch.Tensor  # float32 (n, 1, 64, 64)
    gender: torch.Tensor  # float32 (n,), 1 male
    age_months: torch.Tensor  # float32 (n,), the true ages


class AgeNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (1, 12, 24, 48, 72)
        self.body = nn.Sequential(*[_block(*pair) for pair in pairwise(widths)])
        self.head = nn.Sequential(nn.Linear(2 * widths[-1] + 1, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, image, gender):
        features = self.body(image)
        return self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3)), gender[:, None] * 2 - 1], 1))[:, 0]


def _block(num_in, num_out):
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, 2, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU(),
        nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU(),
    )  # fmt: skip


def _draw(num_samples, first):
    hands = synthetic_hands(num_samples, seed=1, first=first, label_noise=False)
    pixels = np.stack([draw_hand(hand, IMAGE_PIXELS) for hand in hands])[:, None]
    return Hands(
        torch.from_numpy(pixels).float() / 64 - 1,
        torch.tensor([float(hand.gender == "M") for hand in hands]),
        torch.tensor([hand.true_age_months for hand in hands]),
    )


def _train(hands):
    torch.manual_seed(0)
    model, num_steps = AgeNetwork(), NUM_EPOCHS * (NUM_TRAIN // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=num_steps, pct_start=0.2)
    for _ in range(num_steps):
        chosen = torch.randint(NUM_TRAIN, (BATCH_SIZE,))
        shift = [int(pixels) for pixels in torch.randint(-4, 5, (2,))]
        image = torch.roll(hands.image[chosen], shift, (2, 3)) * (0.9 + 0.2 * torch.rand(BATCH_SIZE, 1, 1, 1))
        target = (hands.age_months[chosen] - MEAN_MONTHS) / SD_MONTHS
        loss = F.smooth_l1_loss(model(image, hands.gender[chosen]), target, beta=0.1)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def hands():
    return _draw(NUM_VAL, first=NUM_TRAIN)


@pytest.fixture(scope="module")
def predict_months():
    """Return the function (image, gender) -> months of a network trained on 900 hands."""
    model = _train(_draw(NUM_TRAIN, first=0))
    return torch.no_grad()(lambda image, gender: model(image, gender) * SD_MONTHS + MEAN_MONTHS)


def _mae_months(prediction, hands):
    return float((prediction - hands.age_months).abs().mean())


def test_a_network_predicts_the_age_much_better_than_bone_area_does(hands, predict_months):
    area = (hands.image > 1.5).float().mean((1, 2, 3))
    columns = torch.stack([area, hands.gender, torch.ones(NUM_VAL)], 1)
    fit = torch.linalg.lstsq(columns, hands.age_months[:, None]).solution[:, 0]
    by_area = _mae_months(columns @ fit, hands)
    by_network = _mae_months(predict_months(hands.image, hands.gender), hands)
    print(f"MAE: network {by_network:.1f}, bone area {by_area:.1f} months")
    assert by_network < 12
    assert by_area > 2 * by_network


def test_the_gender_of_another_hand_raises_the_error(hands, predict_months):
    with_own = _mae_months(predict_months(hands.image, hands.gender), hands)
    with_other = _mae_months(predict_months(hands.image, hands.gender.roll(1)), hands)
    print(f"MAE: own gender {with_own:.1f}, another's {with_other:.1f} months")
    assert with_other > with_own + 3


def test_swapping_the_gender_shifts_the_prediction_by_the_lag_of_boys(hands, predict_months):
    as_boy = predict_months(hands.image, torch.ones(NUM_VAL))
    as_girl = predict_months(hands.image, torch.zeros(NUM_VAL))
    shift = (as_boy - as_girl).numpy()
    genders = ["M" if male else "F" for male in hands.gender]
    pairs = zip(hands.age_months.tolist(), genders, strict=True)
    maturity = np.array([girl_equivalent(age, gender) for age, gender in pairs])
    lag = np.interp(maturity, GIRL_MONTHS, BOY_MONTHS) - maturity
    for low, high, tolerance in ((0, 60, 9), (60, 108, 9), (108, 132, 6), (132, 180, 7)):
        inside = (maturity >= low) & (maturity < high)
        print(f"{low}-{high} months: shifted by {shift[inside].mean():.1f}, lag {lag[inside].mean():.1f}")
        assert shift[inside].mean() > 2
        assert abs(shift[inside].mean() - lag[inside].mean()) < tolerance


def test_two_cores_draw_two_thousand_hands_of_128_pixels_within_a_minute():
    hands = synthetic_hands(40, seed=2)
    draw_hand(hands[0], 128)
    start = time.process_time()
    for hand in hands:
        draw_hand(hand, 128)
    assert (time.process_time() - start) / len(hands) < 0.055

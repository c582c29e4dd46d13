"""What a network learns from the pictures, and that it needs the gender for it."""

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
class Pictures:
    image: torch.Tensor  # float32 (n, 1, 64, 64)
    gender: torch.Tensor  # float32 (n,), 1 male
    age_months: torch.Tensor  # float32 (n,), the true ones


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (1, 12, 24, 48, 72)
        self.body = nn.Sequential(*[_block(*pair) for pair in pairwise(widths)])
        self.head = nn.Sequential(nn.Linear(2 * widths[-1] + 1, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, image, gender):
        seen = self.body(image)
        return self.head(torch.cat([seen.mean((2, 3)), seen.amax((2, 3)), gender[:, None] * 2 - 1], 1))[:, 0]


def _block(num_in, num_out):
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, 2, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU(),
        nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU(),
    )  # fmt: skip


def _draw(num_samples, first):
    hands = synthetic_hands(num_samples, seed=1, first=first, label_noise=False)
    pixels = np.stack([draw_hand(hand, IMAGE_PIXELS) for hand in hands])[:, None]
    return Pictures(
        torch.from_numpy(pixels).float() / 64 - 1,
        torch.tensor([float(hand.gender == "M") for hand in hands]),
        torch.tensor([hand.true_age_months for hand in hands]),
    )


def _train(pictures):
    torch.manual_seed(0)
    model, num_steps = Reader(), NUM_EPOCHS * (NUM_TRAIN // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=num_steps, pct_start=0.2)
    for _ in range(num_steps):
        chosen = torch.randint(NUM_TRAIN, (BATCH_SIZE,))
        shift = [int(pixels) for pixels in torch.randint(-4, 5, (2,))]
        image = torch.roll(pictures.image[chosen], shift, (2, 3)) * (0.9 + 0.2 * torch.rand(BATCH_SIZE, 1, 1, 1))
        target = (pictures.age_months[chosen] - MEAN_MONTHS) / SD_MONTHS
        loss = F.smooth_l1_loss(model(image, pictures.gender[chosen]), target, beta=0.1)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def pictures():
    return _draw(NUM_VAL, first=NUM_TRAIN)


@pytest.fixture(scope="module")
def read_months():
    """Return the function (image, gender) -> months of a network that has seen 900 hands."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = _train(_draw(NUM_TRAIN, first=0))
    torch.set_num_threads(num_threads)
    return torch.no_grad()(lambda image, gender: model(image, gender) * SD_MONTHS + MEAN_MONTHS)


def _mae_months(prediction, pictures):
    return float((prediction - pictures.age_months).abs().mean())


def test_a_network_reads_the_age_and_bone_area_does_not_tell_it(pictures, read_months):
    area = (pictures.image > 1.5).float().mean((1, 2, 3))
    columns = torch.stack([area, pictures.gender, torch.ones(NUM_VAL)], 1)
    fit = torch.linalg.lstsq(columns, pictures.age_months[:, None]).solution[:, 0]
    by_area = _mae_months(columns @ fit, pictures)
    by_network = _mae_months(read_months(pictures.image, pictures.gender), pictures)
    print(f"MAE: network {by_network:.1f}, bone area {by_area:.1f} months")
    assert by_network < 12
    assert by_area > 2 * by_network


def test_the_gender_of_another_hand_costs_months(pictures, read_months):
    with_own = _mae_months(read_months(pictures.image, pictures.gender), pictures)
    with_other = _mae_months(read_months(pictures.image, pictures.gender.roll(1)), pictures)
    print(f"MAE: own gender {with_own:.1f}, another's {with_other:.1f} months")
    assert with_other > with_own + 3


def test_swapping_the_gender_moves_the_reading_by_the_lag_of_boys(pictures, read_months):
    as_boy = read_months(pictures.image, torch.ones(NUM_VAL))
    as_girl = read_months(pictures.image, torch.zeros(NUM_VAL))
    moved = (as_boy - as_girl).numpy()
    genders = ["M" if male else "F" for male in pictures.gender]
    pairs = zip(pictures.age_months.tolist(), genders, strict=True)
    maturity = np.array([girl_equivalent(age, gender) for age, gender in pairs])
    lag = np.interp(maturity, GIRL_MONTHS, BOY_MONTHS) - maturity
    for low, high, tolerance in ((0, 60, 9), (60, 108, 9), (108, 132, 6), (132, 180, 7)):
        inside = (maturity >= low) & (maturity < high)
        print(f"{low}-{high} months: moved {moved[inside].mean():.1f}, lag {lag[inside].mean():.1f}")
        assert moved[inside].mean() > 2
        assert abs(moved[inside].mean() - lag[inside].mean()) < tolerance


def test_two_thousand_hands_of_128_pixels_take_two_cores_at_most_a_minute():
    hands = synthetic_hands(40, seed=2)
    draw_hand(hands[0], 128)
    start = time.process_time()
    for hand in hands:
        draw_hand(hand, 128)
    assert (time.process_time() - start) / len(hands) < 0.055

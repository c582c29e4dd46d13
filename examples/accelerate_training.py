"""Train with Hugging Face Accelerate; each process has its own stream, which is not prepared.

accelerate launch examples/accelerate_training.py runs/shards runs/accelerate
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from wds_bone import Batch, BoneAgeStream


class SmallNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten())
        self.months = nn.Linear(16 * 64 + 1, 1)

    def forward(self, batch: Batch) -> torch.Tensor:
        inputs = torch.cat([self.features(batch.image / 255), batch.gender[:, None]], dim=1)
        return 100 * self.months(inputs)[:, 0]


accelerator, network = Accelerator(), SmallNetwork()
model, optimizer = accelerator.prepare(network, torch.optim.Adam(network.parameters()))
ranks = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
with BoneAgeStream(sys.argv[1], split="train", device=accelerator.device, **ranks) as stream:
    accelerator.register_for_checkpointing(stream)
    if Path(sys.argv[2]).exists():
        accelerator.load_state(sys.argv[2])
    while stream.position < 3 * stream.num_samples:
        for batch in stream:
            errors = batch.weight * (model(batch) - batch.age_months).abs()
            accelerator.backward(errors.sum() / batch.weight.sum().clamp(min=1))
            optimizer.step()
            optimizer.zero_grad()
        accelerator.save_state(sys.argv[2])

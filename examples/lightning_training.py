"""Train a small network with Lightning; started again, it continues inside the epoch, with the next sample.

wds-bone make-shards --out runs/shards
python examples/lightning_training.py runs/shards runs/lightning
"""

import sys

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from wds_bone import Batch, BoneAgeStream


class SmallNetwork(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten())
        self.months = nn.Linear(16 * 64 + 1, 1)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        inputs = torch.cat([self.features(batch.image / 255), batch.gender[:, None]], dim=1)
        errors = 100 * self.months(inputs)[:, 0] - batch.age_months
        return (batch.weight * errors.abs()).sum() / batch.weight.sum().clamp(min=1)

    def validation_step(self, batch: Batch, index: int) -> None:
        self.log("val_mae", self.training_step(batch, index), prog_bar=True, batch_size=int(batch.weight.sum()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


if __name__ == "__main__":
    lightning.seed_everything(0)
    with BoneAgeStream(sys.argv[1], split="train") as train, BoneAgeStream(sys.argv[1], split="val") as val:
        last = ModelCheckpoint(sys.argv[2], save_last=True, every_n_train_steps=3)
        trainer = lightning.Trainer(devices=1, max_epochs=3, callbacks=[last], default_root_dir=sys.argv[2])
        trainer.fit(SmallNetwork(), train, val, ckpt_path="last")

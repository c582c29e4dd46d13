"""Train a small network in a plain PyTorch loop; started again, it continues after the last step that was saved.

wds-bone make-shards --out runs/shards
python examples/pytorch_loop.py runs/shards runs/loop.pt
"""

import sys
from pathlib import Path

import torch
from torch import nn

from wds_bone import BoneAgeStream

shards, checkpoint, num_steps = sys.argv[1], Path(sys.argv[2]), 100
torch.manual_seed(0)
features = nn.Sequential(nn.Conv2d(1, 16, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten())
device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.ModuleDict({"features": features, "months": nn.Linear(16 * 64 + 1, 1)}).to(device)
optimizer = torch.optim.Adam(model.parameters())

with BoneAgeStream(shards, split="train", batch_size=32, device=device) as stream:
    first = 1
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        stream.load_state_dict(saved["stream"])
        first = saved["step"] + 1
    for step, batch in zip(range(first, num_steps + 1), stream.endless(), strict=False):
        inputs = torch.cat([features(batch.image / 255), batch.gender[:, None]], dim=1)
        loss = (100 * model["months"](inputs)[:, 0] - batch.age_months).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}, epoch {stream.position / stream.num_samples:.1f}: MAE {loss:.1f} months")
            states = {"model": model, "optimizer": optimizer, "stream": stream}
            torch.save({name: part.state_dict() for name, part in states.items()} | {"step": step}, f"{checkpoint}.tmp")
            Path(f"{checkpoint}.tmp").replace(checkpoint)  # a kill while saving leaves the old one

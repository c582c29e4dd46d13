"""The marks of the tests that need a CUDA device.

Such tests are in files named `test_*_cuda.py`, which `make gpu PART=tests` runs, also where the packages that other
tests import are missing.
"""

import pytest
import torch

DEVICE = torch.device("cuda")
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

"""The optimiser takes the steps of torch's own, and starts sooner."""

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import SGD

from dtb_builder.training import Recipe
from dtb_builder.training.optimizer import make_optimizer
from dtb_builder.training.resident import ResidentImages

_TRAINED = """
import sys
import torch
from torch import nn
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.training import Recipe
from dtb_builder.training.loop import train
from dtb_builder.training.resident import LabelledImages, ResidentImages
from dtb_builder.training.setup import set_up_torch

set_up_torch(threads=1, deterministic=True)
part = LabelledImages(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.long))
data = ResidentImages(part, part, part, torch.ones(3), torch.ones(3))
network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
recipe = Recipe(**read_conf("recipe/smoke"))
for finished in train(network, data, recipe, seed=0):
    finished.optimizer.load_state_dict(finished.optimizer.state_dict())
print([name for name in sys.modules if name in ("torch._dynamo", "torch._inductor")])
"""


def test_steps_have_the_bits_of_torchs_sgd_tensor_by_tensor(
    make_network: Callable[..., nn.Module], recipe: Recipe, data: ResidentImages
) -> None:
    for nesterov in (False, True):
        recipe = dataclasses.replace(recipe, nesterov=nesterov)
        one = make_network()
        two = copy.deepcopy(one)
        ours = make_optimizer(one, recipe, data.device)
        chosen = {"nesterov": nesterov, "weight_decay": recipe.weight_decay, "foreach": False}
        theirs = SGD(two.parameters(), recipe.learning_rate, recipe.momentum, **chosen)
        for _ in range(3):
            images = torch.randn(8, 3, 8, 8)
            for network, optimizer in ((one, ours), (two, theirs)):
                torch.manual_seed(0)
                optimizer.zero_grad()
                network(images).square().sum().backward()
                optimizer.step()
        assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


def test_a_training_does_not_import_torchs_compiler() -> None:
    """Its import would take a second or more of every training process."""
    done = subprocess.run(
        [sys.executable, "-c", _TRAINED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

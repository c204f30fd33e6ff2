import pytest
import torch

from dtb_builder.network import NetworkSpec
from dtb_builder.network.recalibration import recalibrated
from dtb_builder.space import sample_uniform

SPEC = NetworkSpec(channels=2, layers=3, num_classes=10, image_size=32, auxiliary=True)


def test_batch_norms_have_the_statistics_of_the_images_and_the_network_is_untouched() -> None:
    network = SPEC.build(sample_uniform(0, 0)).eval()
    network.set_drop_path(0.5)
    images = 3 * torch.randn(20, 3, 32, 32) + 1
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    fresh = recalibrated(network, images, batch_size=10)

    stem, norm = network.stem
    halves = [stem(images[i : i + 10]) for i in (0, 10)]
    mean, var = (
        torch.stack([part(half, (0, 2, 3)) for half in halves]).mean(0)
        for part in (torch.mean, torch.var)
    )
    found = fresh.state_dict()
    assert torch.allclose(found["stem.1.running_mean"], mean, atol=1e-5)
    assert torch.allclose(found["stem.1.running_var"], var, rtol=1e-4)
    assert fresh.stem[1].momentum == norm.momentum
    assert not any(module.training for module in fresh.modules())
    assert torch.equal(fresh(images), fresh(images))
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, before[name])


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        recalibrated(SPEC.build(sample_uniform(0, 0)), torch.zeros(0, 3, 32, 32))

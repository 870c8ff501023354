"""The call of the 2018 poster: hand over a model and the size of its input, use what comes back."""

import torch
from torchvision import models

from sol.pytorch import optimize

model = models.resnet50().eval()
input = torch.rand(32, 3, 224, 224)
model = optimize(model, input.size())
output = model(input)

print(output.shape)

"""Two layers, a dropout between them, a step of AdamW."""

import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.dropout = torch.nn.Dropout(0.1)
        self.last = torch.nn.Linear(16, 1)

    def forward(self, x):
        return self.last(self.dropout(torch.relu(self.first(x))))


def step(model, optimiser, x, y):
    optimiser.zero_grad()
    loss = torch.mean((model(x) - y) ** 2)
    loss.backward()
    optimiser.step()
    return loss.item()


x, y = torch.ones(4, 8), torch.ones(4, 1)
torch.manual_seed(0)
model = Model()
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
loss = step(model, optimiser, x, y)
model.eval()
assert model(x).shape == (4, 1)

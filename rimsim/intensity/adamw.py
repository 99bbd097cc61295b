"""AdamW of our own: making one of torch's imports its compiler, a second of CPU in every process."""

from __future__ import annotations

from collections.abc import Iterable

import torch

_FIRST, _SECOND, _SMALL = 0.9, 0.999, 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019) and a bound on the gradient's norm.

    Args:
        parameters: What is trained.
        weight_decay: Share of a parameter that a step of unit size takes away.
        largest: Longest gradient over all parameters; a longer one is scaled down.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], *, weight_decay: float, largest: float
    ) -> None:
        self._parameters = list(parameters)
        self._mean = [torch.zeros_like(p) for p in self._parameters]
        self._square = [torch.zeros_like(p) for p in self._parameters]
        self._decay, self._largest = weight_decay, largest
        self._steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter by its gradient with step size ``rate``, and drop the gradients."""
        self._steps += 1
        first, second = 1 - _FIRST**self._steps, 1 - _SECOND**self._steps
        known = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in known]).norm()
        scale = torch.clamp(self._largest / (norm + 1e-6), max=1.0)
        for p, mean, square in zip(self._parameters, self._mean, self._square, strict=True):
            if p.grad is None:
                continue
            gradient = p.grad * scale
            mean.lerp_(gradient, 1 - _FIRST)
            square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            p.mul_(1 - rate * self._decay)
            p.addcdiv_(mean, (square / second).sqrt_().add_(_SMALL), value=-rate / first)
            p.grad = None

"""Learning rates that change from step to step."""

import math

from torch.optim.lr_scheduler import LambdaLR

from course_utils import expect


def cosine(optimizer, n_steps, *, warm_up=0, floor=0.0):
    r"""The rate grows in ``warm_up`` steps, then falls to ``floor`` times its peak along half a cosine.

    Give it to ``fit(..., scheduler=...)``, which steps it once an update. (Loshchilov & Hutter 2017, eq. 5 without
    restarts, arXiv:1608.03983.)
    """
    expect.count(n_steps, "n_steps")
    expect.count(warm_up, "warm_up", least=0)
    expect.number(floor, "floor", 0, 1)

    def factor(step):
        return min(1, (step + 1) / max(1, warm_up)) * max(floor, 0.5 * (1 + math.cos(math.pi * step / n_steps)))
    return LambdaLR(optimizer, factor)

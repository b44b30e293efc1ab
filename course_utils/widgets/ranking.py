"""Choose what matters, and see the ranking move. For chapter 09."""

import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider


def ranking(names, criteria, scores, question):
    r"""Weights under sliders, and bars of :math:`\sum_k w_k s_k / \sum_k w_k`, the highest first.

    ``names``: N rows; ``criteria``: up to eight words; ``scores``: ``(N, K)`` in [0, 1], 1 is best. ``question``: what
    is asked before the first move, a dict with ``ask``, ``options``, ``right`` and ``answer``. With all weights at 0
    every row has the score 0.  Taught in chapter 09.
    """
    scores = torch.as_tensor(scores).detach().cpu().double()
    if scores.shape != (len(names), len(criteria)) or len(names) < 2 or not 2 <= len(criteria) <= 8:
        raise ValueError(f"expected scores (N, K) for {len(names)} names and {len(criteria)} criteria, at least 2 of "
                         f"each and at most 8 criteria; got {tuple(scores.shape)}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("expected scores from 0 to 1, where 1 is best")
    sliders = [Slider(f"w{k}", name, 0, 1, 1 if k == 0 else 0.5, 0.05) for k, name in enumerate(criteria)]
    data = {"names": list(names), "criteria": list(criteria), "scores": scores.tolist(), "question": question}

    def picture(values):
        return _picture(names, criteria, scores, torch.tensor([values[slider.name] for slider in sliders]).double())

    return Demo("ranking", sliders=sliders, data=data, picture=picture, height=560,
                alt="A bar for each family, the highest score on top, made of what each criterion adds.")


def _picture(names, criteria, scores, weights):
    parts = scores * weights / max(weights.sum().item(), 1e-9)       # (N, K)
    order = parts.sum(1).argsort(stable=True)
    figure = Figure(figsize=(7, 0.6 + 0.36 * len(names)), layout="constrained")
    ax, left = figure.subplots(), torch.zeros(len(names)).double()
    for k, name in enumerate(criteria):
        ax.barh([names[i] for i in order], parts[order, k], left=left, color=plots.PALETTE[k], label=name)
        left = left + parts[order, k]
    ax.set(title="Ranking by what matters to you", xlabel="score", xlim=(0, 1))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return figure

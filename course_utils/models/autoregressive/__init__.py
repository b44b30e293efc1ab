r"""Models that write :math:`p(x)=\prod_i p(x_i\mid x_{<i})`, so that Z = 1 by construction. Taught in chapter 02.

* ``baselines``: independent pixels, their class mixture, and one logistic regression per pixel (FVSBN)
* ``made``: one masked network for all conditionals, in any order; the proper ensemble of orders
* ``pixelcnn``: masked convolutions; the gated version without a blind spot
* ``pixelrnn``: Row LSTM and Diagonal BiLSTM
* ``transformer``: causal attention over the pixels as tokens
* ``sampling``: ancestral sampling, naive and cached
* ``labels``: labels that come with images, or do not

Every model is a module whose ``forward(x, y=None)`` returns the distribution of all pixels given the ones before them,
batch shape ``(B, C, H, W)``, over integer levels.
"""

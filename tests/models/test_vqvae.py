"""Laws of the VQ-VAE: nearest words, gradients that pass, averages that converge, and a bound that is one."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent

from course_utils.models import vqvae
from course_utils.models.autoregressive.pixelcnn import PixelCNN


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_nearest_word_is_the_nearest():
    z, words = torch.randn(50, 4).double(), torch.randn(9, 4).double()
    assert (vqvae.nearest_word(z, words) == torch.cdist(z, words).argmin(1)).all()


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z_e, z_q = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    out = vqvae.straight_through(z_e, z_q)
    torch.testing.assert_close(out, z_q)
    slope = torch.randn(3, 4)
    (out * slope).sum().backward()
    torch.testing.assert_close(z_e.grad, slope)
    assert z_q.grad is None


def test_commitment_pulls_the_encoder_and_not_the_word():
    z_e, z_q = torch.randn(2, 3, 2, 2, requires_grad=True), torch.randn(2, 3, 2, 2, requires_grad=True)
    vqvae.commitment(z_e, z_q).sum().backward()
    torch.testing.assert_close(z_e.grad, 2 * (z_e - z_q).detach())
    assert z_q.grad is None


def test_perplexity_counts_the_words_in_use():
    assert vqvae.perplexity(torch.zeros(2, 3, 3, dtype=torch.long), 8).item() == pytest.approx(1)
    assert vqvae.perplexity(torch.arange(8).view(2, 2, 2), 8).item() == pytest.approx(8)
    uneven = torch.tensor([0, 0, 0, 1]).view(1, 2, 2)                # entropy of (3/4, 1/4): 0.5623 nats
    assert vqvae.perplexity(uneven, 8).item() == pytest.approx(1.7548, abs=1e-4)


def test_reading_never_moves_the_words():
    model = vqvae.conv_vqvae(shape=(1, 8, 8), n_words=8)
    before = model.codebook.words.clone()
    model.loss(torch.rand(4, 1, 8, 8).round())
    assert torch.equal(model.codebook.words, before)
    vqvae.with_averaging(model)(torch.rand(4, 1, 8, 8).round())
    assert not torch.equal(model.codebook.words, before)
    before = model.codebook.words.clone()
    with torch.no_grad():
        model.decoder.network[-1].bias.fill_(3e38)
    vqvae.with_averaging(model)(torch.rand(4, 1, 8, 8).round())
    assert torch.equal(model.codebook.words, before), "a batch whose loss is not finite moves nothing"


def test_both_levels_are_averaged_and_committed_to_and_the_bottom_is_encoded_given_the_top():
    model = vqvae.two_level_vqvae(shape=(1, 8, 8), n_words=8, width=8, word_width=4)
    x = torch.rand(6, 1, 8, 8).round()
    terms, trace = model.terms(x)
    gaps = [vqvae.commitment(z_e, codebook.look_up(indices)) for codebook, z_e, indices in trace]
    assert len(gaps) == 2 and all(gap.min() > 0 for gap in gaps)
    torch.testing.assert_close(terms["commitment"], sum(gaps).mean())
    before = model.top.words.clone(), model.bottom.words.clone()
    vqvae.with_averaging(model)(x)
    assert not torch.equal(model.top.words, before[0]) and not torch.equal(model.bottom.words, before[1])
    bottom_e = model.terms(x)[1][1][1]
    with torch.no_grad():
        model.top.words.add_(torch.randn_like(model.top.words))
    assert not torch.allclose(model.terms(x)[1][1][1], bottom_e), "other top words, other bottom features"


def test_averaging_finds_the_cluster_means():
    centres = torch.tensor([[5.0, 5.0], [-5.0, 5.0], [0.0, -5.0]])
    codebook = vqvae.Codebook(3, 2, decay=0.8, dead_below=0.5)
    for _ in range(200):
        z = (centres[torch.randint(3, (300,))] + 0.1 * torch.randn(300, 2)).view(3, 100, 1, 2).permute(0, 3, 1, 2)
        codebook.update(z, codebook(z)[1])
    distance = torch.cdist(centres, codebook.words)
    assert distance.min(1).values.max() < 0.05 and distance.argmin(1).unique().numel() == 3


def test_one_averaging_step_is_the_formula():
    codebook = vqvae.Codebook(4, 2, decay=0.9, dead_below=0.0).double()
    codebook.counts.uniform_(1, 5)
    codebook.sums.normal_()
    counts, sums = codebook.counts.clone(), codebook.sums.clone()
    z = torch.randn(2, 2, 3, 3).double()
    indices = torch.randint(0, 3, (2, 3, 3))
    codebook.update(z, indices)
    for k in range(4):
        chosen = z.movedim(1, -1)[indices == k]
        n, m = 0.9 * counts[k] + 0.1 * len(chosen), 0.9 * sums[k] + 0.1 * chosen.sum(0)
        torch.testing.assert_close(codebook.words[k], m / n)


def test_a_word_nobody_chooses_is_moved_onto_the_data():
    codebook = vqvae.Codebook(5, 2, decay=0.5, dead_below=0.05)
    codebook.words[0] = codebook.sums[0] = 1_000.0
    codebook.counts[0] = 1.0
    z = torch.randn(4, 2, 3, 3)
    for _ in range(6):
        codebook.update(z, codebook(z)[1])
    assert codebook.words[0].abs().max() < 10
    lost = vqvae.Codebook(2, 2)
    lost.update(z, torch.zeros(4, 3, 3, dtype=torch.long))
    assert lost.counts[1] == 1 and torch.equal(lost.sums[1], lost.words[1]), "so the next averaging step keeps it there"
    assert (z.movedim(1, -1).flatten(0, 2) == lost.words[1]).all(1).any()
    lazy = vqvae.Codebook(2, 2, dead_below=0.0)
    before = lazy.words.clone()
    lazy.update(z, torch.zeros(4, 3, 3, dtype=torch.long))
    assert torch.equal(lazy.words[1], before[1]) and not torch.equal(lazy.words[0], before[0])


class UniformWords:
    """The simplest prior: every word equally likely everywhere."""

    def __init__(self, n_words, shapes):
        self.n_words, self.shapes = n_words, shapes

    def log_prob(self, codes):
        return -sum(grid[0].numel() for grid in codes) * torch.tensor(float(self.n_words)).log().expand(len(codes[0]))

    def sample(self, n):
        return tuple(torch.randint(self.n_words, (n, *shape)) for shape in self.shapes)


BUILDERS = [(vqvae.conv_vqvae, [(2, 2)]), (vqvae.two_level_vqvae, [(2, 2), (1, 1)])]


@pytest.mark.parametrize(("build", "grids"), BUILDERS)
def test_terms_gradients_codes_and_samples(build, grids):
    model = build(shape=(1, 8, 8), n_words=6, width=8, word_width=4)
    x = torch.rand(5, 1, 8, 8).round()
    terms = model.loss(x)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    torch.testing.assert_close(terms["loss"], 0.25 * terms["commitment"] - terms["reconstruction"])
    codes = model.encode(x)
    assert sorted(tuple(grid.shape[1:]) for grid in codes) == sorted(grids)
    torch.testing.assert_close(model.decode(codes).log_prob(x).mean(), terms["reconstruction"])
    joint = vqvae.WithPrior(model, UniformWords(6, [grid.shape[1:] for grid in codes]))
    drawn = joint.sample(3)
    assert joint.elbo(x).shape == (5,) and drawn.shape == (3, 1, 8, 8)
    assert ((drawn == 0) | (drawn == 1)).all(), "a sample is drawn pixels, not the decoder's means"
    with pytest.raises(ValueError, match="classes"):
        joint.sample(2, y=torch.tensor([0, 1]))


@pytest.mark.parametrize(("build", "grids"), BUILDERS)
def test_the_loss_sends_the_encoder_all_that_the_decoder_sends_the_words_and_the_commitment(build, grids):
    """Straight through: at z_e arrives the gradient at its words, plus that of ¼‖z_e − z_q‖². No more and no less."""
    model = build(shape=(1, 8, 8), n_words=6, width=8, word_width=4).double()
    x = torch.rand(5, 1, 8, 8).double().round()
    terms, trace = model.terms(x)
    words = [codebook.look_up(indices).requires_grad_() for codebook, _, indices in trace]
    decoded = model.decoder(words[0]) if len(words) == 1 else model._decode(*words)
    sent = torch.autograd.grad(-decoded.log_prob(x).mean(), words[-1])[0]  # to the bottom, where there are two
    z_e = trace[-1][1]
    (got,) = torch.autograd.grad(terms["loss"], z_e)
    torch.testing.assert_close(got, (sent + 0.5 * (z_e - words[-1]) / len(x)).detach())
    assert sent.abs().max() > 1e-4


def test_the_top_of_two_levels_is_trained_by_the_decoder_and_by_the_bottom():
    model = vqvae.two_level_vqvae(shape=(1, 8, 8), n_words=6, width=8, word_width=4).double()
    x = torch.rand(5, 1, 8, 8).double().round()
    terms, ((_, top_e, top), (book, bottom_e, bottom)) = model.terms(x)
    (got,) = torch.autograd.grad(terms["loss"], top_e, retain_graph=True)
    top_q, bottom_q = model.top.look_up(top).requires_grad_(), book.look_up(bottom).requires_grad_()
    sent = torch.autograd.grad(-model._decode(top_q, bottom_q).log_prob(x).mean(), (top_q, bottom_q))
    features = model.lower(x).detach()
    encoded = model.to_bottom(torch.cat([features, model.from_top(top_q)], dim=1))
    at_bottom = sent[1] + 0.5 * (encoded - bottom_q).detach() / len(x)
    (around,) = torch.autograd.grad(encoded, top_q, at_bottom)
    torch.testing.assert_close(got, (sent[0] + around + 0.5 * (top_e - top_q) / len(x)).detach())


def test_the_bound_is_below_the_exact_evidence_and_the_gap_is_the_other_words():
    """With 3 words in one place, p(x) is a sum of three terms, so the bound's gap is known."""
    model = vqvae.VQVAE(lambda x: x.mean((2, 3), keepdim=True), None, vqvae.Codebook(3, 1))
    model.decoder = lambda z: Independent(Bernoulli(logits=z.expand(-1, 1, 2, 2)), 3)
    x = torch.rand(6, 1, 2, 2).round()
    joint = vqvae.WithPrior(model, UniformWords(3, [(1, 1)]))
    every_word = [model.decode((torch.full((6, 1, 1), k),)).log_prob(x) for k in range(3)]
    evidence = torch.stack(every_word).logsumexp(0) - torch.tensor(3.0).log()
    posterior = torch.stack(every_word).log_softmax(0).gather(0, model.encode(x)[0].view(1, 6))[0]
    assert (joint.elbo(x) <= evidence).all()
    torch.testing.assert_close(evidence - joint.elbo(x), -posterior)


def test_shapes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="square image"):
        vqvae.conv_vqvae(shape=(1, 28, 30))
    with pytest.raises(ValueError, match="at least two halvings"):
        vqvae.conv_vqvae(n_halvings=1)


@pytest.mark.parametrize("size", [7, 8, 12])
@pytest.mark.parametrize("build", [vqvae.conv_vqvae, partial(vqvae.conv_vqvae, n_halvings=3), vqvae.two_level_vqvae])
def test_every_image_size_comes_back(build, size):
    model = build(shape=(1, size, size), n_words=4, width=8)
    x = torch.rand(2, 1, size, size).round()
    assert model.decode(model.encode(x)).mean.shape == x.shape


class FairPixels:
    """Every binary image of a shape equally likely."""

    def __init__(self, shape):
        self.shape = shape

    def log_prob(self, x):
        assert x.shape[1:] == self.shape and ((x == 0) | (x == 1)).all()
        return -x[0].numel() * torch.tensor(2.0).log().expand(len(x))

    def sample(self, n):
        return torch.randint(2, (n, *self.shape)).float()


def test_words_survive_the_way_through_bits_and_their_probability_is_the_model_s():
    shape = vqvae.WordsAsBits.image_shape(16, (3, 4))
    assert shape == (4, 3, 4)
    prior = vqvae.WordsAsBits(FairPixels(shape), 16)
    words = torch.randint(16, (6, 3, 4))
    assert torch.equal(prior.from_image(prior.to_image(words)), words)
    torch.testing.assert_close(prior.log_prob((words,)), -48 * torch.tensor(2.0).log().expand(6))
    (drawn,) = prior.sample(5)
    assert drawn.shape == (5, 3, 4)
    assert 0 <= drawn.min() and drawn.max() < 16


def two_grids():
    """A prior over a 2×2 top and a 4×4 bottom grid of two words each, with random weights."""
    def pixels(grid, **more):
        model = PixelCNN(vqvae.WordsAsBits.image_shape(2, grid), width=8, n_blocks=1, first=3, **more)
        nn.init.normal_(model.out.weight)
        return vqvae.WordsAsBits(model, 2)

    given = vqvae.WordsFromAbove(2, 8, 4)
    nn.init.normal_(given.bring[-1].weight)                   # the top has much to say
    return vqvae.TopThenBottom(pixels((2, 2)), pixels((4, 4), given=given))


def test_a_prior_of_two_grids_sums_to_one_and_its_bottom_depends_on_all_of_the_top():
    prior = two_grids()
    every = torch.cartesian_prod(*[torch.arange(2)] * 4).view(16, 2, 2)
    bottom = torch.randint(2, (1, 4, 4))
    assert prior.top.log_prob((every,)).exp().sum().item() == pytest.approx(1, abs=1e-5)
    whole = prior.log_prob((every, bottom.expand(16, 4, 4)))
    given_top = prior.bottom.log_prob((bottom.expand(16, 4, 4),), y=every)
    torch.testing.assert_close(whole - prior.top.log_prob((every,)), given_top)
    assert given_top.unique().numel() == 16                   # no top word is without a say
    rest = torch.cartesian_prod(*[torch.arange(2)] * 12).view(-1, 12)
    grids = torch.cat([bottom.flatten()[:4].expand(len(rest), 4), rest], 1).view(-1, 4, 4)     # the first row is kept
    as_bits = prior.bottom.to_image(bottom)
    first = prior.bottom.model(as_bits, every[:1]).log_prob(as_bits)[0, 0, 0].sum()
    total = prior.bottom.log_prob((grids,), y=every[:1].expand(len(rest), 2, 2)).logsumexp(0)
    torch.testing.assert_close(total, first)                  # all ways to go on after the first row: nothing is lost
    prior.loss((every, bottom.expand(16, 4, 4)))["loss"].backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in prior.parameters())


def test_a_prior_of_two_grids_draws_what_it_describes():
    """Errors of the means of p(word | top, earlier words) over 4,000 draws, 17 at 5 sigma: 1 run in 10⁵ fails."""
    prior = two_grids()
    top, bottom = prior.sample(4_000)
    assert top.shape == (4_000, 2, 2) and bottom.shape == (4_000, 4, 4)
    model = prior.bottom.model
    with torch.no_grad():
        expected = model(prior.bottom.to_image(bottom), top).mean[:, 0]
    error = (bottom.float() - expected).mean(0)
    assert (error.abs() < 5 * (expected * (1 - expected)).mean(0).sqrt() / 4_000**0.5).all()
    # Where a mean is high the word must come more often: words drawn given the top of another image would not.
    slope = ((bottom - expected) * (expected - expected.mean(0))).sum((1, 2))
    assert slope.mean().abs() < 5 * slope.std() / 4_000**0.5


def test_a_model_given_a_grid_says_when_it_is_missing():
    prior = two_grids()
    with pytest.raises(ValueError, match="what this model is given"):
        prior.bottom.log_prob((torch.zeros(1, 4, 4, dtype=torch.long),))
    with pytest.raises(ValueError, match="in the place of n_classes"):
        PixelCNN((3, 4, 4), width=8, given=nn.Identity())


def test_words_that_do_not_fill_their_bits_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        vqvae.WordsAsBits.image_shape(48, (2, 2))

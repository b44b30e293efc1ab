"""Laws of diffusion and flow matching. Statistical tests: fixed seeds, five standard errors (1 in 2 million)."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_utils import checks
from course_utils.distributions import GaussianMixture
from course_utils.models.diffusion import flow_matching, process, samplers, schedule

D = torch.float64


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def two_bumps():
    """On a line, unequal in weight and width, about centred and of unit variance."""
    return GaussianMixture(torch.tensor([0.3, 0.7], dtype=D), torch.tensor([[-1.4], [0.6]], dtype=D),
                           torch.tensor([[0.02], [0.05]], dtype=D))


def exact(mixture, levels):
    """The best denoiser, E[x_0 | x_t], as samplers want it."""
    return lambda x, t: mixture.clean_given(x, levels.alpha_bar[t[0]].item()).mean


def cosine(n_steps=1_000):
    return schedule.cosine_schedule(n_steps, offset=0.0, max_beta=1.0)


# ---- schedules -------------------------------------------------------------------------------------------------------
SCHEDULES = {"linear": schedule.linear_schedule(), "cosine": schedule.cosine_schedule(), "equal angles": cosine(),
             "shifted": schedule.shifted(schedule.cosine_schedule(), 0.3),
             "zero terminal": schedule.zero_terminal(schedule.linear_schedule()),
             "log SNR": schedule.log_snr_schedule(1_000)}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one_fall_and_agree_with_their_betas(name):
    levels = SCHEDULES[name]
    assert levels.n_steps == 1_000 and levels.alpha_bar[0] == 1 and levels.beta[0] == 0
    torch.testing.assert_close((1 - levels.beta).cumprod(0), levels.alpha_bar, rtol=1e-9, atol=1e-15)
    assert ((levels.beta[1:] > 0) & (levels.beta[1:] <= 1)).all()
    assert levels.snr[0] == math.inf and (levels.snr.diff() < 0).all()


def test_schedules_are_those_of_their_papers():
    linear = SCHEDULES["linear"]
    torch.testing.assert_close(linear.beta[[1, 1000]], torch.tensor([1e-4, 0.02], dtype=D), rtol=1e-9, atol=0)
    assert linear.alpha_bar[-1] == pytest.approx(4.04e-5, rel=1e-2)
    angle = torch.arange(1_001, dtype=D) / 1_000 * math.pi / 2
    torch.testing.assert_close(cosine().alpha_bar, angle.cos().square(), rtol=1e-9, atol=1e-9)
    assert cosine().alpha_bar[-1] == 0 and SCHEDULES["zero terminal"].alpha_bar[-1] == 0
    assert SCHEDULES["zero terminal"].alpha_bar[1] == pytest.approx(linear.alpha_bar[1].item(), rel=1e-12)
    log_snr = SCHEDULES["log SNR"].snr[1:].log()
    torch.testing.assert_close(log_snr, torch.linspace(7, -5, 1_000, dtype=D))
    ratio = SCHEDULES["shifted"].snr[1:] / SCHEDULES["cosine"].snr[1:]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.09), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha_bar, complaint", [
    (torch.tensor([0.9, 0.5]), "starts at 1"), (torch.tensor([[1.0, 0.5]]), "starts at 1"),
    (torch.tensor([1.0, 0.5, 0.6]), "fall from 1"), (torch.tensor([1.0, -0.1]), "fall from 1"),
    (torch.tensor([1.0, math.nan]), "fall from 1")])
def test_a_schedule_that_is_none_is_refused(alpha_bar, complaint):
    with pytest.raises(ValueError, match=complaint):
        schedule.Schedule(alpha_bar)


def test_steps_lead_from_high_to_zero():
    assert schedule.trailing_steps(1_000, 4) == [1_000, 750, 500, 250, 0]
    assert schedule.leading_steps(1_000, 4) == [751, 501, 251, 1, 0]
    assert schedule.trailing_steps(7, 7) == list(range(7, -1, -1)) == schedule.leading_steps(7, 7)
    with pytest.raises(ValueError, match="expected n, steps .*, to be a whole number from 1 to 10, got int 11"):
        schedule.trailing_steps(10, 11)


# ---- forward ---------------------------------------------------------------------------------------------------------
def test_iterated_kernel_is_the_closed_form():
    """Every x_t of 40 steps of q(x_t|x_{t-1}) from one x_0 has the mean and the variance that eq. 4 gives."""
    levels, x_0 = schedule.linear_schedule(40, 1e-3, 0.3), 1.7
    x = torch.full((200_000,), x_0, dtype=D)
    for t in range(1, 41):
        beta = levels.beta[t]
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x)
        closed = process.q_sample(torch.tensor(x_0, dtype=D), levels.alpha_bar[t], torch.zeros((), dtype=D))
        checks.monte_carlo(x[:, None], closed[None], what=f"mean at {t}")
        checks.monte_carlo((x - closed).square()[:, None], (1 - levels.alpha_bar[t])[None], what=f"variance at {t}")


@pytest.mark.parametrize("s", [0, 3, 18, 19])
def test_posterior_is_bayes_rule_on_a_grid(s):
    levels, t = schedule.linear_schedule(20, 0.01, 0.2), 20
    x_0, x_t = torch.tensor(0.8, dtype=D), torch.tensor(-0.3, dtype=D)
    a_t, a_s = levels.alpha_bar[t], levels.alpha_bar[s]
    mean, variance = process.posterior(x_0, x_t, a_t, a_s)
    if s == 0:
        assert mean == pytest.approx(0.8, abs=1e-12) and variance == 0
        return
    line = torch.linspace(-9, 9, 90_001, dtype=D)
    prior = Normal(a_s.sqrt() * x_0, (1 - a_s).sqrt()).log_prob(line)             # q(x_s | x_0)
    kernel = Normal((a_t / a_s).sqrt() * line, (1 - a_t / a_s).sqrt()).log_prob(x_t)  # q(x_t | x_s)
    weight = (prior + kernel).softmax(0)
    torch.testing.assert_close((weight * line).sum(), mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close((weight * (line - mean).square()).sum(), variance, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("alpha_bar", [0.999, 0.5, 1e-3])
def test_readings_are_one_thing(alpha_bar):
    x_0, eps = torch.randn(2, 5, 3, dtype=D)
    x_t = process.q_sample(x_0, alpha_bar, eps)
    v = process.v_from(x_0, eps, alpha_bar)
    for found, expected in ((process.x0_from_eps(x_t, eps, alpha_bar), x_0),
                            (process.eps_from_x0(x_t, x_0, alpha_bar), eps),
                            (process.x0_from_v(x_t, v, alpha_bar), x_0), (process.eps_from_v(x_t, v, alpha_bar), eps),
                            (process.x0_from_score(x_t, process.score_from_eps(eps, alpha_bar), alpha_bar), x_0)):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for reading in (process.EPS, process.X_0, process.V):
        torch.testing.assert_close(reading.x_0(x_t, reading.target(x_0, eps, alpha_bar), alpha_bar), x_0)


def test_v_is_the_speed_along_the_circle():
    x_0, eps = torch.randn(2, 4, dtype=D)
    angle = torch.tensor(0.7, dtype=D)
    speed = torch.autograd.functional.jacobian(lambda a: a.cos() * x_0 + a.sin() * eps, angle)
    torch.testing.assert_close(process.v_from(x_0, eps, angle.cos() ** 2), speed)


# ---- the bound -------------------------------------------------------------------------------------------------------
def test_step_kl_is_the_kl_of_two_posteriors():
    levels = schedule.linear_schedule(20, 0.01, 0.2)
    x_0, x0_hat, x_t = torch.randn(3, 7, dtype=D)
    for t in (2, 11, 20):
        true, variance = process.posterior(x_0, x_t, levels.alpha_bar[t], levels.alpha_bar[t - 1])
        guess, _ = process.posterior(x0_hat, x_t, levels.alpha_bar[t], levels.alpha_bar[t - 1])
        expected = kl_divergence(Normal(true, variance.sqrt()), Normal(guess, variance.sqrt()))
        torch.testing.assert_close(process.step_kl((x_0 - x0_hat).square(), levels.snr[t], levels.snr[t - 1]), expected)


def test_prior_kl_is_that_of_torch():
    x_0 = torch.randn(5, 2, 3, dtype=D)
    q = Normal(0.3**0.5 * x_0, 0.7**0.5)
    expected = kl_divergence(q, Normal(torch.zeros((), dtype=D), 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(process.prior_kl(x_0, 0.3), expected)
    assert (process.prior_kl(x_0, 0.0) == 0).all()


class ExactNetwork(torch.nn.Module):
    """Answers x_0 as the best denoiser of a mixture does."""

    def __init__(self, mixture, levels):
        super().__init__()
        self.mixture, self.levels = mixture, levels

    def forward(self, x, t, y=None):
        steps = (t * self.levels.n_steps).round().long()
        answer = torch.empty_like(x)
        for k in steps.unique().tolist():
            answer[steps == k] = self.mixture.clean_given(x[steps == k], self.levels.alpha_bar[k].item()).mean
        return answer


def bound_with(levels, n_times=None, draws=400):
    centre, spread = 0.5, 2.0
    inner = two_bumps()
    network = ExactNetwork(inner, levels)  # the mixture is that of the standardised data
    model = process.Diffusion(network, levels, (1,), process.X_0, centre, spread)
    x = centre + spread * inner.sample((4,))
    log_p = inner.log_prob((x - centre) / spread) - math.log(spread)
    return model.elbo(x.repeat(draws, 1), n_times=n_times).view(draws, 4), log_p


def test_the_bound_is_below_log_p_and_closes_with_many_steps():
    """With the exact denoiser the gap is what finite steps cost. Steps of equal log-SNR: it falls as 1/T."""
    gaps = []
    for n_steps in (20, 80, 320):
        elbo, log_p = bound_with(schedule.log_snr_schedule(n_steps, 9.0, -9.0), draws=4_000)
        gaps.append((log_p - elbo.mean(0)).mean().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0, gaps
    assert gaps[2] < 0.1, gaps


def test_few_times_estimate_the_same_bound():
    torch.manual_seed(2)
    whole, _ = bound_with(cosine(12), draws=300)
    torch.manual_seed(2)
    part, _ = bound_with(cosine(12), n_times=3, draws=1_000)
    error = (whole.std(0).square() / 300 + part.std(0).square() / 1_000).sqrt()
    assert ((whole.mean(0) - part.mean(0)).abs() < 5 * error).all()
    assert part.std() > whole.std()


# ---- the loss reaches every step, and is the conditional mean's ------------------------------------------------------
def test_training_draws_every_step_and_the_noisy_image():
    """Step T is trained, step 0 is not, and what the network hears is x_t, not x_0 and not the noise."""
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, t, y=None):
            seen.append((x, t))
            return torch.zeros_like(x)

    levels = schedule.linear_schedule(5, 0.1, 0.6)
    model = process.Diffusion(Spy(), levels, (1,))
    loss = model.loss(torch.full((20_000, 1), 3.0))["loss"]
    x, t = seen[0]
    steps = (t * 5).round().long()
    assert steps.unique().tolist() == [1, 2, 3, 4, 5]
    for k in range(1, 6):
        here, a = x[steps == k], levels.alpha_bar[k].item()
        checks.monte_carlo(here, torch.tensor([3 * a**0.5]), what=f"mean of x_{k}")
        checks.monte_carlo((here - 3 * a**0.5).square(), torch.tensor([1 - a]), what=f"variance of x_{k}")
    assert loss == pytest.approx(1, abs=0.1)                        # the target is eps, the answer 0: E eps^2 = 1


def test_the_loss_is_summed_over_the_event():
    network = torch.nn.Module()
    network.forward = lambda x, t, y=None: torch.zeros_like(x)
    model = process.Diffusion(network, schedule.linear_schedule(10), (1, 4, 4))
    assert model.loss(torch.rand(4_000, 1, 4, 4))["loss"] == pytest.approx(16, rel=0.05)
    flow = flow_matching.FlowMatching(network, (1, 4, 4))
    x = torch.full((4_000, 1, 4, 4), 2.0)
    assert flow.loss(x)["loss"] == pytest.approx(16 * 5, rel=0.05)  # E (x - eps)^2 = 4 + 1


def test_hidden_labels_are_the_ones_that_mean_none():
    model = process.vector_diffusion(2, width=8, n_classes=3)
    y = process.hidden(torch.zeros(20_000, dtype=torch.long), 20_000, 0.1, model.network)
    assert set(y.unique().tolist()) == {0, 3}
    assert (y == 3).double().mean() == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 20_000))
    x, t = torch.randn(4, 2), torch.rand(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    torch.testing.assert_close(model.network(x, t), model.network(x, t, torch.full((4,), 3)))
    assert not torch.equal(model.network(x, t), model.network(x, t, torch.zeros(4, dtype=torch.long)))


# ---- samplers --------------------------------------------------------------------------------------------------------
def standard(x, t, levels):
    """The best denoiser of data that are N(0, 1) already: E[x_0|x_t] = sqrt(alpha_bar) x_t."""
    return levels.alpha_bar[t[0]].sqrt() * x


@pytest.mark.parametrize("n, kept", [(2, 0.25), (10, 0.7805), (50, 0.952), (1_000, 0.9975)])
def test_ddim_keeps_the_product_of_squared_cosines(n, kept):
    levels = cosine()
    x = torch.tensor([[1.0]], dtype=D)
    times = schedule.trailing_steps(1_000, n)
    end = samplers.final(samplers.ddim(lambda x, t: standard(x, t, levels), x, levels, times))
    assert end.item() ** 2 == pytest.approx(math.cos(math.pi / 2 / n) ** (2 * n), rel=1e-6)
    assert end.item() ** 2 == pytest.approx(kept, abs=6e-4)


@pytest.mark.parametrize("n, kept", [(2, 0.07), (10, 0.69), (50, 0.93), (1_000, 0.996)])
def test_ddim_on_the_linear_schedule_keeps_less_of_the_variance(n, kept):
    levels = schedule.linear_schedule()
    x = torch.tensor([[1.0]], dtype=D)
    times = schedule.trailing_steps(1_000, n)
    end = samplers.final(samplers.ddim(lambda x, t: standard(x, t, levels), x, levels, times))
    angle = levels.alpha_bar[times].sqrt().arccos()
    assert end.item() ** 2 == pytest.approx(angle.diff().cos().square().prod().item(), rel=1e-6)
    assert end.item() ** 2 == pytest.approx(kept, abs=6e-3)


def test_eta_one_is_the_posterior_of_ddpm():
    levels, mixture = cosine(100), two_bumps()
    x = torch.randn(50, 1, dtype=D)
    films = []
    for sampler in (samplers.ancestral, lambda *given: samplers.ddim(*given, eta=1.0)):
        torch.manual_seed(3)
        films.append(torch.stack(list(sampler(exact(mixture, levels), x, levels, schedule.trailing_steps(100, 20)))))
    torch.testing.assert_close(*films, rtol=1e-7, atol=1e-9)
    assert films[0].shape == (21, 50, 1) and torch.equal(films[0][0], x)


def test_one_ancestral_step_has_the_moments_of_the_posterior():
    levels, t, s = cosine(100), 60, 40
    guess, x = torch.tensor([[0.7]], dtype=D), torch.full((100_000, 1), -0.2, dtype=D)
    for wide in (False, True):
        drawn = samplers.final(samplers.ancestral(lambda x, t: guess, x, levels, (t, s), wide=wide))
        mean, variance = process.posterior(guess, x[:1], levels.alpha_bar[t], levels.alpha_bar[s])
        variance = 1 - levels.alpha_bar[t] / levels.alpha_bar[s] if wide else variance
        checks.monte_carlo(drawn, mean[0], what="mean of a step")
        checks.monte_carlo((drawn - mean).square(), variance.reshape(1), what="variance of a step")


def test_the_last_step_draws_no_noise_unless_asked():
    levels = cosine(100)
    x = torch.zeros(1_000, 1, dtype=D)

    def last(**how):
        return samplers.final(samplers.ancestral(lambda x, t: 0 * x, x, levels, (5, 0), **how)).std()

    assert last() == 0 and last(wide=True) == 0
    assert last(wide=True, noise_at_the_end=True) == pytest.approx(math.sqrt(1 - levels.alpha_bar[5]), rel=0.15)


def order(solve, reference, counts):
    """Slope of the error against the number of steps, on doubling counts; the worst of them."""
    errors = [(solve(n) - reference).abs().mean().item() for n in counts]
    steps = zip(errors, errors[1:], counts, counts[1:], strict=False)
    return min(math.log(a / b) / math.log(m / n) for a, b, n, m in steps)


def test_ddim_is_of_first_order_and_dpm_solver_of_second():
    """Between two noise levels inside the schedule, from the same x, against 3,200 steps.

    The steps are whole numbers, so the counts divide them.
    """
    levels, mixture = cosine(4_000), two_bumps()
    x = torch.linspace(-1.5, 1.5, 31, dtype=D)[:, None]
    denoise, times = exact(mixture, levels), list(range(3_600, 399, -1))

    def solve(sampler, n):
        return samplers.final(sampler(denoise, x, levels, times[:: 3_200 // n]))

    reference = solve(samplers.dpm_solver, 3_200)
    assert 0.85 < order(lambda n: solve(samplers.ddim, n), reference, (80, 160, 320)) < 1.2
    assert 1.8 < order(lambda n: solve(samplers.dpm_solver, n), reference, (80, 160, 320)) < 2.6


def test_euler_is_of_first_order_and_heun_of_second():
    mixture = two_bumps()

    def field(x, t):                                                # flow matching's clock
        a, b = t, 1 - t
        clean = mixture.clean_given(x / math.hypot(a, b), a**2 / (a**2 + b**2)).mean
        return flow_matching.path_velocity(x, clean, a, b, 1, -1)

    x = torch.linspace(-1.5, 1.5, 31, dtype=D)[:, None]

    def solve(solver, n):
        return samplers.final(solver(field, x, torch.linspace(0, 0.9, n + 1, dtype=D).tolist()))

    reference = solve(samplers.heun, 1_000)
    assert 0.85 < order(lambda n: solve(samplers.euler, n), reference, (50, 100, 200)) < 1.2
    assert 1.8 < order(lambda n: solve(samplers.heun, n), reference, (50, 100, 200)) < 2.4


def test_a_step_to_no_noise_is_the_guess():
    levels, mixture = cosine(100), two_bumps()
    x = torch.randn(20, 1, dtype=D)
    denoise = exact(mixture, levels)
    guess = denoise(x, torch.tensor([7]))
    for sampler in (samplers.ddim, samplers.ancestral, samplers.dpm_solver):
        torch.testing.assert_close(samplers.final(sampler(denoise, x, levels, (7, 0))), guess)
    film = list(samplers.dpm_solver(denoise, x, levels, (100, 50, 7, 0)))     # from pure noise, too
    assert all(frame.isfinite().all() for frame in film)
    torch.testing.assert_close(film[-1], denoise(film[-2], torch.tensor([7])))


def test_clipping_recomputes_the_noise():
    """After a clipped DDIM step x_s is made of the clipped guess and the noise it implies, so x_t is theirs too."""
    levels = cosine(100)
    x = torch.full((1, 1), 2.0, dtype=D)
    denoise = samplers.clipped(lambda x, t: 3 * x)
    found = samplers.final(samplers.ddim(denoise, x, levels, (50, 20)))
    a_t, a_s = levels.alpha_bar[50], levels.alpha_bar[20]
    eps = process.eps_from_x0(x, 1.0, a_t)
    torch.testing.assert_close(found, process.q_sample(torch.ones(1, 1, dtype=D), a_s, eps))


@pytest.mark.parametrize("times", [(5,), (5, 5), (0, 5), (101, 0), (5, -1)])
def test_times_that_do_not_fall_are_refused(times):
    levels = cosine(100)
    with pytest.raises(ValueError, match="expected|needs at least|steps fall"):
        list(samplers.ddim(lambda x, t: x, torch.zeros(1, 1), levels, times))


def test_inpainting_keeps_what_is_known():
    levels = cosine(50)
    mixture = GaussianMixture(torch.tensor([0.5, 0.5], dtype=D), torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=D),
                              torch.full((2, 2), 0.02, dtype=D))
    known, where = torch.tensor([[1.0, 0.0]], dtype=D), torch.tensor([[True, False]])
    x = torch.randn(500, 2, dtype=D)
    times = schedule.trailing_steps(50, 50)
    film = list(samplers.inpaint(exact(mixture, levels), x, levels, times, known, where))
    assert len(film) == 51 and torch.equal(film[0], x)
    assert (film[-1][:, 0] == 1).all()
    assert (film[-1][:, 1] > 0).double().mean() > 0.9               # the other coordinate follows


# ---- guidance --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("s, mean, spread, tilted_mean, tilted_spread", [
    (1.0, 1.0, 0.5, 1.0, 0.5), (2.0, 1.208, 0.167, 1.059, 0.364), (4.0, 1.201, 0.019, 1.091, 0.261)])
def test_guided_is_not_tilted(s, mean, spread, tilted_mean, tilted_spread):
    """p_c = N(1, .5²), p_u = N(0, 1.5²): the guided ODE is affine, so two starting points give its mean and spread."""
    levels = cosine(2_000)

    def gaussian(mu, sigma):
        return lambda x, t: GaussianMixture(torch.ones(1, dtype=D), torch.tensor([[mu]], dtype=D),
                                            torch.tensor([[sigma**2]], dtype=D)).clean_given(
                                                x, levels.alpha_bar[t[0]].item()).mean

    conditional, unconditional = gaussian(1.0, 0.5), gaussian(0.0, 1.5)
    times = schedule.trailing_steps(2_000, 2_000)

    def towards(x, t):
        return samplers.guided(unconditional(x, t), conditional(x, t), s)

    low, high = samplers.final(samplers.ddim(towards, torch.tensor([[0.0], [1.0]], dtype=D), levels, times)).flatten()
    assert low.item() == pytest.approx(mean, abs=3e-3) and (high - low).item() == pytest.approx(spread, abs=3e-3)
    precision = s / 0.25 - (s - 1) / 2.25                           # p_c^s / p_u^(s-1)
    assert (s / 0.25) / precision == pytest.approx(tilted_mean, abs=6e-4)
    assert precision**-0.5 == pytest.approx(tilted_spread, abs=6e-4)


def test_classifier_guidance_at_one_is_the_conditional_model():
    """Bayes' rule: with the exact p(y|x_t), s = 1 turns the unconditional denoiser into the conditional one."""
    levels, mixture = cosine(100), two_bumps()
    one = GaussianMixture(torch.ones(1, dtype=D), torch.tensor([[-1.4]], dtype=D), torch.tensor([[0.02]], dtype=D))

    def log_prob(x, t):
        return mixture.noised(levels.alpha_bar[t[0]].item()).posterior(x)[:, 0].log()

    guide = samplers.classifier_guided(exact(mixture, levels), log_prob, levels)
    x, t = torch.randn(9, 1, dtype=D), torch.full((9,), 40)
    torch.testing.assert_close(guide(x, t), exact(one, levels)(x, t), rtol=1e-6, atol=1e-9)


def test_guidance_may_be_mixed_in_every_reading():
    x_t, c, u = torch.randn(3, 8, dtype=D)
    for reading in (process.EPS, process.V):
        eps = [process.eps_from_x0(x_t, x_0, 0.4) for x_0 in (u, c)]
        answers = [reading.target(x_0, e, 0.4) for x_0, e in zip((u, c), eps, strict=True)]
        mixed = reading.x_0(x_t, samplers.guided(*answers, 2.5), 0.4)
        torch.testing.assert_close(mixed, samplers.guided(u, c, 2.5))


def test_classifier_free_asks_with_and_without_the_label():
    def network(x, t, y):
        return torch.zeros_like(x) if y is None else y.to(x).unsqueeze(1) * torch.ones_like(x)

    x, t, y = torch.zeros(2, 1), torch.zeros(2), torch.tensor([1, 2])
    for s, expected in ((0.0, [0, 0]), (1.0, [1, 2]), (3.0, [3, 6])):
        assert samplers.classifier_free(network, y, s)(x, t).flatten().tolist() == expected


# ---- mass is conserved -----------------------------------------------------------------------------------------------
def straight_field(mixture):
    """Velocity and score of the straight paths from N(0, I) to a mixture, exact."""
    def clean(x, t):
        a, b = t, 1 - t
        return mixture.clean_given(x / math.hypot(a, b), a**2 / (a**2 + b**2)).mean

    def field(x, t):
        return flow_matching.path_velocity(x, clean(x, t), t, 1 - t, 1, -1)

    def score(x, t):
        return -flow_matching.noise_from_velocity(x, field(x, t), t) / (1 - t)

    return field, score


def log_prob_at(mixture, t):
    """log p_t of x_t = t x + (1 - t) eps."""
    size = math.hypot(t, 1 - t)
    return lambda x: mixture.noised(t**2 / size**2).log_prob(x / size) - x.shape[1] * math.log(size)


def test_the_marginal_field_carries_the_marginal_density():
    """The continuity equation, dp/dt = -div(p v), at points of a grid, in float64 by autograd."""
    mixture = two_bumps()
    field, score = straight_field(mixture)
    x, t = torch.linspace(-2, 2, 41, dtype=D)[:, None], 0.6
    h = 1e-5
    rate = (log_prob_at(mixture, t + h)(x) - log_prob_at(mixture, t - h)(x)) / (2 * h)
    v, div = samplers.divergence(field, x, t)
    slope = torch.autograd.functional.jacobian(lambda x: log_prob_at(mixture, t)(x).sum(), x)
    torch.testing.assert_close(score(x, t), slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(rate, -div - (v * slope).sum(1), rtol=1e-5, atol=1e-6)


def test_ode_log_prob_is_exact_on_a_mixture():
    mixture = two_bumps()
    field, _ = straight_field(mixture)
    x = mixture.sample((30,))
    base = torch.distributions.Independent(Normal(torch.zeros(1, dtype=D), 1.0), 1)
    times = (1 - torch.linspace(1e-4, 1, 401, dtype=D) ** 2).tolist()  # small steps near the data: it bends there
    found = samplers.ode_log_prob(field, x, times, base)
    torch.testing.assert_close(found, mixture.log_prob(x), rtol=0, atol=5e-3)


def test_hutchinson_estimates_the_divergence_without_bias():
    weight = torch.randn(4, 4, dtype=D)

    def field(x, t):
        return (x @ weight.T).tanh()

    x = torch.randn(1, 4, dtype=D)
    _, exactly = samplers.divergence(field, x, 0.0)
    many = x.expand(4_000, 4)
    probe = torch.randint(0, 2, many.shape).to(D) * 2 - 1
    _, estimates = samplers.divergence(field, many, 0.0, probe)
    checks.monte_carlo(estimates[:, None], exactly, what="Hutchinson")


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.5])
def test_ode_and_sde_have_the_same_marginals(noise):
    """Whatever noise is added and taken back by the score, x at t = 0.9 has the law p_0.9: a χ² test at 1e-6."""
    mixture = two_bumps()
    field, score = straight_field(mixture)
    x = torch.randn(8_000, 1, dtype=D)
    times = torch.linspace(0, 0.9, 301, dtype=D).tolist()
    x = samplers.final(samplers.stochastic(field, score, x, times, lambda t: noise))
    edges = torch.linspace(-2.2, 1.6, 39, dtype=D)
    counts = torch.bincount(torch.bucketize(x.flatten(), edges), minlength=40)
    line = torch.linspace(-9, 9, 360_001, dtype=D)
    mass = log_prob_at(mixture, 0.9)(line[:, None]).exp() * 5e-5
    place = torch.bucketize(line, edges)
    probabilities = torch.zeros(40, dtype=D).scatter_add_(0, place, mass)
    checks.frequencies(counts, probabilities, what=f"marginal with noise {noise}")


def test_langevin_leaves_its_density_as_it_is():
    mixture = two_bumps().noised(0.5)
    x = mixture.sample((20_000,))
    after = samplers.final(samplers.langevin(mixture.score, x, 200, 0.01))
    assert after.var() == pytest.approx(mixture.variance.item(), rel=0.05)
    assert (after - x).abs().mean() > 0.3                           # it has moved


# ---- flow matching ---------------------------------------------------------------------------------------------------
def test_readings_of_a_straight_path():
    x, eps = torch.randn(2, 5, 2, dtype=D)
    x_t = flow_matching.straight_path(x, eps, 0.3)
    torch.testing.assert_close(flow_matching.data_from_velocity(x_t, x - eps, 0.3), x)
    torch.testing.assert_close(flow_matching.noise_from_velocity(x_t, x - eps, 0.3), eps)
    angle = 0.4
    v = process.v_from(x, eps, math.cos(angle) ** 2)
    x_t = process.q_sample(x, math.cos(angle) ** 2, eps)
    found = flow_matching.path_velocity(x_t, x, math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
    torch.testing.assert_close(found, v)


def test_a_trained_flow_samples_its_data():
    mixture = two_bumps()
    model = flow_matching.vector_flow(1, width=32, n_blocks=2)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(250):
        optimizer.zero_grad()
        model.loss(mixture.sample((256,)).float())["loss"].backward()
        optimizer.step()
    drawn = model.sample(4_000)
    assert drawn.mean() == pytest.approx(mixture.mean.item(), abs=0.12)
    assert drawn.var() == pytest.approx(mixture.variance.item(), rel=0.15)
    assert (drawn < -0.4).double().mean() == pytest.approx(0.3, abs=0.06)


def test_a_latent_model_decodes_what_its_prior_draws():
    decoder = torch.nn.Linear(2, 5)
    prior = flow_matching.vector_flow(2, width=8, n_blocks=1, n_classes=3)
    model = flow_matching.Latent(torch.nn.Linear(5, 2), decoder, prior)
    torch.manual_seed(0)
    codes = prior.sample(3, torch.tensor([0, 1, 2]), n_steps=2)
    torch.manual_seed(0)
    torch.testing.assert_close(model.sample(3, torch.tensor([0, 1, 2]), n_steps=2), decoder(codes).detach())
    assert all(not weight.requires_grad for weight in decoder.parameters())


def test_level_diffusion_is_normalised_where_its_last_step_is_all_there_is():
    """P(x_0|x_1) sums to one over all levels of two pixels, and the evidence alone is Bayes' rule with a flat prior."""
    model = process.level_diffusion((1, 1, 2), 3, width=8, n_blocks=1, n_steps=20)
    network = model.network
    with torch.no_grad():
        torch.manual_seed(0)
        network.network.leave[2].weight.normal_()                    # not the start, where the network says nothing
        x_1 = torch.tensor([[[[0.3, -0.8]]]])
        grid = torch.cartesian_prod(network.grid, network.grid).view(9, 1, 1, 2)
        total = network.last(grid, x_1.expand(9, -1, -1, -1), None, None).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-5)
        network.network.leave[2].weight.zero_()
        t = torch.tensor([0.5])
        alpha_bar = model.schedule.alpha_bar[10]
        law = torch.distributions.Normal(alpha_bar.sqrt() * network.grid, (1 - alpha_bar).sqrt())
        bayes = law.log_prob(x_1[..., None]).softmax(-1)
        assert torch.allclose(network.logits(x_1, t).softmax(-1), bayes.to(x_1), atol=1e-5)


def test_the_simplified_loss_of_level_diffusion_is_its_bound():
    """With equal steps of log SNR, T − 1 of them: loss · (high − low) / 2 is the sum of the KLs of (7.9), by eye."""
    torch.manual_seed(0)
    model = process.level_diffusion((1, 4, 4), 5, width=8, n_blocks=1, n_steps=200)
    x = torch.randint(5, (400, 1, 4, 4)) / 4
    with torch.no_grad():
        losses = torch.stack([model.loss(x)["loss"] for _ in range(40)])
        whole = -torch.stack([model.elbo(x, n_times=40).mean() for _ in range(6)])
        one = torch.ones(400, dtype=torch.long)
        x_0 = model.inside(x)
        x_1 = process.q_sample(x_0, model.schedule.at(one, x), torch.randn_like(x))
        ends = (process.prior_kl(x_0, model.schedule.alpha_bar[-1].item()) - model.last(x_0, x_1, None, None)).mean()
    assert (6 * losses.mean() + ends).item() == pytest.approx(whole.mean().item(), rel=0.03)

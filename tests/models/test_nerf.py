"""Neural radiance fields against what is known exactly: fog by formula, scenes by geometry."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_utils import checks, metrics
from course_utils.data import scenes
from course_utils.models import nerf


def fog(n=9, rays=40):
    generator = torch.Generator().manual_seed(0)
    sigma = 8 * torch.rand(rays, n, generator=generator).double() ** 3
    return sigma, 0.05 + torch.rand(rays, n, generator=generator).double()


# ---- where a ray stops -----------------------------------------------------------------------------------------------
def test_survival_is_the_exponential_of_the_integral_and_the_weights_are_what_it_loses():
    sigma, delta = fog()
    alive = nerf.survival(sigma, delta)
    assert alive.shape == (40, 10) and (alive[:, 0] == 1).all()
    for i in range(10):
        checks.close(alive[:, i], torch.exp(-(sigma * delta)[:, :i].sum(1)), what=f"T_{i + 1}")
    weights = nerf.stop_weights(sigma, delta)
    checks.close(weights, alive[:, :-1] - alive[:, 1:], what="w = T_i - T_{i+1}")
    assert (weights >= 0).all() and (weights.sum(1) <= 1).all()


def test_weights_of_thin_fog_keep_their_digits():
    """1 - exp(-x) of x = 1e-10 is 0 in single precision, expm1 is not."""
    thin = torch.full((1, 3), 1e-10)
    checks.close(nerf.stop_weights(thin, torch.ones(1, 3)), thin, what="thin fog", rtol=1e-5, atol=0)


def test_constant_fog_is_exact_in_any_number_of_intervals():
    for n in (1, 2, 7, 64):
        t, delta = nerf.places(1.0, 3.0, torch.rand(5, n).double())
        weights = nerf.stop_weights(torch.full_like(t, 0.8), torch.full_like(t, delta))
        checks.close(weights.sum(1), torch.full((5,), 1 - math.exp(-1.6)).double(), what=f"{n} intervals")


def test_midpoints_are_of_second_order_on_fog_that_varies_and_left_ends_of_first():
    def passes(n, where):
        t, delta = nerf.places(0.0, 1.0, torch.full((1, n), where).double())
        sigma = 3 * torch.exp(t)
        return nerf.survival(sigma, torch.full_like(sigma, delta))[0, -1].item()

    true = math.exp(-3 * (math.e - 1))
    for where, order in ((0.5, 2), (0.0, 1)):
        errors = [abs(passes(n, where) - true) for n in (64, 128)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_stops_drawn_step_by_step_have_the_weights_as_frequencies():
    sigma, delta = fog(6, 1)
    fine, n = 200, 20_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hazard = (sigma[0] * delta[0] / fine).repeat_interleave(fine)
        stops = torch.rand(len(hazard), n) < hazard[:, None]
    first = torch.where(stops.any(0), stops.int().argmax(0) // fine, 6)
    weights = nerf.stop_weights(sigma, delta)[0]
    expected = torch.cat([weights, 1 - weights.sum(0, keepdim=True)])
    checks.frequencies(torch.bincount(first, minlength=7), expected, what="where walks stop")


def test_expected_colour_is_a_mean_and_the_rest_sees_the_background():
    sigma, delta = fog()
    weights, colours = nerf.stop_weights(sigma, delta), torch.rand(40, 9, 3).double()
    background = torch.tensor([0.2, 0.5, 1.0]).double()
    seen = nerf.expected_colour(weights, colours, background)
    rest = torch.exp(-(sigma * delta).sum(1, keepdim=True))
    checks.close(seen, torch.einsum("rn,rnc->rc", weights, colours) + rest * background, what="a mean")
    empty = nerf.expected_colour(torch.zeros(2, 9).double(), colours[:2], background)
    checks.close(empty, background.expand(2, 3), what="empty space shows the background")


def test_a_gradient_reaches_every_interval_and_is_own_colour_minus_what_lies_behind():
    sigma, delta = (part[0] for part in fog())
    sigma.requires_grad_()
    colours = torch.rand(9, 3).double()
    nerf.expected_colour(nerf.stop_weights(sigma, delta), colours, 1.0)[0].backward()
    alive, weights = nerf.survival(sigma, delta).detach(), nerf.stop_weights(sigma, delta).detach()
    behind = [(weights[i + 1 :] * colours[i + 1 :, 0]).sum() + alive[-1] for i in range(9)]
    checks.close(sigma.grad, delta * (alive[1:] * colours[:, 0] - torch.stack(behind)), what="∂C/∂σ")
    assert (sigma.grad != 0).all()


# ---- where to look ---------------------------------------------------------------------------------------------------
def test_places_lie_one_in_each_interval_and_cover_the_way():
    t, delta = nerf.places(2.0, 5.0, torch.rand(100, 12))
    low = 2 + torch.arange(12) * delta
    assert delta == pytest.approx(0.25) and (t >= low).all() and (t <= low + delta).all()
    assert nerf.places(2.0, 5.0, torch.full((1, 12), 0.5))[0][0, 0] == pytest.approx(2.125)


def test_the_encoding_holds_doubling_frequencies_and_wraps_around():
    x = torch.rand(30, 3).double() * 2 - 1
    code = nerf.positional_encoding(x, 4)
    assert code.shape == (30, 24)
    checks.close(code[:, 3], torch.sin(8 * math.pi * x[:, 0]), what="the fourth sine of the first coordinate")
    checks.close(code[:, 12 + 4], torch.cos(math.pi * x[:, 1]), what="the first cosine of the second")
    checks.close(nerf.positional_encoding(x + 2, 4), code, what="with π the world repeats after 2")
    assert (nerf.positional_encoding(x + 2, 4, base=1.0) - nerf.positional_encoding(x, 4, base=1.0)).abs().max() > 0.5


# ---- the model -------------------------------------------------------------------------------------------------------
def test_the_density_does_not_know_the_direction_and_the_colour_does():
    field = nerf.Field(width=16)
    x, one, other = torch.rand(5, 3), torch.eye(3)[[0] * 5], torch.eye(3)[[2] * 5]
    assert torch.equal(field(x, one)[0], field(x, other)[0])
    assert (field(x, one)[1] != field(x, other)[1]).any()


def test_a_relu_below_zero_everywhere_is_blank_and_gets_no_gradient_and_softplus_does():
    rays = scenes.camera(0.0, 30.0, 4)
    for density, alive in ((F.relu, False), (F.softplus, True)):
        model = nerf.NeRF(nerf.Field(width=16, density=density), 2.0, 4.0, 8)
        with torch.no_grad():
            model.field.trunk[-1].bias[0] = -5.0
        model.loss((rays, torch.zeros(16, 3)))["loss"].backward()
        slope = model.field.trunk[-1].weight.grad[0].abs().sum()
        assert (slope > 0) == alive and (model(rays).opacity.max() > 0) == alive


def test_a_scene_is_learned_from_pictures():
    scene = scenes.still_life()
    train, test = scenes.views(scene, 8, 12), scenes.views(scene, 2, 12, start=100)
    rays, colours = train.rays.flatten(0, 1), train.colours.flatten(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nerf.NeRF(nerf.Field(width=32), 1.95, 4.15, 20)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(120):
            rows = torch.randint(len(rays), (128,))
            optimizer.zero_grad()
            model.loss((rays[rows], colours[rows]))["loss"].backward()
            optimizer.step()
        with torch.no_grad():
            seen = torch.stack([model(one).colours for one in test.rays])
    white, mean = torch.ones_like(seen), train.colours.mean(0).expand_as(seen)
    best = max(metrics.psnr(white, test.colours), metrics.psnr(mean, test.colours))
    assert metrics.psnr(seen, test.colours) > best + 2


# ---- the scene -------------------------------------------------------------------------------------------------------
def march(scene, rays, n=4_000, far=5.0):
    """Distance of the first of many steps that lies inside something: the slow way to find a hit."""
    t = torch.linspace(0, far, n).double()
    x = rays[:, None, :3] + t[:, None] * rays[:, None, 3:]
    inside = torch.zeros(x.shape[:2], dtype=torch.bool)
    for ball in scene.spheres:
        inside |= (x - ball[:3]).norm(dim=2) < ball[3]
    for box in scene.boxes:
        inside |= ((x > box[:3]) & (x < box[3:6])).all(2)
    return torch.where(inside.any(1), t[inside.int().argmax(1)], math.inf)


def test_hits_are_where_a_slow_walk_enters_something():
    scene = scenes.still_life(torch.float64)
    rays = scenes.camera(40.0, 35.0, 9, dtype=torch.float64)
    depth, slow = scene.hit(rays).depth, march(scene, rays)
    both = depth.isfinite() & slow.isfinite()
    assert both.sum() > 20 and (depth.isfinite() != slow.isfinite()).sum() <= 1    # a grazing ray may slip through
    assert (depth - slow)[both].abs().max() < 2 * 5 / 4_000


def test_normals_have_length_one_and_face_the_camera():
    scene = scenes.still_life(torch.float64)
    rays = scenes.camera(200.0, 25.0, 20, dtype=torch.float64)
    seen = scene.hit(rays)
    found = seen.depth.isfinite()
    checks.close(seen.normal[found].norm(dim=1), torch.ones(int(found.sum())).double(), what="length")
    assert ((seen.normal * rays[:, 3:]).sum(1)[found] < 0).all()


def test_the_middle_of_a_camera_looks_at_the_middle_and_up_is_up():
    rays = scenes.camera(70.0, 20.0, 5, distance=2.0, dtype=torch.float64)
    checks.close(rays[12, :3] + 2 * rays[12, 3:], torch.zeros(3).double(), what="the middle ray")
    assert rays[2, 5] > rays[12, 5] > rays[22, 5], "rows go from the top down"
    checks.close(rays[:, 3:].norm(dim=1), torch.ones(25).double(), what="length 1")


def test_a_scene_twice_as_large_and_far_gives_one_camera_the_same_picture_and_no_other():
    scene = scenes.still_life(torch.float64)
    rays, others = (scenes.camera(a, 30.0, 12, dtype=torch.float64) for a in (20.0, 80.0))
    giant = scene.scaled(2.0, rays[0, :3])
    checks.close(giant.render(rays)[0], scene.render(rays)[0], what="the same picture", atol=1e-3)
    assert (giant.render(others)[0] - scene.render(others)[0]).abs().max() > 0.2


def test_views_are_means_over_pixels_and_parts_of_the_list_agree():
    scene = scenes.still_life()
    some = scenes.views(scene, 3, 6, start=4)
    checks.close(scenes.views(scene, 2, 6, start=5).colours, some.colours[1:], what="the same cameras")
    whole = scenes.views(scene, 1, 12, start=4, fine=1).images()
    checks.close(scenes.views(scene, 1, 6, start=4, fine=2).images(), F.avg_pool2d(whole, 2), what="a mean over 2 × 2")
    assert (some.angles[:, 1] >= 15).all() and (some.angles[:, 1] <= 60).all()


@pytest.mark.parametrize("call, said", [
    (lambda: scenes.camera(0.0, 90.0, 4), "elevation to be a finite number above -90 and below 90"),
    (lambda: scenes.camera(0.0, 0.0, 0), "size to be a whole number from 1"),
    (lambda: scenes.views(scenes.still_life(), 0, 4), "n to be a whole number from 1"),
    (lambda: scenes.still_life().render(torch.zeros(4, 5)), r"rays to be floats of shape \(N, 6\)"),
    (lambda: scenes.as_images(torch.zeros(1, 5, 3)), r"square pictures, \(V, size², 3\)"),
    (lambda: nerf.places(2.0, 1.0, torch.rand(1, 3)), "far to be a finite number above 2"),
    (lambda: nerf.NeRF(nerf.Field(8), 1.0, 2.0)(torch.zeros(3, 5)), r"rays to be floats of shape \(B, 6\)"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()

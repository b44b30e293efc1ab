"""Wrong twins of chapter 08: neural radiance fields."""

NERF = "course_utils.models.nerf"

TWINS = {
    "8.1": [
        ("the sign of the exponent", "before", "", "T = 2 - torch.exp(-thick)"),
        ("half of the density", "before", "", "T = torch.exp(-thick / 2)"),
        ("one minus the integral, the first term only", "before", "", "T = (1 - thick).clamp(min=0)"),
    ],
    "8.2": [
        ("the density of the fog for that of the stop", "before", "",
         "p = fog(grid) / torch.trapezoid(fog(grid), grid)"),
        ("survival taken twice", "before", "", "p = T**2 * fog(grid)"),
    ],
    "8.3": [
        ("the background is left out", "cell", "+ T[-1] * 1.0", "+ T[-1] * 0.0"),
        ("colours weighted by the fog alone", "cell", "torch.trapezoid(p * hue(grid), grid)",
         "torch.trapezoid(fog(grid) * hue(grid), grid)"),
    ],
    "8.4": [
        ("T counts the interval itself", f"{NERF}:stop_weights", "[..., :-1]", "[..., 1:]"),
        ("σδ for the probability of stopping", f"{NERF}:stop_weights", "-torch.expm1(-sigma * delta)",
         "(sigma * delta)"),
        ("the lengths are left out of the integral", f"{NERF}:survival", "(sigma * delta).cumsum", "sigma.cumsum"),
        ("the background in full", f"{NERF}:expected_colour", "(1 - weights.sum(-1, keepdim=True)) * background",
         "background"),
    ],
    "8.5": [
        ("frequencies grow one by one", f"{NERF}:positional_encoding", "2.0 ** torch.arange(", "1.0 + torch.arange("),
        ("twice the lowest frequency", f"{NERF}:positional_encoding", "scale = base *", "scale = 2 * base *"),
        ("only sines", f"{NERF}:positional_encoding", "angles.cos()", "angles.sin()"),
    ],
    "8.6": [
        ("T before the interval", "cell", "passed[i + 1] * tint[i]", "passed[i] * tint[i]"),
        ("what lies behind includes itself", "cell", "shown[i + 1 :]", "shown[i:]"),
        ("no light from the background", "cell", " + passed[-1] * 0.9", ""),
        ("the trained weights forget how far a ray has come", f"{NERF}:stop_weights",
         "survival(sigma, delta)[..., :-1]", "survival(sigma, delta)[..., :-1].detach()"),
    ],
}

"""Wrong twins of chapter 09: all families on one table."""

METRICS, THEORY = "course_utils.metrics", "course_utils.models.gan.theory"

TWINS = {
    "9.1": [
        ("the means are left out", f"{METRICS}:frechet_distance", "(shift + cov_a", "(0 * shift + cov_a"),
        ("the covariances are left out", "cell", "(n_dims + 5) / (2", "4 / (2"),
        ("the variance of one set in place of two", "cell", "(n_dims + 5) / (2", "(n_dims + 5) / (4"),
        ("one cross term in place of two", f"{METRICS}:frechet_distance", "2 * between", "1.99 * between"),
    ],
    "9.2": [
        ("sample and test image swapped", f"{METRICS}:data_copying", "for part in (a, c)", "for part in (c, a)"),
        ("ties count nothing", f"{METRICS}:auroc", "0.5 * (not_above - below)",
         "0.0 * (not_above - below)"),
        ("distances to the test set", f"{METRICS}:data_copying", "nearest(part, b)", "nearest(part, c)"),
    ],
    "9.3": [
        ("pairs as they come, not by rank", f"{THEORY}:wasserstein_1d", "x.sort().values - y.sort().values", "x - y"),
        ("squared distances", f"{THEORY}:wasserstein_1d", ".abs().mean()", ".square().mean()"),
    ],
    "9.4": [
        ("values in place of ranks", f"{METRICS}:rank_correlation", "(ranks.double() - ranks.double().mean() for ranks "
         "in (x, y))", "(c.double() - c.double().mean() for c in (a, b))"),
        ("the ranks are not centred", f"{METRICS}:rank_correlation", "ranks.double() - ranks.double().mean()",
         "ranks.double()"),
        ("3 in place of 6", "cell", "1 - 6 *", "1 - 3 *"),
    ],
}

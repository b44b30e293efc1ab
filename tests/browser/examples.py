"""One small instance of every demo: what the widget tests and the browser tests walk through."""

from course_utils import widgets
from course_utils.data import densities


def kl_explorer():
    return widgets.kl_explorer(densities.two_bumps())


EXAMPLES = {"kl_explorer": kl_explorer}

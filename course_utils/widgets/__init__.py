"""Things to touch: each function takes what a chapter has computed and returns a :class:`.demo.Demo`.

To add one: write ``js/<name>.js`` (a ``render({ model, el })`` that draws with the helpers of ``js/common.js``) and a
Python function that returns ``Demo("<name>", sliders=…, data=…, picture=…, alt=…)``; name it below; give the tests an
example in ``tests/browser/examples.py``. Nothing here trains, samples or imports a model.
"""

from course_utils.widgets.beta_shelf import beta_shelf
from course_utils.widgets.completion import completion
from course_utils.widgets.density_game import density_game
from course_utils.widgets.film import film
from course_utils.widgets.flow_images import flow_images
from course_utils.widgets.interpolation import interpolation
from course_utils.widgets.kl_explorer import kl_explorer
from course_utils.widgets.latent_explorer import latent_explorer
from course_utils.widgets.layer_morph import layer_morph
from course_utils.widgets.noise_slider import noise_slider
from course_utils.widgets.particles import particles
from course_utils.widgets.pixel_order import pixel_order
from course_utils.widgets.posterior_lab import posterior_lab
from course_utils.widgets.ranking import ranking
from course_utils.widgets.score_field import score_field
from course_utils.widgets.sliding_densities import sliding_densities
from course_utils.widgets.spline_flow import spline_flow
from course_utils.widgets.training_player import training_player

__all__ = ["beta_shelf", "completion", "density_game", "film", "flow_images", "interpolation", "kl_explorer",
           "latent_explorer", "layer_morph", "noise_slider", "particles", "pixel_order", "posterior_lab",
           "ranking", "score_field", "sliding_densities", "spline_flow", "training_player"]

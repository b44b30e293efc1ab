"""How each model of the course is trained: name -> model, objective, rate, batch, steps, schedule.

Chapters, ``course bench`` and the comparison of all families read the same recipes, a module for each group of models
that share a table: ``from course_utils.recipes import latent; latent.RECIPES["vqvae"]``.
"""

from course_utils.recipes.recipe import Recipe, train

__all__ = ["Recipe", "train"]

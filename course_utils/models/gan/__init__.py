"""Generative adversarial networks: the losses and penalties, what is known in closed form, and the models."""

"""One file per family of models, each read from top to bottom: formulas, model, samplers, factory."""

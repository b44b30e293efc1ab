"""Data of the course: procedural handwriting, densities with exact answers, and real images."""

"""What a browser shows of an executed chapter: pages, the index of a run, the gallery; formulas as MathML."""

"""``course build``: from chapter sources to notebooks, under the rules of a chapter."""

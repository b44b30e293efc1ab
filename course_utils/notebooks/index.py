"""The page that opens a run (thin)."""
def page(summary, out):
    return "<!doctype html><title>x</title>"

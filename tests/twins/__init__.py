r'''Wrong twins: for every equation that a chapter verifies, at least two wrong versions that its cell must notice.

A law that a wrong formula passes has verified nothing. So ``tests/twins/chNN.py`` lists mistakes, as data:

    TWINS = {
        "4.7": [
            ("the ½ is dropped", "course_utils.models.vae:gaussian_kl", "0.5 * mu.square()", "mu.square()"),
            ("σ taken for σ²", "course_utils.models.vae:gaussian_kl", "log_var.exp()", "(log_var / 2).exp()"),
        ],
    }

One entry is ``(what, where, old, new)``: four strings. ``what`` is the mistake in words; readers see it on the page of
laws. In the text at ``where`` the text ``old``, which must occur there exactly once, is replaced by ``new``:

* ``"module:name"`` or ``"module:Class.method"``: a function of the package. The function itself is changed, so every
  module and chapter that imported it has the wrong one, a copy quoted into the chapter as well. ``old`` stands in the
  body, not in the signature. A name re-exported by a folder is found through the folder: say
  ``"course_utils.distributions:kl_divergence"``, wherever it is written.
* ``"chapter:name"``: a function that an earlier cell of the chapter defines.
* ``"cell"``: the verifying cell itself, for formulas that are written out there.
* ``"before"``: ``old`` is empty and ``new`` is a statement that runs in the chapter's names just before the cell. It
  reaches what the others cannot: an object made earlier, an attribute of a class, a name.

Which mistakes? Those that people make: a dropped ½, a sign, a mean for a sum, a direction, σ for σ², a missing
constant, a detached gradient, an index off by one. Prefer a place in the package, and there the code that is
*trained*, over a place in the cell. A twin must be wrong, not broken: code that stops with an error is no mistake that
a law found. Equivalent formulas are no twins either.

``tests/test_twins.py`` runs each chapter once at the smoke budget. Before every verifying cell it forks the process for
each twin of its equations: the copy has the same names, weights and random state, makes the change and runs that one
cell. It must end with a law that does not hold. Where several cells verify an equation, one of them must notice.

    pytest tests/test_twins.py -k 04                          # the twins of one chapter
    python tests/twins/run.py 04 4.7 4.8                      # what became of these, one line each

``course build --check`` refuses a verified equation with fewer than two twins.
'''

"""What the command line may say about chapters."""

import click


def numbers(context, option, values):
    """``--chapters 01,04``, also repeated, as ``("01", "04")``."""
    words = [word for value in values for word in value.replace(",", " ").split()]
    wrong = [word for word in words if not (word.isascii() and word.isdecimal()) or not 0 < int(word) < 100]
    if wrong:
        raise click.BadParameter(f"expected numbers of chapters such as 01,04, got {', '.join(wrong)}")
    return tuple(dict.fromkeys(f"{int(word):02d}" for word in words))

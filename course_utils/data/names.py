"""The names of the image data sets, for those who only ask whether a name is one: reading them needs no torch."""

NAMES = ("handwriting", "digits", "mnist", "fashion_mnist", "kmnist", "cifar10")
WITHOUT_FILES = ("handwriting", "digits")  # made on the spot, or part of a library; the others are looked for on disk

"""Why the files of a bundle can't be published."""


class BundleRefused(Exception):
    """This tree can't be published; the text names the files and the remedy. It stays so until the tree is changed."""


class TreeChanged(Exception):
    """Files were changed while they were read. The next attempt may succeed."""

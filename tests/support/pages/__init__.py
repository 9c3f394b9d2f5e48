"""What the tests of documentation share: the commands of a page, and how each one is run."""

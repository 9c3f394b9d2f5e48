"""Files of a version on this disk: written, compared, verified. No link is followed."""

"""What published bundles cost."""

"""What the task `brew` imports when it runs."""

RECIPE = "one spoon of salt"

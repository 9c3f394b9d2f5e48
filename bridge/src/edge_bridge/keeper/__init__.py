"""The keeper: the only party that speaks to the Execution API for edge tasks."""

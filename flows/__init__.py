"""The flows: the order in which the steps happen."""

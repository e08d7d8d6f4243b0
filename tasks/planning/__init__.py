"""What is known before the first paid call: the plan, and what it will cost."""

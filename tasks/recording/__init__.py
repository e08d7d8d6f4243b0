"""Record: the tables' schemas, their rows, and writing both down."""

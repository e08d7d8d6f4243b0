"""How fast, at what size, and through how many kills: programs to run by hand, not collected by pytest."""

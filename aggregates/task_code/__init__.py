"""Find tasks, tell which version of their code runs, and scaffold new ones."""

"""Find tasks, determine the version of their code, and scaffold new ones."""

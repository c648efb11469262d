"""The zoo: agents that plug into every environment. Each file is one agent, read top to bottom."""

"""The task, the loop around it, initial weights and progress."""

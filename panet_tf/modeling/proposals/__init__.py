"""The RPN: its head, and proposals from its outputs or from files."""

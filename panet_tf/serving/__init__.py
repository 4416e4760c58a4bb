"""What is exported, how, and whether it answers as the model does."""

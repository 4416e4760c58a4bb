"""The paper's network; its files read as the table of contents."""

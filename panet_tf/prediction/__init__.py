"""The programs `panet predict` and `panet propose`, and their files."""

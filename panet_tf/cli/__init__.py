"""`panet VERB`: a file a verb; a front end turns mistakes into one line."""

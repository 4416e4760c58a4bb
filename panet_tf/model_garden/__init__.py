"""What is borrowed under a private name of Model Garden, Orbit and Keras.

No other room touches one. Each has its reason here, and a test in
tests/model_garden_test.py that fails when an upgrade changes what it relies on.
Methods that their owners mean to be overridden (`Parser._parse_train_data`)
are no secret, and stay where they are used.
"""

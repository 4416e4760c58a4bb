import setuptools  # noqa: D100 - two lines; pyproject.toml says everything

setuptools.setup()

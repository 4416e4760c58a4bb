"""Views, models or tiles of an image, merged into one answer."""

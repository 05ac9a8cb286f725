"""The package that the image adds."""

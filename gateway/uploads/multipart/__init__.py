"""Forms in multipart/form-data, with one meaning or none."""

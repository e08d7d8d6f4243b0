"""File containers read byte by byte: size, orientation and colours of an image before any pixel is decoded."""

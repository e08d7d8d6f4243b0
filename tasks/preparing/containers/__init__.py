"""File containers read byte by byte: size, orientation and colours of an image before any pixel is decoded.

These parsers also run in the parent, over bytes that anybody may have written. So each takes time in proportion to the
bytes it is given, stops after a number of parts, and is entered through `container.foreign_bytes`, which lets nothing
out but an ImageError. `make fuzz` holds them to it.
"""

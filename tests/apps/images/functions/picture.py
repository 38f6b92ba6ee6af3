"""Portable pixmaps (PPM, P6): enough of an image format to be made smaller without a library."""

import re


class Picture:
    def __init__(self, width, height, pixels):
        self.width, self.height, self.pixels = width, height, pixels  # three bytes a pixel

    def scaled_to(self, width):
        """A picture of this width and the same shape, each pixel the nearest one of this picture."""
        height = max(1, self.height * width // self.width)
        pixels = bytearray()
        for y in range(height):
            row = y * self.height // height * self.width
            for x in range(width):
                at = (row + x * self.width // width) * 3
                pixels += self.pixels[at : at + 3]
        return Picture(width, height, bytes(pixels))

    def data(self):
        return b"P6 %d %d 255\n" % (self.width, self.height) + self.pixels


def parse(data):
    """Raises ValueError if it is no such picture."""
    head = re.match(rb"P6 (\d{1,4}) (\d{1,4}) 255\n", data)
    if head is None:
        raise ValueError("not a portable pixmap")
    width, height = int(head.group(1)), int(head.group(2))
    pixels = data[head.end() :]
    if width == 0 or height == 0 or len(pixels) != width * height * 3:
        raise ValueError("the picture is cut off")
    return Picture(width, height, pixels)

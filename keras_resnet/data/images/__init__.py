"""From the bytes of an image file to pixels: headers, decoding, resizing, channels, bad files."""

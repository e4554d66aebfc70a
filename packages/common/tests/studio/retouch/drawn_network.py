"""A stand-in for a network, quick and easy to foresee: it brightens discs in a face, wherever the face is."""

import numpy as np
import pyvips
from retouch_common.faces.face import Face
from retouch_common.studio.retouch.networks import Overlay

WIDTH, HEIGHT = 360, 300
FACE = Face((120.0, 60.0, 100.0, 120.0), 1.0, np.full((5, 2), np.nan, np.float32))
MOLE, SPOT, PATCH = (150, 100), (195, 100), (170, 150)  # x, y: of medium, small and large size
OUTSIDE = (60, 240)  # of the face
DISCS = ((*OUTSIDE, 4, 60), (*MOLE, 4, 60), (*SPOT, 1, 60), (*PATCH, 12, 40))  # with radius and levels


class DrawnChange:
    def __init__(self, face, scale, levels):
        self.x, self.y, self.width, self.height = (round(value) for value in face.box)
        self._scale, self._levels = scale, levels

    def read(self, x, y, width, height):
        rows, columns = np.mgrid[y : y + height, x : x + width]
        difference = np.zeros((height, width, 3), np.float32)
        for cx, cy, radius, levels in DISCS:
            inside = np.hypot(columns - self._scale * cx, rows - self._scale * cy) <= self._scale * radius
            difference[inside] = levels * self._levels
        return difference, np.ones((height, width), np.float32)


class FacesNetwork:
    name, title, overlays = "drawn", "Drawn", {"heat": "Heat", "layer": "Layer"}
    weights_sha256 = "a" * 64
    runs = 0

    def __init__(self, device):
        self.device = device

    def changes(self, photo, faces):
        type(self).runs += 1
        levels = 257 if photo.dtype == np.uint16 else 1
        return [DrawnChange(face, photo.width / WIDTH, levels) for face in faces]

    def overlay(self, name, photo, faces):
        shape = (20, 20) if name == "heat" else (20, 20, 3)
        return [Overlay(tuple(map(round, face.box)), np.full(shape, 0.5, np.float32)) for face in faces]


class DrawnNetwork(FacesNetwork):
    def photo_change(self, photo):
        whole = Face((0, 0, photo.width, photo.height), 1.0, FACE.landmarks)
        return DrawnChange(whole, round(photo.width / WIDTH), 257 if photo.dtype == np.uint16 else 1)


class OtherNetwork(FacesNetwork):
    name, title, overlays = "other", "Other", {}

    def changes(self, photo, faces):
        changes = super().changes(photo, faces)
        for change in changes:
            change._levels *= 0.5
        return changes


def pixels(scale=1):
    y, x = np.mgrid[: HEIGHT * scale, : WIDTH * scale]
    values = 90 + 40 * np.sin(x[..., None] / (23 * scale) + y[..., None] / (31 * scale) + np.arange(3))
    return np.rint(values).astype(np.uint8)


def encoded(levels, suffix=".png"):
    space = "rgb16" if levels.dtype == np.uint16 else "srgb"
    return pyvips.Image.new_from_array(levels).copy(interpretation=space).write_to_buffer(suffix)


def decoded(data):
    image = pyvips.Image.new_from_buffer(data, "")
    return image.numpy().reshape(image.height, image.width, image.bands)[..., :3].astype(int)
